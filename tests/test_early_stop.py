"""The early stop: EVG's rule by hand, and that a resumed run decides as an uninterrupted one."""

import json
import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

import evg.engine.storage  # noqa: F401  the loader that runs use
from evg.engine import EarlyStopByDelta, PlainCheckpointHook
from evg.errors import UserError
from evg.registry import HOOKS

KEY = 'pog/mean_vp_px'
NAN = float('nan')


def fake_runner(folder, done=0):
    logger = logging.getLogger('test_early_stop')
    return SimpleNamespace(
        iter=done, work_dir=str(folder), logger=logger, train_loop=SimpleNamespace(stop_training=False)
    )


def validate(hook, runner, values):
    """One validation after every ten iterations; (best, count, stopped) after each."""
    states = []
    for value in values:
        runner.iter += 10
        hook.after_val_epoch(runner, {KEY: value})
        states.append((*hook.state(), runner.train_loop.stop_training))
    return states


def test_the_seeds_rule_by_hand(tmp_path, caplog):
    hook = HOOKS.build({'type': 'EarlyStopByDelta'})
    assert (hook.monitor, hook.patience, hook.delta) == (KEY, 4, 10.0)
    runner = fake_runner(tmp_path)
    hook.before_train(runner)
    steps = [  # value, best, count
        (100, 100, 0),
        (95, 95, 0),
        (105, 95, 0),  # worse by exactly 10: not counted
        (105.1, 95, 1),
        (120, 95, 2),
        (NAN, 95, 3),  # not a number is worse
        (100, 95, 3),  # worse by 5: the count stays
        (94, 94, 0),
        (110, 94, 1),
        (104, 94, 1),
        (104.5, 94, 2),
        (200, 94, 3),
        (94, 94, 0),  # equal to the best counts as best
        (105, 94, 1),
        (105, 94, 2),
        (105, 94, 3),
    ]
    states = validate(hook, runner, [value for value, _, _ in steps])
    assert states == [(best, count, False) for _, best, count in steps]
    with caplog.at_level(logging.INFO, 'test_early_stop'):
        assert validate(hook, runner, [105]) == [(94, 4, True)]
    (message,) = [record.getMessage() for record in caplog.records]
    assert message == (
        'early stop: pog/mean_vp_px is 105.00; 4 validations were worse than the best, 94.00, '
        'by more than 10 (patience 4)'
    )


def test_nan_from_the_start_stops(tmp_path):
    hook = EarlyStopByDelta(patience=2)
    runner = fake_runner(tmp_path)
    hook.before_train(runner)
    assert validate(hook, runner, [NAN, float('inf')]) == [(float('inf'), 1, False), (float('inf'), 2, True)]


def test_missing_monitor_names_what_there_is(tmp_path):
    with pytest.raises(UserError, match=r"'pog/mean_vp_px', which no metric gives; available: pog/mean_mm, pog/n"):
        EarlyStopByDelta().after_val_epoch(fake_runner(tmp_path, 10), {'pog/mean_mm': 1.0, 'pog/n': 3})


@pytest.mark.parametrize('arguments', [{'patience': 0}, {'delta': -1}, {'delta': NAN}])
def test_impossible_arguments(arguments):
    with pytest.raises(UserError, match='patience >= 1 and delta >= 0'):
        EarlyStopByDelta(**arguments)


def resumed(folder, checkpoint, done):
    hook = EarlyStopByDelta(patience=2)
    runner = fake_runner(folder, done)
    hook.after_load_checkpoint(runner, checkpoint)
    hook.before_train(runner)
    return hook, runner


def test_checkpoint_before_its_validation_is_completed_from_the_file(tmp_path):
    hook, runner = EarlyStopByDelta(patience=2), fake_runner(tmp_path)
    hook.before_train(runner)
    validate(hook, runner, [50, 70])
    checkpoint = {'meta': {}}
    hook.before_save_checkpoint(runner, checkpoint)  # written at iteration 30, before the third validation
    validate(hook, runner, [80])
    assert runner.train_loop.stop_training

    again, runner = resumed(tmp_path, checkpoint, 30)
    assert again.history == [(10, 50.0), (20, 70.0), (30, 80.0)]
    assert runner.train_loop.stop_training  # the stopped run stays stopped
    earlier, runner = resumed(tmp_path, {'meta': {'early_stop': {'monitor': KEY, 'history': [(10, 50.0)]}}}, 20)
    assert earlier.state() == (50, 1)
    assert not runner.train_loop.stop_training


def test_state_comes_from_the_checkpoint_alone_elsewhere(tmp_path):
    stored = {'meta': {'early_stop': {'monitor': KEY, 'history': [(10, 50.0), (20, None)]}}}
    assert resumed(tmp_path, stored, 20)[0].state() == (50, 1)
    # The file of another run, which began otherwise, is not mixed in.
    other = {'monitor': KEY, 'history': [[10, 49.0], [20, 90.0]]}
    (tmp_path / 'early_stop.json').write_text(json.dumps(other))
    assert resumed(tmp_path, stored, 20)[0].history == [(10, 50.0), (20, None)]
    # Nor is the history of another metric.
    stored['meta']['early_stop']['monitor'] = 'angle/mean_deg'
    (tmp_path / 'early_stop.json').unlink()
    assert resumed(tmp_path, stored, 20)[0].history == []


def test_a_new_run_forgets_the_old_one(tmp_path):
    (tmp_path / 'early_stop.json').write_text('{}')
    hook, _ = resumed(tmp_path, {'meta': {'early_stop': {'monitor': KEY, 'history': [(10, 50.0)]}}}, done=0)
    assert hook.history == []
    assert not (tmp_path / 'early_stop.json').exists()


class _Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs, mode='tensor'):
        return {'loss': (self.weight - 1).square().sum()} if mode == 'loss' else [None] * len(inputs)


class _Scripted(BaseMetric):
    """The n-th value of the script after the n-th epoch."""

    default_prefix = 'pog'
    script = (90.0, 80.0, 95.0, 85.0, 91.0, 99.0, 70.0)  # best 80; counts at epochs 3, 5 and 6
    runner = None

    def process(self, data_batch, data_samples):
        self.results.extend(data_samples)

    def compute_metrics(self, results):
        return {'mean_vp_px': self.script[self.runner.epoch - 1]}


def train(folder, name, epochs, resume=False):
    _Scripted.runner = runner = Runner(
        _Model(),
        str(folder),
        train_dataloader={'dataset': [torch.zeros(1)] * 2, 'sampler': {'type': 'DefaultSampler', 'shuffle': False}},
        val_dataloader={'dataset': [torch.zeros(1)], 'sampler': {'type': 'DefaultSampler', 'shuffle': False}},
        val_evaluator=[_Scripted()],
        train_cfg={'by_epoch': True, 'max_epochs': epochs},
        val_cfg={},
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.1}},
        custom_hooks=[EarlyStopByDelta(patience=3), PlainCheckpointHook()],
        default_hooks={'logger': None},
        resume=resume,
        log_level='ERROR',
        experiment_name=name,
    )
    runner.train()
    return runner.epoch


def test_runner_stops_and_a_resumed_run_stops_at_the_same_epoch(tmp_path):
    assert train(tmp_path / 'whole', 'early_stop_whole', 7) == 6
    # Ends after the checkpoint and the validation of epoch 3, whose value that checkpoint does not hold.
    assert train(tmp_path / 'parts', 'early_stop_first', 3) == 3
    stored = torch.load(tmp_path / 'parts' / 'epoch_3.pth', weights_only=False)['meta']['early_stop']
    assert stored == {'monitor': KEY, 'history': [[2, 90.0], [4, 80.0]]}
    assert train(tmp_path / 'parts', 'early_stop_second', 7, resume=True) == 6
    histories = [
        json.loads((tmp_path / name / 'early_stop.json').read_text())['history'] for name in ('whole', 'parts')
    ]
    assert histories[0] == histories[1] == [[2, 90.0], [4, 80.0], [6, 95.0], [8, 85.0], [10, 91.0], [12, 99.0]]
