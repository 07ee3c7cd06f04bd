"""What a training shows of itself: throughput by a clock made for it, pictures, the summary and its command."""

import gc
import json
import math
import mmap
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, run_tool
from mmengine.evaluator import BaseMetric
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.runner import Runner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from evg.config import load_config
from evg.engine import observe
from evg.engine.early_stop import EarlyStopByDelta
from evg.engine.hooks import PlainCheckpointHook
from evg.engine.observe import TOTALS, ShowPredictionsHook, ThroughputLoggerHook, resident_mib
from evg.engine.show import prediction_sheets
from evg.engine.summary import SummaryHook, summarise
from evg.errors import UserError
from evg.registry import DATASETS, MODELS

NANO = 'configs/ctdet_gaze/nano_synth_160.py'
BATCH = 4
# Seconds on the clock of the tests: to load a sample, for a step, for a hook after it, to load a validation sample.
LOAD, STEP, AVERAGE, VALIDATE = 0.125, 0.25, 0.5, 8.0


class _Clock:
    now = 0.0

    def __call__(self):
        return self.now

    def __deepcopy__(self, memo):  # the runner copies its configs
        return self


class _Samples(torch.utils.data.Dataset):
    def __init__(self, clock, count, seconds):
        self.clock, self.count, self.seconds = clock, count, seconds

    def __len__(self):
        return self.count

    def __getitem__(self, position):
        self.clock.now += self.seconds
        return {'inputs': torch.ones(1)}

    def __repr__(self):  # the runner writes its config
        return 'samples'


class _Model(BaseModel):
    def __init__(self, clock):
        super().__init__()
        self.weight, self.clock = nn.Parameter(torch.zeros(1)), clock

    def forward(self, inputs, mode='tensor'):
        self.clock.now += STEP if mode == 'loss' else 0
        return {'loss': self.weight.square().sum()} if mode == 'loss' else [None] * len(inputs)

    def __repr__(self):
        return 'model'


class _Average(Hook):
    """As slow as averaging weights; not a time in which data are waited for."""

    def __init__(self, clock):
        self.clock = clock

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.clock.now += AVERAGE

    def __repr__(self):
        return 'average'


class _Scripted(BaseMetric):
    """Worse from epoch to epoch."""

    default_prefix = 'pog'
    runner = None

    def process(self, data_batch, data_samples):
        self.results.extend(data_samples)

    def compute_metrics(self, results):
        return {'mean_mm': 50.0 + 20 * self.runner.epoch}

    def __repr__(self):
        return 'metric'


def _train(clock, folder, name, epochs, resume=False, patience=9):
    """Train on 18 pictures: 5 steps an epoch, the last of 2 pictures, a log line after every second step."""
    data = {'batch_size': BATCH, 'sampler': {'type': 'DefaultSampler', 'shuffle': False}}
    _Scripted.runner = runner = Runner(
        _Model(clock),
        str(folder),
        train_dataloader={'dataset': _Samples(clock, 18, LOAD), **data},
        val_dataloader={'dataset': _Samples(clock, 3, VALIDATE), **data},
        val_evaluator=[_Scripted()],
        train_cfg={'by_epoch': True, 'max_epochs': epochs},
        val_cfg={},
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.1}, 'accumulative_counts': 2},
        custom_hooks=[
            _Average(clock), PlainCheckpointHook(), SummaryHook(),
            EarlyStopByDelta('pog/mean_mm', patience=patience, delta=0),
        ],
        default_hooks={
            'logger': {'type': 'ThroughputLoggerHook', 'interval': 2},
            'checkpoint': {'type': 'CheckpointHook', 'interval': 1, 'save_best': 'pog/mean_mm', 'rule': 'less'},
        },
        default_scope='evg',
        resume=resume,
        experiment_name=name,
    )  # fmt: skip
    runner.train()
    return runner


@pytest.fixture
def clock(monkeypatch):
    clock = _Clock()
    monkeypatch.setattr(observe, 'perf_counter', clock)
    return clock


def _rows(work_dir):
    paths = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


@pytest.mark.parametrize('processes', [1, 2])
def test_throughput_by_the_clock(clock, tmp_path, monkeypatch, processes):
    monkeypatch.setattr(observe, 'get_world_size', lambda: processes)
    _train(clock, tmp_path, f'throughput_{processes}', 2)
    rows = [row for row in _rows(tmp_path) if 'iter' in row]
    # The first line of an epoch has two full batches. So has the next one of it, and the one after an epoch also the
    # rest of two pictures. The last step's rest is in no line.
    assert [row['step'] for row in rows] == [2, 4, 7, 9]
    for row, images, steps in zip(rows, (8, 8, 10, 8), (2, 2, 3, 2), strict=True):
        seconds = images * LOAD + steps * (STEP + AVERAGE)
        assert row['images_per_s'] == pytest.approx(processes * images / seconds), row['step']
        assert row['data_wait'] == pytest.approx(images * LOAD / seconds), row['step']
        assert row['rss_mib'] > 50
        assert 'workers_mib' not in row
    # The whole training: 36 pictures, 10 steps, two validations of three samples.
    summary = json.loads((tmp_path / 'run_summary.json').read_text())
    seconds = 36 * LOAD + 10 * (STEP + AVERAGE)
    assert summary['images'] == 36 * processes
    assert summary['images_per_s'] == pytest.approx(36 * processes / seconds)
    assert summary['data_wait'] == pytest.approx(36 * LOAD / seconds)
    assert summary['duration_s'] == pytest.approx(seconds + 6 * VALIDATE)


def test_a_resumed_training_is_summed_up_as_one(clock, tmp_path):
    _train(clock, tmp_path, 'sum_first', 2)
    clock.now += 1000
    _train(clock, tmp_path, 'sum_second', 3, resume=True)
    summary = json.loads((tmp_path / 'run_summary.json').read_text())
    assert (summary['epochs'], summary['iterations'], summary['images']) == (3, 15, 54)
    seconds = 54 * LOAD + 15 * (STEP + AVERAGE)
    assert summary['images_per_s'] == pytest.approx(54 / seconds)
    # The checkpoint of the second epoch was written before its validation, which it does not know of.
    assert summary['duration_s'] == pytest.approx(seconds + 6 * VALIDATE)
    assert summary['best']['value'] == 70
    # A new training in the same folder begins at nothing.
    _train(clock, tmp_path, 'sum_third', 1)
    assert json.loads((tmp_path / 'run_summary.json').read_text())['images'] == 18


def test_a_validation_between_iterations_is_not_training(clock):
    hook, hub = ThroughputLoggerHook(interval=100), MessageHub('between')
    runner = SimpleNamespace(message_hub=hub, iter=0, model=None, train_dataloader=range(50), experiment_name='')
    hook.before_train(runner)
    hook.before_train_epoch(runner)
    for _ in range(2):
        clock.now += LOAD
        hook.before_train_iter(runner, 0)
        clock.now += STEP
        hook.after_train_iter(runner, 0, {'inputs': range(3)})
        clock.now += VALIDATE
        hook.after_val(runner)
    totals = hub.get_info(TOTALS)
    assert (totals['images'], totals['train_s'], totals['wait_s']) == (6, 2 * (LOAD + STEP), 2 * LOAD)


def test_an_early_stop_is_summed_up(clock, tmp_path):
    runner = _train(clock, tmp_path, 'early', 9, patience=2)
    summary = json.loads((tmp_path / 'run_summary.json').read_text())
    assert (summary['epochs'], summary['max_epochs'], summary['test']) == (3, 9, None)
    assert summary['best'] == {
        'checkpoint': str(tmp_path / 'best_pog_mean_mm_epoch_1.pth'), 'metric': 'pog/mean_mm', 'value': 70, 'epoch': 1,
    }  # fmt: skip
    assert summary['last'] == {'epoch': 3, 'figures': {'pog/mean_mm': 110}}
    log = Path(runner.log_dir, f'{runner.timestamp}.log').read_text()
    assert 'Trained 3 of 9 epochs, stopped early, 15 iterations' in log
    assert f'Best pog/mean_mm: 70.00 in epoch 1, {summary["best"]["checkpoint"]}' in log
    assert log.splitlines()[-1].endswith(f'Summary: {tmp_path}/run_summary.json')


def test_a_new_start_takes_the_old_summary_away(tmp_path):
    (tmp_path / 'run_summary.json').touch()
    SummaryHook().before_train(SimpleNamespace(work_dir=str(tmp_path)))
    assert not list(tmp_path.iterdir())


def test_resident_memory():
    gc.collect()
    lines = Path('/proc/self/status').read_text().splitlines()
    kib = int(next(line for line in lines if line.startswith('VmRSS')).split()[1])
    before = resident_mib([os.getpid()])
    assert before == pytest.approx(kib / 1024, abs=16)
    # Pages of its own, each touched: what malloc gives may be resident already.
    kept = mmap.mmap(-1, 64 << 20)
    np.frombuffer(kept, np.uint8)[:: mmap.PAGESIZE] = 1
    assert resident_mib([os.getpid()]) - before == pytest.approx(64, abs=8)
    ended = subprocess.Popen(['true'])
    ended.wait()
    assert resident_mib([ended.pid]) == 0
    assert resident_mib([os.getpid()] * 2) == pytest.approx(2 * resident_mib([os.getpid()]), abs=16)
    del kept


SMALL = """
_base_ = '{root}/{nano}'
data_root = '{data}'
vp_size_px = (1280, 1440)
ppm = 2.0
train_cfg = dict(max_epochs=2)
model = dict(backbone=dict(channels=(8, 8, 16, 16, 16)), neck=dict(channels=(16, 8, 8)))
train_dataloader = dict(batch_size=8, num_workers=1)
val_dataloader = dict(num_workers=0)
test_dataloader = dict(num_workers=0)
default_hooks = dict(logger=dict(interval=3))
log_processor = dict(window_size=1)
early_stop = None
optim_wrapper = dict(optimizer=dict(lr=1e-2))
ema = dict(type='EMAHook', momentum=0.005, update_buffers=True)
"""


@pytest.fixture(scope='module')
def config(synth_close, tmp_path_factory):
    path = tmp_path_factory.mktemp('observe') / 'my configs' / 'small.py'
    path.parent.mkdir()
    path.write_text(SMALL.format(root=ROOT, nano=NANO, data=synth_close))
    return path


@pytest.fixture(scope='module')
def shown(config):
    """80 pictures, 10 iterations an epoch, two epochs; pictures after each."""
    work_dir = config.parent / 'shown'
    done = run_tool('train', config, '--work-dir', work_dir, '--cfg-options', 'show_every=1', 'codec.sigma=(2.0)')
    return work_dir, done.stdout + done.stderr


def test_the_log_and_tensorboard_say_the_same(shown):
    work_dir, text = shown
    rows = _rows(work_dir)
    train, val = [row for row in rows if 'iter' in row], [row for row in rows if 'iter' not in row]
    assert [row['step'] for row in train] == [3, 6, 9, 13, 16, 19]
    (path,) = work_dir.glob('*/vis_data/events.out.tfevents*')
    events = EventAccumulator(str(path), {'scalars': 0, 'images': 0}).Reload()
    for key in ('loss', 'loss_hm', 'loss_off', 'loss_pog', 'lr', 'images_per_s', 'data_wait', 'rss_mib', 'workers_mib'):
        found = {event.step: event.value for event in events.Scalars(key)}
        assert found == pytest.approx({row['step']: row[key] for row in train}, rel=1e-6), key
    for row in train:
        assert row['images_per_s'] > 0
        assert 0 < row['data_wait'] < 1
        assert min(row['rss_mib'], row['workers_mib']) > 50
        assert row['pog_mm'] == pytest.approx(row['pog_vp_px'] / 2)
    found = {event.step: event.value for event in events.Scalars('pog/mean_mm')}
    assert found == pytest.approx({row['step']: row['pog/mean_mm'] for row in val}, rel=1e-6)
    assert f'images_per_s: {train[0]["images_per_s"]:.4f}  data_wait: {train[0]["data_wait"]:.4f}' in text
    assert f'rss_mib: {train[0]["rss_mib"]}  workers_mib: {train[0]["workers_mib"]}' in text
    for number in range(4):
        images = events.Images(f'predictions/{number}')
        assert [event.step for event in images] == [1, 2]
        assert images[0].encoded_image_string.startswith(b'\x89PNG')


def test_pictures_are_of_the_same_samples_by_the_weights_that_are_saved(shown, config):
    work_dir, cfg = shown[0], load_config(config, ['codec.sigma=2.0'])
    dataset, positions = DATASETS.build(cfg.val_dataloader.dataset), (0, 2, 5, 7)
    # The first of the eight, the last, and two between.
    names = [dataset[position]['data_samples'].sample_id.replace('/', '_') for position in positions]
    expected = [f'epoch_{epoch:03d}_{name}.jpg' for epoch in (1, 2) for name in names]
    assert sorted(path.name for path in (work_dir / 'pictures').iterdir()) == sorted(expected)
    drawn = [cv2.imread(str(work_dir / 'pictures' / name)) for name in expected[4:]]
    # The checkpoint has the averaged weights for its own, and keeps the others beside them.
    checkpoint = torch.load(work_dir / 'model_2.pth', weights_only=True)
    raw = {name.removeprefix('module.'): value for name, value in checkpoint['ema_state_dict'].items()}
    apart = []
    for state in (checkpoint['state_dict'], {name: raw[name] for name in checkpoint['state_dict']}):
        model = MODELS.build(cfg.model).eval()
        model.load_state_dict(state)
        jpegs = [cv2.imencode('.jpg', sheet)[1] for _, sheet in prediction_sheets(model, dataset, positions)]
        sheets = [cv2.imdecode(jpeg, cv2.IMREAD_COLOR) for jpeg in jpegs]
        apart.append(max(np.abs(one.astype(int) - other).mean() for one, other in zip(drawn, sheets, strict=True)))
    # Of 255.
    assert apart[0] < 0.01
    assert apart[1] > 0.05


def test_pictures_change_nothing_in_the_training(shown, config):
    work_dir = config.parent / 'plain'
    run_tool('train', config, '--work-dir', work_dir, '--cfg-options', 'codec.sigma=(2.0)')
    assert not (work_dir / 'pictures').exists()
    one, other = (
        {row['step']: row['loss'] for row in _rows(folder) if 'iter' in row} for folder in (shown[0], work_dir)
    )
    assert one == other
    one, other = (
        torch.load(folder / 'model_2.pth', weights_only=True)['state_dict'] for folder in (shown[0], work_dir)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_summary_and_its_command(shown, config, tmp_path):
    work_dir, text = shown
    summary = json.loads((work_dir / 'run_summary.json').read_text())
    assert (summary['epochs'], summary['iterations'], summary['images']) == (2, 20, 160)
    assert summary['duration_s'] > summary['images'] / summary['images_per_s']
    figures = [row for row in _rows(work_dir) if 'iter' not in row]
    best = min(figures, key=lambda row: row['pog/mean_mm'])
    assert summary['best']['value'] == best['pog/mean_mm']
    assert summary['best']['epoch'] == best['step']
    assert summary['last']['epoch'] == 2
    assert summary['last']['figures']['pog/mean_mm'] == figures[-1]['pog/mean_mm']
    # The last line of the log, as it stands there, in a shell.
    command = text.strip().splitlines()[-1].partition('Done. Test the best checkpoint: ')[2]
    assert command == summary['test']['command']
    assert command.startswith(f"python tools/test.py '{config}' ")
    assert shlex.split(command)[-3:] == ['--cfg-options', 'show_every=1', 'codec.sigma=(2.0)']
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    done = subprocess.run(
        ['bash', '-c', command], cwd=ROOT, env={**os.environ, 'PATH': path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert f'checkpoint: epoch {best["step"]}, chosen by the best pog/mean_mm' in done.stdout


@pytest.mark.parametrize(
    ('options', 'best', 'which', 'file'),
    [
        ([], True, 'the best checkpoint', 'best_pog_mean_mm_model_3.pth'),
        ([], False, 'the last checkpoint', 'model_4.pth'),
        (['splits.val=test'], True, 'the last checkpoint (validation and test share persons)', 'model_4.pth'),
        (['splits.val=test', 'allow_leak=True'], True, 'the best checkpoint', 'best_pog_mean_mm_model_3.pth'),
        (['test_dataloader=None'], True, None, None),
    ],
)
def test_which_checkpoint_is_to_be_tested(config, tmp_path, monkeypatch, options, best, which, file):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'model_4.pth').touch()
    hub, saver = MessageHub('which'), CheckpointHook(save_best='pog/mean_mm', rule='less')
    saver.out_dir = str(tmp_path)
    if best:
        # The folder was moved since.
        hub.update_info_dict({'best_ckpt': '/old/best_pog_mean_mm_model_3.pth', 'best_score': np.float64(math.pi)})
    runner = SimpleNamespace(
        cfg=load_config(config, options), hooks=[saver], message_hub=hub, work_dir=str(tmp_path), epoch=4, max_epochs=4,
        iter=40,
    )  # fmt: skip
    summary = summarise(runner, None)
    if which is None:
        assert summary['test'] is None
    else:
        assert summary['test'] == {
            'checkpoint': which, 'command': f"python tools/test.py '{config}' {file}",
        }  # fmt: skip
    assert (summary['best'] or {}).get('epoch') == (3 if best else None)


@pytest.mark.parametrize(
    ('name', 'tiles'),
    [('regression/nano_synth_96', 2), ('regression/resnet18_synth_480_vp', 4), ('landmark/pupilnet_synth_48_nano', 3),
     ('ctdet_gazeface/nano_synth_160', 6)],
)  # fmt: skip
def test_pictures_of_every_family(synth_close, tmp_path, name, tiles):
    options = {'data_root': str(synth_close)}
    if 'resnet18' in name:
        options |= {'model.backbone.pretrained': None}
    cfg = load_config(ROOT / f'configs/{name}.py', options)
    model = MODELS.build(cfg.model).eval()
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    runner = SimpleNamespace(
        model=model, val_dataloader=SimpleNamespace(dataset=dataset), epoch=3, work_dir=str(tmp_path),
        visualizer=SimpleNamespace(_vis_backends={}),
    )  # fmt: skip
    ShowPredictionsHook(2).after_val_epoch(runner)
    ShowPredictionsHook(0).after_val_epoch(runner)
    assert not list(tmp_path.iterdir())
    state = torch.get_rng_state()
    ShowPredictionsHook(3, count=2).after_val_epoch(runner)
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    pictures = [cv2.imread(str(path)) for path in (tmp_path / 'pictures').glob('epoch_003_*.jpg')]
    columns, rows = min(tiles, 3), math.ceil(tiles / 3)
    assert [picture.shape[:2] for picture in pictures] == [
        (rows * 296 + (rows + 1) * 8, columns * 480 + (columns + 1) * 8)
    ] * 2


@pytest.mark.parametrize('arguments', [{'interval': -1}, {'interval': 1, 'count': 0}])
def test_pictures_need_whole_numbers(arguments):
    with pytest.raises(UserError, match='interval >= 0 and count >= 1'):
        ShowPredictionsHook(**arguments)
