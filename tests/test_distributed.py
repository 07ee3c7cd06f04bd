"""Two processes on a CPU, started by torchrun: training runs, and metrics equal those of one process."""

import json
import os
import socket
import subprocess
import sys

import pytest
from conftest import ROOT, run_tool

CONFIG = 'configs/ctdet_gaze/nano_synth_160.py'
# Odd for two processes: the sampler gives one of them a sample that the other one has as well.
SAMPLES = 77
OPTIONS = ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=8', 'train_dataloader.num_workers=0',
           'val_dataloader.num_workers=0', 'test_dataloader.num_workers=0', 'test_dataloader.batch_size=7',
           'test_dataloader.dataset.splits=train', f'test_dataloader.dataset.max_samples={SAMPLES}', 'allow_leak=True',
           'model.backbone.channels=(8,8,16,16,16)', 'model.neck.channels=(16,8,8)',
           'default_hooks.logger.interval=1', 'log_processor.window_size=1']  # fmt: skip


def _script(name, *args):
    """Run tools/NAME.sh as a user would."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        env = {**os.environ, 'PYTHON': sys.executable, 'PORT': str(free.getsockname()[1])}
    command = [f'tools/{name}.sh', *map(str, args)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.fixture(scope='module')
def trained(synth_close, tmp_path_factory):
    """One epoch by two processes, 8 pictures each a step, with the learning rate in proportion."""
    work_dir = tmp_path_factory.mktemp('two') / 'run'
    options = ['--cfg-options', f'data_root={synth_close}', *OPTIONS]
    _script('dist_train', CONFIG, 2, '--work-dir', work_dir, '--auto-scale-lr', *options)
    return work_dir


def test_two_processes_give_the_figures_of_one(synth_close, trained, tmp_path):
    checkpoint = trained / 'model_1.pth'
    options = ['--cfg-options', f'data_root={synth_close}', *OPTIONS]
    figures = {}
    for name in ('one', 'two'):
        args = ['--out', tmp_path / f'{name}.json', '--work-dir', tmp_path / name, *options]
        if name == 'one':
            run_tool('test', CONFIG, checkpoint, *args)
        else:
            _script('dist_test', CONFIG, checkpoint, 2, *args)
        figures[name] = json.loads((tmp_path / f'{name}.json').read_text())['figures']
    # 7 a batch: the last batches of the two processes are uneven as well.
    assert figures['one']['pog/n'] == figures['two']['pog/n'] == SAMPLES
    assert figures['one'].keys() == figures['two'].keys()
    for key, value in figures['one'].items():
        if not key.startswith(('time', 'data_time')):
            assert figures['two'][key] == pytest.approx(value, rel=1e-9, nan_ok=True), key


def test_auto_scale_lr_goes_with_the_batch_of_all_processes(synth_close, trained):
    (path,) = trained.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    # 2 x 8 of a base of 64: a quarter, in every step of the schedule, which is that of a run without it.
    run = ['--work-dir', trained.parent / 'one', '--cfg-options', f'data_root={synth_close}', *OPTIONS]
    run_tool('train', CONFIG, *run, 'train_dataloader.batch_size=16')
    (path,) = (trained.parent / 'one').glob('*/vis_data/scalars.json')
    plain = [json.loads(line) for line in path.read_text().splitlines()]
    scaled, whole = ([row['lr'] for row in log if 'lr' in row] for log in (rows, plain))
    assert len(scaled) == len(whole) == 5
    assert scaled == pytest.approx([lr / 4 for lr in whole], rel=1e-9)


def test_launcher_without_torchrun_says_how_to_start(synth_close, tmp_path):
    options = ['--work-dir', tmp_path, '--cfg-options', f'data_root={synth_close}']
    done = run_tool('train', CONFIG, '--launcher', 'pytorch', *options, code=2)
    assert 'torchrun --nproc-per-node 2' in done.stderr


def test_slurm_gets_the_options_unharmed(tmp_path):
    fake = tmp_path / 'sbatch'
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\ncat\n')
    fake.chmod(0o755)
    env = {**os.environ, 'SBATCH': str(fake), 'GPUS': '4', 'PYTHON': sys.executable}
    command = ['tools/slurm_train.sh', 'gpu', 'run', 'a.py', str(tmp_path / 'w'), '--cfg-options', 'x=(1, 2)']
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env, check=True).stdout
    assert '\n--ntasks\n4\n--ntasks-per-node\n4\n--gres\ngpu:4\n' in text
    srun = next(line for line in text.splitlines() if line.startswith('srun'))
    # What the job's shell makes of the line.
    words = subprocess.run(
        ['bash', '-c', f'srun() {{ printf "%s\\n" "$@"; }}; {srun}'], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert words[-4:] == ['--resume', 'auto', '--cfg-options', 'x=(1, 2)']
    assert words[words.index('--work-dir') + 1] == str(tmp_path / 'w')
