"""Two processes on a CPU, started by torchrun: training runs, and metrics equal those of one process."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import CONFIGS, ROOT, run_tool
from torch.distributed.fsdp import fully_shard

from evg.config import load_config
from evg.engine.launch import build_runner
from evg.engine.sharded import _blocks, check_sharded
from evg.errors import UserError
from evg.models.flops import build_on_meta
from evg.registry import BACKBONES

CONFIG = 'configs/ctdet_gaze/nano_synth_160.py'
# Odd for two processes: the sampler gives one of them a sample that the other one has as well.
SAMPLES = 77
OPTIONS = ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=8', 'train_dataloader.num_workers=0',
           'val_dataloader.num_workers=0', 'test_dataloader.num_workers=0', 'test_dataloader.batch_size=7',
           'test_dataloader.dataset.splits=train', f'test_dataloader.dataset.max_samples={SAMPLES}', 'allow_leak=True',
           'model.backbone.channels=(8,8,16,16,16)', 'model.neck.channels=(16,8,8)',
           'default_hooks.logger.interval=1', 'log_processor.window_size=1']  # fmt: skip

# What each process validates with, for the place of the early stop.
KEEP = """
import torch
from mmengine.hooks import Hook
from evg.registry import HOOKS

@HOOKS.register_module()
class KeepValidated(Hook):
    def before_val_iter(self, runner, batch_idx, data_batch=None):
        torch.save(runner.model.module.state_dict(), f'{runner.work_dir}/validated_{runner.rank}.pth')
"""
EMA = 'ema={"type": "EMAHook", "momentum": 0.2, "update_buffers": True}'


def _start(name, *args):
    """Start tools/NAME.sh as a user would."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        env = {**os.environ, 'PYTHON': sys.executable, 'PORT': str(free.getsockname()[1])}
    command = [f'tools/{name}.sh', *map(str, args)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)


def _script(name, *args):
    """Run tools/NAME.sh to its end; what it said."""
    process = _start(name, *args)
    text = process.communicate()[0]
    assert process.returncode == 0, text[-6000:]
    return text


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
            _script('dist_test', CONFIG, checkpoint, 2, '--show-dir', tmp_path / 'shown', '--show-count', 3, *args)
        figures[name] = json.loads((tmp_path / f'{name}.json').read_text())['figures']
    assert len(list((tmp_path / 'shown').glob('*.jpg'))) == 3
    # 7 a batch: the last batches of the two processes are uneven as well.
    assert figures['one']['pog/n'] == figures['two']['pog/n'] == SAMPLES
    assert figures['one'].keys() == figures['two'].keys()
    for key, value in figures['one'].items():
        if not key.startswith(('time', 'data_time')):
            assert figures['two'][key] == pytest.approx(value, rel=1e-9, nan_ok=True), key


@pytest.fixture(scope='module')
def averaged(synth_close, tmp_path_factory):
    """One epoch with averaged weights, a picture a step: the processes' statistics of the batch norms are far apart."""
    work_dir = tmp_path_factory.mktemp('averaged') / 'run'
    (work_dir.parent / 'keep_for_tests.py').write_text(KEEP)
    options = ['--cfg-options', f'data_root={synth_close}', *OPTIONS, EMA, 'train_dataloader.batch_size=1']
    options += [
        "+custom_imports={'imports': ['keep_for_tests']}",
        'early_stop={"_delete_": True, "type": "KeepValidated"}',
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', f'{work_dir.parent}{os.pathsep}{ROOT}')
        _script('dist_train', CONFIG, 2, '--work-dir', work_dir, *options)
    return work_dir


def test_averaged_weights_are_validated_as_they_are_saved(averaged):
    saved = torch.load(averaged / 'model_1.pth', weights_only=True)['state_dict']
    for rank in (0, 1):
        validated = torch.load(averaged / f'validated_{rank}.pth', weights_only=True)
        assert validated.keys() == saved.keys()
        for name, value in saved.items():
            torch.testing.assert_close(validated[name], value, rtol=0, atol=0, msg=f'{name} in process {rank}')


def _log(work_dir):
    """Losses by iteration."""
    logs = [path.read_text().splitlines() for path in sorted(work_dir.glob('*/vis_data/scalars.json'))]
    rows = [json.loads(line) for log in logs for line in log]
    return {row['step']: row['loss'] for row in rows if 'loss_hm' in row}


@pytest.fixture(scope='module')
def sharded(synth_close, trained):
    """As `trained`, the network shared out over the processes."""
    work_dir = trained.parent / 'sharded'
    options = ['--cfg-options', f'data_root={synth_close}', *OPTIONS, 'fsdp=True']
    return work_dir, _script('dist_train', CONFIG, 2, '--work-dir', work_dir, '--auto-scale-lr', *options)


def test_a_shared_out_network_learns_the_same(trained, sharded):
    work_dir, log = sharded
    numbers = re.search(r'holds ([\d,]+) of ([\d,]+) param', log).groups()
    held, whole = (int(number.replace(',', '')) for number in numbers)
    assert 0.4 < held / whole < 0.6
    assert _log(work_dir) == pytest.approx(_log(trained), rel=1e-3)
    own, other = (torch.load(path / 'model_1.pth', weights_only=True) for path in (work_dir, trained))
    assert own['state_dict'].keys() == other['state_dict'].keys()
    for name, value in other['state_dict'].items():
        torch.testing.assert_close(own['state_dict'][name], value, rtol=1e-3, atol=1e-4, msg=name)
    for number, state in other['optimizer']['state'].items():
        assert own['optimizer']['state'][number]['exp_avg'].shape == state['exp_avg'].shape


def test_a_shared_out_network_resumes_from_any_checkpoint(synth_close, trained, sharded, tmp_path):
    options = ['--cfg-options', f'data_root={synth_close}', *OPTIONS, 'train_cfg.max_epochs=2']
    for name, fsdp in (('whole', False), ('shared', True)):
        start = ['--work-dir', tmp_path / name, '--auto-scale-lr', '--resume', sharded[0] / 'model_1.pth']
        _script('dist_train', CONFIG, 2, *start, *options, f'fsdp={fsdp}')
    whole, shared = _log(tmp_path / 'whole'), _log(tmp_path / 'shared')
    assert list(shared) == [6, 7, 8, 9, 10]
    assert shared == pytest.approx(whole, rel=1e-3)


def _distinct(configs):
    """One config for each backbone among them."""
    backbones = {}
    for config in configs:
        cfg = load_config(ROOT / config)
        backbones.setdefault(str(cfg.model.backbone), pytest.param(cfg, id=config))
    return list(backbones.values())


@pytest.mark.parametrize('cfg', _distinct(CONFIGS))
def test_a_network_is_shared_out_in_blocks_of_which_none_is_most_of_it(cfg):
    model = build_on_meta(cfg.model)
    blocks = list(_blocks(model))
    # Each weight of the backbone is in one block.
    held = [id(parameter) for block in blocks for parameter in block.parameters()]
    assert len(held) == len(set(held))
    assert {id(parameter) for parameter in model.backbone.parameters()} <= set(held)
    assert not [block for block in blocks if isinstance(block, (torch.nn.ModuleList, torch.nn.ModuleDict))]
    own = set(model.backbone.modules())
    sizes = [sum(parameter.numel() for parameter in block.parameters()) for block in blocks if block in own]
    whole = sum(parameter.numel() for parameter in model.backbone.parameters())
    # GazeNet's last convolution alone is two thirds of it: 512 * 257 * 9 of 1.8 million.
    assert max(sizes) <= (0.7 if cfg.model.backbone.type == 'GazeNet' else 0.6) * whole


@pytest.fixture
def alone():
    """A process group of this process."""
    torch.distributed.init_process_group('gloo', store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize('backbone', [
    {'type': 'Hourglass', 'dims': (8, 8, 12), 'modules': (1, 1, 1), 'out_channels': 8},
    {'type': 'DLA34', 'pretrained': None},
    {'type': 'ResNet', 'depth': 18, 'pretrained': None},
    {'type': 'MobileNetV2', 'width': 0.35, 'pretrained': None},
    {'type': 'PupilNet', 'hourglasses': 1},
    {'type': 'SpaNet', 'hourglasses': 1},
    {'type': 'GazeNet', 'input_size': (128, 96)},
], ids=lambda backbone: backbone['type'])  # fmt: skip
def test_every_backbone_computes_shared_out(alone, backbone):
    torch.manual_seed(0)
    model = torch.nn.Module()
    model.backbone, model.neck, model.heads = BACKBONES.build(backbone).eval(), None, {}
    images = torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        whole = model.backbone(images)
        for block in _blocks(model):
            fully_shard(block)
        fully_shard(model)
        shared = model.backbone(images)
    torch.testing.assert_close(shared, whole)


@pytest.mark.parametrize(
    ('options', 'said'),
    [((), 'tools/dist_train.sh'), (('ema={"type":"EMAHook"}',), 'ema'), (('l1_penalty=0.1',), 'weight_decay')],
)
def test_what_cannot_be_shared_out_is_refused(options, said):
    cfg = load_config(ROOT / CONFIG, ['fsdp=True', *options])
    with pytest.raises(UserError, match=said):
        check_sharded(cfg, 'pytorch' if options else 'none')


def test_sigterm_to_all_processes_saves_and_the_rest_of_the_epoch_follows(synth_close, averaged, tmp_path):
    """As a scheduler stops a job: every process gets the signal; torchrun, whose children end well, ends well too."""
    options = ['--cfg-options', f'data_root={synth_close}', *OPTIONS, EMA, 'train_dataloader.batch_size=1']
    stopped = tmp_path / 'stopped'
    process = _start('dist_train', CONFIG, 2, '--work-dir', stopped, *options)
    while not _log(stopped):
        assert process.poll() is None, process.communicate()[0][-6000:]
        time.sleep(0.05)
    children = ' '.join(path.read_text() for path in Path(f'/proc/{process.pid}/task').glob('*/children')).split()
    trainings = [child for child in children if b'train.py' in Path(f'/proc/{child}/cmdline').read_bytes()]
    assert len(trainings) == 2
    for child in trainings:
        os.kill(int(child), signal.SIGTERM)
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 0, text[-6000:]
    (left,) = stopped.glob('model_*.pth')
    assert re.fullmatch(r'model_0_iter_\d+0\.pth', left.name)
    _script('dist_train', CONFIG, 2, '--work-dir', stopped, '--resume', 'auto', *options)
    assert _log(stopped) == pytest.approx(_log(averaged), rel=1e-5)
    # Statistics of the batch norms included, though each process has its own in mid-epoch.
    last, again = (torch.load(path / 'model_1.pth', weights_only=True) for path in (averaged, stopped))
    for name in ('state_dict', 'ema_state_dict'):
        assert last[name].keys() == again[name].keys()
        for key, value in last[name].items():
            torch.testing.assert_close(again[name][key], value, rtol=1e-4, atol=1e-5, msg=f'{name} {key}')


def test_auto_scale_lr_goes_with_the_batch_of_all_processes(synth_close, trained):
    (path,) = trained.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    # 2 x 8 of a base of 32: a half, in every step of the schedule, which is that of a run without it.
    run = ['--work-dir', trained.parent / 'one', '--cfg-options', f'data_root={synth_close}', *OPTIONS]
    run_tool('train', CONFIG, *run, 'train_dataloader.batch_size=16')
    (path,) = (trained.parent / 'one').glob('*/vis_data/scalars.json')
    plain = [json.loads(line) for line in path.read_text().splitlines()]
    scaled, whole = ([row['lr'] for row in log if 'lr' in row] for log in (rows, plain))
    assert len(scaled) == len(whole) == 5
    assert scaled == pytest.approx([lr / 2 for lr in whole], rel=1e-9)


def test_launcher_without_torchrun_says_how_to_start(synth_close, tmp_path):
    options = ['--work-dir', tmp_path, '--cfg-options', f'data_root={synth_close}']
    done = run_tool('train', CONFIG, '--launcher', 'pytorch', *options, code=2)
    assert 'torchrun --nproc-per-node 2' in done.stderr


@pytest.mark.parametrize(
    ('launcher', 'told', 'said'),
    [
        ('pytorch', {}, 'without RANK, WORLD_SIZE, MASTER_ADDR, LOCAL_RANK: start it as `torchrun'),
        ('pytorch', {'RANK': '2', 'WORLD_SIZE': '4', 'MASTER_ADDR': 'a', 'LOCAL_RANK': '2'}, 'process 3 .* 2 can'),
        ('slurm', {}, 'without SLURM_PROCID, SLURM_NTASKS, SLURM_NODELIST: start it as `srun'),
        ('slurm', {'SLURM_PROCID': '7', 'SLURM_NTASKS': '8', 'SLURM_NODELIST': 'a', 'SLURM_LOCALID': '3'}, 'process 4'),
    ],
)  # fmt: skip
def test_on_a_gpu_machine_too(synth_close, tmp_path, monkeypatch, launcher, told, said):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'LOCAL_RANK', 'SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=said):
        build_runner(load_config(ROOT / CONFIG, [f'data_root={synth_close}']), tmp_path, launcher=launcher)
    assert not list(tmp_path.iterdir())


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


ENDS = """
import atexit, os, sys
import torch.distributed
from evg.engine.launch import leaves_plainly

@leaves_plainly
def main():
    if sys.argv[1] != 'alone':
        torch.distributed.init_process_group('gloo', store=torch.distributed.HashStore(), rank=0, world_size=1)
    print('all is written', end='')
    if sys.argv[2] != 'returns':
        raise SystemExit(int(sys.argv[2]))

atexit.register(print, ', torn down', end='')
main()
"""


@pytest.mark.parametrize(('group', 'end', 'code', 'torn_down'), [
    ('group', 'returns', 0, False), ('group', '0', 0, False), ('group', '2', 2, True), ('alone', 'returns', 0, True),
])  # fmt: skip
def test_one_of_several_processes_leaves_before_the_teardown(group, end, code, torn_down):
    command = [sys.executable, '-c', ENDS, group, end]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, 'all is written' + ', torn down' * torn_down), done.stderr
