"""The switches of `speed`, and that no step of loss or decoding waits for the device."""

import json

import numpy as np
import pytest
import torch
from conftest import CONFIGS, ROOT, run_tool
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from settled import load

from evg.config import load_config
from evg.engine.speed import compile_parts, switch
from evg.errors import ConfigError, UserError
from evg.models.flops import build_on_meta
from evg.registry import MODELS

CONFIG = 'configs/ctdet_gaze/nano_synth_160.py'
TINY = ['model.backbone.channels=(4,4,6,6,8)', 'model.neck.channels=(6,4)', 'codec.stride=8']
LABELS = {
    'gt_vp_px': lambda codec: np.divide(codec.virtual_plane.size_px, 3),
    'gt_gaze': lambda codec: np.array([0.1, 0.2, -1.0]),
    'gt_face_center_input_px': lambda codec: np.divide(codec.input_frame.input_size, 3),
    'gt_landmarks_input_px': lambda codec: np.full((8, 2), 9.0),
}


def _switched(*options):
    cfg = load_config(ROOT / CONFIG, options)
    switch(cfg)
    return cfg.optim_wrapper


def _built(layer, wrapper):
    """As the runner builds it."""
    with DefaultScope.overwrite_default_scope('evg'):
        return build_optim_wrapper(layer, wrapper)


def test_without_switches_nothing_changes():
    assert _switched() == load_config(ROOT / CONFIG).optim_wrapper


def test_switches_reach_the_optimiser():
    wrapper = _switched('speed.amp=bf16', 'speed.fused=True', 'speed.accumulate=3')
    assert wrapper.type == 'BFloat16OptimWrapper'
    assert wrapper.accumulative_counts == 3
    built = _built(torch.nn.Linear(2, 2), wrapper)
    assert built.optimizer.defaults['fused'] is True
    assert built.clip_grad_kwargs == {'max_norm': 10}


@pytest.mark.parametrize(
    ('option', 'error', 'said'),
    [
        ('speed.amp=half', ConfigError, "'fp16' or 'bf16', not 'half'"),
        ('speed.accumulate=0', ConfigError, 'from 1, not 0'),
        ('speed.accumulate=1.5', ConfigError, 'from 1, not 1.5'),
        ('speed.acumulate=2', ConfigError, 'accumulate'),
    ],
)
def test_bad_switches_are_named(option, error, said):
    with pytest.raises(error, match=said):
        _switched(option)


def test_fp16_needs_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(UserError, match='bf16'):
        _switched('speed.amp=fp16')


def test_bfloat16_computes_coarsely_and_learns_in_float32():
    wrapper = _built(torch.nn.Linear(64, 8), _switched('speed.amp=bf16'))
    layer, x = torch.nn.Linear(64, 8), torch.randn(4, 64)
    with wrapper.optim_context(layer):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), layer(x), rtol=0.02, atol=0.02)
    y.float().square().mean().backward()
    assert layer.weight.grad.dtype == layer.weight.dtype == torch.float32


def test_accumulated_batches_make_one_step_of_their_mean():
    """Losses (w - a)^2 and (w - b)^2 at learning rate 0.1: w moves by -0.1 * (2 (w - a) + 2 (w - b)) / 2."""
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, 1.0)
    config = dict(_switched('speed.accumulate=2'), optimizer=dict(type='SGD', lr=0.1), clip_grad=None)
    wrapper = _built(layer, config)
    wrapper.initialize_count_status(layer, 0, 4)
    for target, expected in ((3.0, 1.0), (7.0, 1.8)):
        with wrapper.optim_context(layer):
            loss = (layer.weight - target).square().sum()
        wrapper.update_params(loss)
        assert layer.weight.item() == pytest.approx(expected)


def test_compiled_parts_answer_as_before_and_keep_their_names():
    torch.manual_seed(0)
    model = MODELS.build(load_config(ROOT / CONFIG, TINY).model).eval()
    names, images = list(model.state_dict()), torch.randn(2, 3, 96, 160)
    with torch.no_grad():
        before = model(images)
        compile_parts(model)
        after = model(images)
    assert list(model.state_dict()) == names
    # torch says so nowhere else.
    assert all(part._compiled_call_impl is not None for part in (model.backbone, model.neck, *model.heads.values()))
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=1e-4, atol=1e-5)


def test_a_run_with_all_switches(synth_close, tmp_path):
    switches = ['speed.compile=True', 'speed.fused=True', 'speed.accumulate=2']
    loaders = [f'{name}_dataloader.num_workers=0' for name in ('train', 'val')]
    more = ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=8', 'default_hooks.logger.interval=1', *loaders]
    options = ['--cfg-options', f'data_root={synth_close}', *TINY, *switches, *more]
    run_tool('train', CONFIG, '--amp', 'bf16', '--work-dir', tmp_path / 'run', *options)
    (log,) = (tmp_path / 'run').glob('*/vis_data/scalars.json')
    losses = [row['loss'] for row in map(json.loads, log.read_text().splitlines()) if 'loss_hm' in row]
    assert len(losses) == 10
    assert np.isfinite(losses).all()
    state = torch.load(tmp_path / 'run' / 'model_1.pth', weights_only=True)['state_dict']
    assert list(state) == list(MODELS.build(load_config(ROOT / CONFIG, TINY).model).state_dict())


@pytest.mark.parametrize('path', CONFIGS)
def test_no_value_is_asked_of_the_device(path):
    """On tensors without values (the device 'meta'), whatever would wait for one fails."""
    cfg = load(path)
    model = build_on_meta(cfg.model)
    codecs = list(model.codecs.values())
    encoded = {k: v for codec in codecs for k, v in codec.encode(LABELS[codec.label](codec)).items()}
    targets = {k: torch.as_tensor(v)[None].expand(2, *np.shape(v)).to('meta') for k, v in encoded.items()}
    width, height = codecs[0].input_frame.input_size
    images = torch.empty(2, 3, height, width, device='meta')
    losses = model(images, targets, mode='loss')
    sum(value for name, value in losses.items() if name.startswith('loss')).backward()
    outputs = model(images)
    for codec in codecs:
        # The eye model's gaze is computed in numpy, in prediction alone, where the answers go to the host anyway.
        codec.eye = None
        assert all(value.is_meta for value in codec.decode(outputs).values())
