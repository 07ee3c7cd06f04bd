"""Counting: the published figures, torch's own counter, deformable and grouped convolutions by formula, the tool."""

import json

import pytest
import torch
from conftest import CONFIGS, ROOT, run_tool
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from evg.config import load_config
from evg.models.backbones import DLA34, Hourglass, SpaNet
from evg.models.flops import build_on_meta, count_flops
from evg.models.necks.deconv import ModulatedDeformConv
from evg.registry import CODECS


def _model(path):
    cfg = load_config(ROOT / path)
    return build_on_meta(cfg.model), CODECS.build(cfg.codec).input_frame.input_size


def _torch_macs(model, input_size):
    """Torch's own count, which knows nothing of deformable convolutions either."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, 3, *input_size[::-1], device='meta'))
    return counter.get_total_flops() / 2


@pytest.mark.parametrize(
    ('path', 'input_size', 'gmacs'),
    [
        ('configs/ctdet_gaze/resdcn18_eve_480.py', (512, 288), 7.10),
        ('configs/ctdet_gaze/resdcn18_eve_640.py', (672, 384), 12.42),
        ('configs/ctdet_gaze/resdcn18_eve_480.py', (512, 512), 12.62),
        ('configs/ctdet_gaze/mobv2_eve_640.py', (672, 384), 2.39),
    ],
)
def test_figures_of_the_originals(path, input_size, gmacs):
    total = count_flops(_model(path)[0], input_size)[0]
    assert round(total.macs / 1e9, 2) == gmacs
    assert total.flops == 2 * total.macs


@pytest.mark.parametrize('path', CONFIGS)
def test_every_config_agrees_with_torch(path):
    model, input_size = _model(path)
    costs = {cost.name: cost for cost in count_flops(model, input_size)}
    deformable = {name for name, cost in costs.items() if cost.kind == 'DeformConv2d'}
    rest = costs[''].macs - sum(costs[name].macs for name in deformable)
    assert rest == pytest.approx(_torch_macs(model, input_size), rel=0.01)
    assert bool(deformable) == bool(costs[''].sampling_macs)
    assert costs[''].params == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize('build', [lambda: DLA34(None), Hourglass, SpaNet])
def test_backbones_agree_with_torch(build):
    with torch.device('meta'):
        model = build()
    costs = count_flops(model, (128, 128))
    rest = costs[0].macs - sum(cost.macs for cost in costs if cost.kind == 'DeformConv2d')
    assert rest == pytest.approx(_torch_macs(model, (128, 128)), rel=0.01)


def test_deformable_convolution_by_formula():
    conv = nn.Sequential(ModulatedDeformConv(3, 8)).train()
    whole, *parts = count_flops(conv, (10, 6), batch=2)
    by_name = {part.name: part for part in parts}
    cells = 2 * 10 * 6
    assert by_name['0.conv'].macs == cells * 9 * 3 * 8
    assert by_name['0.offset_mask'].macs == cells * 9 * 3 * 27
    assert whole.macs == by_name['0.conv'].macs + by_name['0.offset_mask'].macs
    assert whole.sampling_macs == by_name['0.conv'].sampling_macs == cells * 9 * 3 * 5
    # Nothing is left behind: neither hooks nor attributes, nor the mode.
    assert conv.training
    assert all(not m._forward_hooks and not hasattr(m, '__macs__') for m in conv.modules())


@pytest.mark.parametrize('groups', [1, 2, 6])
def test_grouped_transposed_convolution_by_formula(groups):
    net = nn.Sequential(nn.Conv2d(3, 6, 1, bias=False), nn.ConvTranspose2d(6, 12, 4, 2, 1, groups=groups, bias=False))
    assert count_flops(net, (5, 4))[-1].macs == 5 * 4 * 6 * (12 // groups) * 16


def test_counting_ends_when_the_network_fails():
    net = nn.Sequential(nn.Conv2d(4, 4, 1))
    with pytest.raises((RuntimeError, AssertionError)):
        count_flops(net, (8, 8))
    assert not hasattr(net, '__macs__')
    assert torch.nn.functional.conv2d.__module__ != 'calflops.pytorch_ops'


def test_the_tool(tmp_path):
    config = 'configs/ctdet_gaze/resdcn18_eve_480.py'
    options = ['--shape', 64, 32, '--batch', 2, '--table', '--json', tmp_path / 'f.json']
    text = run_tool('analyze_flops', config, *options).stdout
    assert 'parameters 14,395,156' in text
    assert 'DeformConv2d' in text
    found = json.loads((tmp_path / 'f.json').read_text())
    assert found['params'] == 14_395_156
    assert (found['input_size'], found['batch'], found['flops']) == ([64, 32], 2, 2 * found['macs'])
    top = [module for module in found['modules'] if '.' not in module['name']]
    assert sum(module['macs'] for module in top) == found['macs']
    wrong = run_tool('analyze_flops', config, '--shape', 65, 32, code=2)
    assert 'multiples of 32' in wrong.stderr
