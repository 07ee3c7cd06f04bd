"""Two processes on a CPU, started by torchrun: training runs, and metrics equal those of one process."""

import json
import os
import socket
import subprocess
import sys

import pytest
from conftest import ROOT, run_tool

CONFIG = 'configs/ctdet_gaze/nano_synth_160.py'
OPTIONS = ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=8', 'train_dataloader.num_workers=0',
           'val_dataloader.num_workers=0', 'test_dataloader.num_workers=0', 'test_dataloader.batch_size=7',
           'test_dataloader.dataset.splits=train', 'allow_leak=True', 'model.backbone.channels=(8,8,16,16,16)',
           'model.neck.channels=(16,8,8)']  # fmt: skip


def _torchrun(*args):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    start = ['-m', 'torch.distributed.run', '--nproc-per-node', '2', '--master-port', str(port)]
    command = [sys.executable, *start, *map(str, args)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def test_two_processes_give_the_figures_of_one(synth_close, tmp_path):
    options = ['--cfg-options', f'data_root={synth_close}', *OPTIONS]
    _torchrun('tools/train.py', CONFIG, '--launcher', 'pytorch', '--work-dir', tmp_path / 'two', *options)
    checkpoint = tmp_path / 'two' / 'model_1.pth'
    figures = {}
    for name in ('one', 'two'):
        args = [CONFIG, checkpoint, '--out', tmp_path / f'{name}.json', '--work-dir', tmp_path / name, *options]
        if name == 'one':
            run_tool('test', *args)
        else:
            _torchrun('tools/test.py', *args[:2], '--launcher', 'pytorch', *args[2:])
        figures[name] = json.loads((tmp_path / f'{name}.json').read_text())['figures']
    # 80 training pictures, 7 a batch: the last batches of the two processes are uneven.
    assert figures['one']['pog/n'] == figures['two']['pog/n'] == 80
    for key, value in figures['one'].items():
        if not key.startswith(('time', 'data_time')):
            assert figures['two'][key] == pytest.approx(value, rel=1e-9, nan_ok=True), key


def test_launcher_without_torchrun_says_how_to_start(synth_close, tmp_path):
    options = ['--work-dir', tmp_path, '--cfg-options', f'data_root={synth_close}']
    done = run_tool('train', CONFIG, '--launcher', 'pytorch', *options, code=2)
    assert 'torchrun --nproc-per-node 2' in done.stderr
