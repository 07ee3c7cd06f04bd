"""Faults made to happen: processes killed, disks full, pictures and files damaged; nothing finished may be lost."""

import json
import logging
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import ROOT
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner.checkpoint import save_checkpoint
from torch.utils.data import DataLoader

from evg.config import load_config
from evg.datasets.gaze_dataset import GazeDataset
from evg.datasets.index import INDEX_NAME, IndexFileError, read_index
from evg.datasets.transforms.loading import LoadImage
from evg.engine import work_dir as work_dirs
from evg.engine.loop import ResumableLoop
from evg.engine.storage import load_checkpoint_file
from evg.engine.work_dir import LOCK_NAME, drop_interrupted, lock, newest_checkpoint
from evg.errors import UserError
from evg.registry import HOOKS

CONFIG = 'configs/ctdet_gaze/nano_synth_160.py'
# 80 training pictures: 20 iterations an epoch.
OPTIONS = [
    'train_dataloader.batch_size=4', 'val_dataloader.num_workers=0', 'default_hooks.logger.interval=1',
    'log_processor.window_size=1', 'model.backbone.channels=(8,8,16,16,16)', 'model.neck.channels=(16,8,8)',
    'train_cfg.max_epochs=2',
]  # fmt: skip
# A fault at an iteration, for the empty place of the averaged weights.
FAULTS = """
import multiprocessing, os, signal, subprocess, sys
from mmengine.hooks import Hook
from evg.registry import HOOKS

@HOOKS.register_module()
class FaultAt(Hook):
    def __init__(self, iteration, to):
        self.iteration, self.to = iteration, to

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.iteration:
            if self.to == 'group':
                # The group holds this run alone. Not from this process itself, which workers obey.
                assert os.getpgrp() == os.getpid()
                subprocess.run([sys.executable, '-c', f'import os; os.killpg({os.getpgrp()}, 15)'])
            elif self.to == 'gradient':
                next(runner.model.parameters()).register_hook(lambda gradient: gradient * float('nan'))
            else:
                os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
"""


def _train(data, work_dir, *options, resume=False, code=0, limit=None):
    """Run tools/train.py in a process group of its own; its stderr."""
    (work_dir.parent / 'faults_for_tests.py').write_text(FAULTS)
    command = [sys.executable, 'tools/train.py', CONFIG, '--work-dir', str(work_dir), *(['--resume'] if resume else [])]
    command += ['--cfg-options', f'data_root={data}', *OPTIONS, *options]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, start_new_session=True, preexec_fn=limit,
        env={**os.environ, 'PYTHONPATH': f'{work_dir.parent}{os.pathsep}{ROOT}'},
    )  # fmt: skip
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stderr


def _fault(iteration, to):
    fault = f"ema={{'type': 'FaultAt', 'iteration': {iteration}, 'to': '{to}'}}"
    return ["+custom_imports={'imports': ['faults_for_tests']}", fault]


def _steps(work_dir):
    """(step, loss) from every log of a work_dir, in the order of the runs."""
    return [
        (row['step'], row['loss'])
        for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
        for row in map(json.loads, path.read_text().splitlines())
        if 'loss_hm' in row
    ]


@pytest.fixture(scope='module')
def whole(synth_close, tmp_path_factory):
    """Two epochs without a fault."""
    work_dir = tmp_path_factory.mktemp('whole') / 'run'
    _train(synth_close, work_dir, 'train_dataloader.num_workers=1')
    return work_dir


def test_sigterm_saves_and_resume_goes_on_with_the_next_sample(synth_close, whole, tmp_path):
    work_dir = tmp_path / 'run'
    # A scheduler signals all processes of a job, the loader's workers as well.
    text = _train(synth_close, work_dir, 'train_dataloader.num_workers=1', *_fault(27, 'group'))
    assert 'Traceback' not in text
    assert newest_checkpoint(work_dir) == str(work_dir / 'model_1_iter_27.pth')
    saved = torch.load(work_dir / 'model_1_iter_27.pth', weights_only=True)
    assert (saved['meta']['epoch'], saved['meta']['iter']) == (1, 27)
    assert [step for step, _ in _steps(work_dir)] == list(range(1, 28))
    (work_dir / '.model_3.pth.1.partial').write_bytes(b'half')

    _train(synth_close, work_dir, 'train_dataloader.num_workers=1', resume=True)
    expected, seen = _steps(whole), _steps(work_dir)
    # Every batch once: nothing again, nothing left out.
    assert [step for step, _ in seen] == [step for step, _ in expected] == list(range(1, 41))
    np.testing.assert_allclose([loss for _, loss in seen], [loss for _, loss in expected], rtol=1e-5)
    last, again = (load_checkpoint_file(folder / 'model_2.pth')['state_dict'] for folder in (whole, work_dir))
    for name, value in last.items():
        torch.testing.assert_close(again[name], value, rtol=1e-4, atol=1e-5, msg=name)
    # What the stopped run left is not needed any more.
    assert not [*work_dir.glob('*_iter_*'), *work_dir.glob('.*.partial')]
    assert (work_dir / LOCK_NAME).read_text() == ''


def test_in_mid_epoch_other_batches_are_refused(synth_close, whole, tmp_path):
    work_dir = tmp_path / 'run'
    work_dir.mkdir()
    stopped = torch.load(whole / 'model_1.pth', weights_only=True)
    shape = {'batch_size': 8, 'processes': 1, 'samples': 80}
    stopped['message_hub']['runtime_info']['mid_epoch'] = {'done': 3, 'shape': shape, 'random': ['00']}
    stopped['message_hub']['resumed_keys']['mid_epoch'] = True
    stopped['meta']['iter'] = 23
    torch.save(stopped, work_dir / 'model_1_iter_23.pth')
    text = _train(synth_close, work_dir, 'train_dataloader.num_workers=0', resume=True, code=2)
    assert "the middle of an epoch with {'batch_size': 8, 'processes': 1, 'samples': 80}" in text
    assert '--resume WORK_DIR/model_N.pth' in text


def test_resuming_a_checkpoint_of_another_config_is_refused(synth_close, whole, tmp_path):
    shutil.copytree(whole, tmp_path / 'run')
    text = _train(synth_close, tmp_path / 'run', 'model.neck.channels=(16,16,8)', resume=True, code=2)
    assert 'model_2.pth was not trained with this config' in text
    text = _train(synth_close, tmp_path / 'run', 'ppm=1.5', resume=True, code=2)
    assert 'was trained with codecs.gaze.ppm=1.0, this config has codecs.gaze.ppm=1.5' in text


def test_a_killed_worker_is_one_line(synth_close, tmp_path):
    options = ['train_dataloader.num_workers=1', *_fault(22, 'worker')]
    text = _train(synth_close, tmp_path / 'run', *options, code=2).strip().splitlines()[-1]
    # Torch says it in one way or the other, whichever of its threads sees it first.
    assert re.match(r'error: DataLoader worker \(pid.*(killed by signal: Killed|exited unexpectedly)', text)
    assert '--resume' in text
    assert load_checkpoint_file(newest_checkpoint(tmp_path / 'run'))['meta']['epoch'] == 1


def test_a_loss_that_is_not_finite_names_its_pictures(synth_close, tmp_path):
    work_dir = tmp_path / 'run'
    options = ['train_dataloader.num_workers=0', 'optim_wrapper.optimizer.lr=1e30', 'optim_wrapper.clip_grad=None']
    text = _train(synth_close, work_dir, *options, code=2).strip().splitlines()[-1]
    found = json.loads((work_dir / 'bad_batch.json').read_text())
    assert f'in iteration {found["iteration"]} (epoch 1)' in text
    assert str(work_dir / 'bad_batch.json') in text
    assert found['losses']['loss'] in ('nan', 'inf')
    assert len(found['samples']) == 4
    known = read_index(synth_close).columns['sample_id'].tolist()
    assert all(sample['sample_id'] in known and os.path.isfile(sample['picture']) for sample in found['samples'])
    # The first bad one: the log holds no bad loss before it. And weights of a bad step are not saved.
    losses = dict(_steps(work_dir))
    assert all(np.isfinite(losses[step]) for step in range(1, found['iteration']))
    assert newest_checkpoint(work_dir) is None


def test_weights_of_a_bad_gradient_are_not_saved(synth_close, tmp_path):
    # In the last of 20 iterations: the loss, computed before, is finite, and no later one tells.
    text = _train(synth_close, tmp_path / 'run', 'train_dataloader.num_workers=0', *_fault(20, 'gradient'), code=2)
    assert 'error: the weights are not finite after iteration 20' in text.strip().splitlines()[-1]
    assert newest_checkpoint(tmp_path / 'run') is None


def test_a_training_of_no_batch_is_refused(synth_close, tmp_path):
    options = ['train_dataloader.num_workers=0', 'train_dataloader.batch_size=81']
    text = _train(synth_close, tmp_path / 'run', *options, code=2).strip().splitlines()[-1]
    assert text.startswith('error: 80 training samples do not fill one batch of 81: nothing would be trained')
    assert text.endswith('--cfg-options train_dataloader.batch_size=80')


# The multiple of `accumulate` that is nearest to 10, at least one of them.
@pytest.mark.parametrize(('accumulate', 'every'), [(1, 10), (3, 9), (4, 8), (10, 10), (32, 32)])
def test_processes_ask_each_other_about_every_ten_iterations(monkeypatch, accumulate, every):
    loop, asked = ResumableLoop.__new__(ResumableLoop), []
    wrapper = SimpleNamespace(_accumulative_counts=accumulate)
    loop._runner = SimpleNamespace(optim_wrapper=wrapper, model=torch.nn.Linear(1, 1))
    loop._asked = threading.Event()
    monkeypatch.setattr('evg.engine.loop.get_world_size', lambda: 2)
    monkeypatch.setattr('evg.engine.loop.all_reduce', lambda *_: asked.append(loop._iter))
    for loop._iter in range(1, 100):
        loop._all_stop()
    assert asked == list(range(every, 100, every))


# Where a process dies while it writes a checkpoint; 'written' is the kernel's own kill in the middle of a write.
@pytest.mark.parametrize(
    ('stage', 'survives'),
    [('written', 'old'), ('before fsync', 'old'), ('after fsync', 'old'), ('before replace', 'old'),
     ('after replace', 'new')],
)  # fmt: skip
def test_a_kill_at_any_stage_leaves_a_whole_checkpoint(tmp_path, stage, survives):
    path = tmp_path / 'model_1.pth'
    size = 100_000
    save_checkpoint({'state_dict': {'old': torch.ones(size)}}, str(path))

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    def write():
        when, _, call = stage.partition(' ')
        if stage == 'written':
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (2 * size, 2 * size))
        else:
            real = getattr(os, call)
            setattr(os, call, die if when == 'before' else lambda *args: (real(*args), die()))
        save_checkpoint({'state_dict': {'new': torch.zeros(size)}}, str(path))

    child = multiprocessing.get_context('fork').Process(target=write)
    child.start()
    child.join()
    assert child.exitcode == (-signal.SIGXFSZ if stage == 'written' else -signal.SIGKILL)
    (weights,) = load_checkpoint_file(str(path))['state_dict'].items()
    assert weights[0] == survives
    assert len(weights[1]) == size
    assert newest_checkpoint(tmp_path) == str(path)


class _Saver:
    """As much of a runner as a checkpoint hook sees; it writes for real. The hook keeps one epoch, and the best one."""

    def __init__(self, folder, kind):
        self.work_dir = str(folder)
        self.logger = logging.getLogger('saver')
        self.message_hub = MessageHub(folder.name)
        with DefaultScope.overwrite_default_scope('evg'):
            kept = {'filename_tmpl': 'model_{}.pth', 'save_best': 'mm', 'rule': 'less', 'max_keep_ckpts': 1}
            self.hook = HOOKS.build({'type': kind, 'interval': 1, **kept})
        self.hook.before_train(self)

    def save_checkpoint(self, out_dir, filename, *_, **__):
        save_checkpoint({'state_dict': {'w': torch.full((100_000,), self.epoch)}}, f'{out_dir}/{filename}')

    def train(self, number):
        self.epoch, self.iter = number - 1, 10 * number
        self.hook._save_checkpoint(self)

    def validate(self, number, mm):
        self.epoch = number
        self.hook._save_best_checkpoint(self, {'mm': mm})


@pytest.mark.parametrize('fault', ['full', 'killed'])
@pytest.mark.parametrize(('at', 'left'), [('train', {'model_1.pth', 'best_mm_model_1.pth'}),
                                          ('validate', {'model_2.pth', 'best_mm_model_1.pth'})])  # fmt: skip
def test_an_old_checkpoint_goes_after_the_new_one_is_there(tmp_path, fault, at, left):
    kind = load_config(ROOT / CONFIG).default_hooks.checkpoint.type

    def run(broken):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        saver = _Saver(tmp_path, kind)
        saver.train(1)
        saver.validate(1, 5.0)
        if at == 'validate':
            saver.train(2)
        if broken and fault == 'full':
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        elif broken:
            os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        if at == 'train':
            saver.train(2)
        saver.validate(2, 4.0)

    def attempt(broken):
        child = multiprocessing.get_context('fork').Process(target=run, args=(broken,))
        child.start()
        child.join()
        whole = {path.name for path in tmp_path.glob('[!.]*.pth')}
        assert all(len(load_checkpoint_file(str(tmp_path / name))['state_dict']['w']) == 100_000 for name in whole)
        return child.exitcode, whole

    assert attempt(broken=True) == (1 if fault == 'full' else -signal.SIGKILL, left)
    # Without a fault the old ones are gone in the end.
    assert attempt(broken=False) == (0, {'model_2.pth', 'best_mm_model_2.pth'})


def test_several_best_checkpoints_go_each_with_its_successor(tmp_path):
    with DefaultScope.overwrite_default_scope('evg'):
        hook = HOOKS.build({'type': 'SaveFirstCheckpointHook', 'save_best': ['mm', 'deg'], 'rule': 'less'})
    saver = _Saver(tmp_path, 'SaveFirstCheckpointHook')
    hook.before_train(saver)
    for saver.epoch, mm, deg in ((1, 5.0, 3.0), (2, 4.0, 3.5), (3, 4.5, 3.2)):
        saver.iter = 10 * saver.epoch
        hook._save_best_checkpoint(saver, {'mm': mm, 'deg': deg})
    assert {path.name for path in tmp_path.glob('*.pth')} == {'best_mm_epoch_2.pth', 'best_deg_epoch_1.pth'}
    assert hook.best_ckpt_path_dict == {
        'mm': str(tmp_path / 'best_mm_epoch_2.pth'), 'deg': str(tmp_path / 'best_deg_epoch_1.pth'),
    }  # fmt: skip


def _may_mount():
    """Whether this process has CAP_SYS_ADMIN, number 21."""
    lines = Path('/proc/self/status').read_text().splitlines()
    line = next(line for line in lines if line.startswith('CapEff'))
    return bool(int(line.split()[1], 16) >> 21 & 1)


@contextmanager
def _small_disk(folder, size):
    """A file system of its own with room for `size` bytes."""
    subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size}', 'none', str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(['umount', '-l', str(folder)], check=True)


@pytest.mark.parametrize('kind', ['limit', *(['disk'] if _may_mount() else [])])
def test_where_nothing_more_can_be_written_the_finished_epoch_stays(synth_close, whole, tmp_path, kind):
    work_dir = tmp_path / 'run'
    work_dir.mkdir()
    size = (whole / 'model_1.pth').stat().st_size
    with _small_disk(work_dir, size + size // 2) if kind == 'disk' else nullcontext():
        shutil.copy(whole / 'model_1.pth', work_dir)

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

        text = _train(
            synth_close, work_dir, 'train_dataloader.num_workers=0', resume=True, code=2,
            limit=limit if kind == 'limit' else None,
        ).strip().splitlines()[-1]  # fmt: skip
        why = {'limit': 'the file is larger than the system allows', 'disk': 'the disk is full'}[kind]
        assert text.startswith(f'error: {why}')
        assert 'model_2.pth' in text
        assert '--resume' in text
        assert newest_checkpoint(work_dir) == str(work_dir / 'model_1.pth')
        assert load_checkpoint_file(newest_checkpoint(work_dir))['meta']['epoch'] == 1
        assert not list(work_dir.glob('.*.partial'))


@pytest.fixture
def damaged(synth_close, tmp_path):
    """A copy of the data whose training pictures 3 and 4 are cut short."""
    data = tmp_path / 'data'
    shutil.copytree(synth_close, data)
    index = read_index(data, ['train'])
    names = [index.columns.text('image', row) for row in (3, 4)]
    for name in names:
        (data / name).write_bytes((data / name).read_bytes()[:200])
    return data, names


def _names(loader):
    return [name for batch in loader for name in batch]


@pytest.mark.parametrize('workers', [0, 2])
def test_unreadable_pictures_are_replaced_and_counted_once(damaged, tmp_path, workers):
    data, names = damaged
    # As the runner does: workers write into the same log.
    MMLogger.get_instance(f'{tmp_path}', log_file=str(tmp_path / 'log'))
    dataset = GazeDataset(data, [LoadImage(), _id], max_bad_images=2)
    loader = DataLoader(dataset, 8, num_workers=workers, persistent_workers=bool(workers), collate_fn=list)
    ids = dataset.index.columns['sample_id'].tolist()
    for _ in range(2):
        assert _names(loader) == [*ids[:3], ids[5], ids[5], *ids[5:]]
    del loader
    text = (tmp_path / 'log').read_text()
    for name in names:
        assert text.count(f'{name} is cut short') == 1
    assert 'at most 2 that cannot be read' in text


def _id(results):
    return results['sample_id']


def test_one_unreadable_picture_too_many_stops_with_the_list(damaged, tmp_path):
    data, names = damaged
    options = ['train_dataloader.num_workers=1', 'train_dataloader.sampler.shuffle=False', 'max_bad_images=1']
    text = _train(data, tmp_path / 'run', *options, code=2).strip().splitlines()[-1]
    assert text.startswith('error: 2 pictures of')
    assert ', '.join(names) in text
    assert 'max_bad_images=1' in text


def test_a_cut_index_is_refused_wherever_it_was_cut(synth_close, tmp_path):
    content = (synth_close / INDEX_NAME).read_bytes()
    for length in np.linspace(0, len(content) - 1, 40).astype(int):
        (tmp_path / INDEX_NAME).write_bytes(content[:length])
        with pytest.raises(IndexFileError, match='prepare the data again'):
            read_index(tmp_path)
    assert pq.read_table(synth_close / INDEX_NAME).num_rows == 96


def _in_a_process(function, *args):
    """Its answer, or the text of its UserError, from a forked process that then dies without an end."""
    receive, send = multiprocessing.Pipe()

    def run():
        work_dirs._held.clear()
        try:
            send.send(function(*args))
        except UserError as error:
            send.send(f'UserError {error}')
        os.kill(os.getpid(), signal.SIGKILL)

    child = multiprocessing.get_context('fork').Process(target=run)
    child.start()
    answer = receive.recv()
    child.join()
    return answer, child.pid


def test_two_runs_in_one_folder_are_refused(tmp_path):
    assert _in_a_process(lock, tmp_path)[0] is None
    # That one was killed: its file says so, and is no obstacle.
    left = json.loads((tmp_path / LOCK_NAME).read_text())
    assert lock(tmp_path) == (
        f'the last run here did not end by itself: process {left["pid"]} on {left["host"]}, since {left["since"]} '
        f'({left["command"]})'
    )
    answer, _ = _in_a_process(lock, tmp_path)
    assert answer.startswith(f'UserError another run works in {tmp_path}: process {os.getpid()} on ')
    assert '--work-dir' in answer


@pytest.mark.parametrize(('job', 'refused'), [(None, True), ('8', True), ('7', False)])
def test_what_another_machine_left_is_refused_but_in_the_same_job(tmp_path, monkeypatch, job, refused):
    monkeypatch.delenv('SLURM_JOB_ID', raising=False)
    if job:
        monkeypatch.setenv('SLURM_JOB_ID', job)
    (tmp_path / LOCK_NAME).write_text(json.dumps({'pid': 1, 'host': 'another', 'job': '7'}))
    answer, _ = _in_a_process(lock, tmp_path)
    assert answer.startswith('UserError ') is refused
    assert 'process 1 on another' in answer


def test_checkpoints_of_stopped_runs_are_ordered_and_dropped(tmp_path):
    for name in ('model_2.pth', 'model_1_iter_27.pth', 'model_2_iter_41.pth', 'model_2_iter_9x.pth'):
        (tmp_path / name).touch()
    assert newest_checkpoint(tmp_path) == str(tmp_path / 'model_2_iter_41.pth')
    drop_interrupted(tmp_path)
    assert newest_checkpoint(tmp_path) == str(tmp_path / 'model_2_iter_41.pth')
    (tmp_path / 'model_3.pth').touch()
    drop_interrupted(tmp_path)
    assert newest_checkpoint(tmp_path) == str(tmp_path / 'model_3.pth')
    assert not (tmp_path / 'model_2_iter_41.pth').exists()
