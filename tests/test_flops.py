"""Counting: the published figures, torch's own counter, deformable and grouped convolutions by formula, the tool."""

import json
import re

import pytest
import timm
import torch
import yaml
from conftest import CONFIGS, ROOT, run_tool
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from evg.config import load_config
from evg.deploy.latency import latencies
from evg.models import GazeEstimator
from evg.models.backbones import DLA34, Hourglass, SpaNet
from evg.models.flops import _Own, build_on_meta, count_config, count_flops
from evg.models.model_index import model_index_text, read_model_index
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
def test_every_config_agrees_with_torch_and_the_model_index(path, monkeypatch):
    # calflops for itself: no product is taken from torch's counter, so two counters are compared.
    monkeypatch.setattr(_Own, 'add_products', lambda *_: 0)
    cfg = load_config(ROOT / path)
    model = build_on_meta(cfg.model)
    input_size, counted = count_config(cfg)
    costs = {cost.name: cost for cost in counted}
    deformable = {name for name, cost in costs.items() if cost.kind == 'DeformConv2d'}
    rest = costs[''].macs - sum(costs[name].macs for name in deformable)
    assert rest == pytest.approx(_torch_macs(model, input_size), rel=0.01)
    assert bool(deformable) == bool(costs[''].sampling_macs)
    assert costs[''].params == sum(p.numel() for p in model.parameters())
    stored = {model['Config']: model['Metadata'] for model in read_model_index(ROOT)['Models']}.get(path)
    figures = {'Parameters': costs[''].params, 'MACs': costs[''].macs, 'Input Size': list(input_size)}
    assert stored == figures, 'run python tools/model_index.py'


def test_model_index_is_counted_anew_and_keeps_results(tmp_path):
    (tmp_path / 'configs' / 'ctdet_gaze').mkdir(parents=True)
    (tmp_path / 'configs' / '_base_').symlink_to(ROOT / 'configs' / '_base_')
    path = 'configs/ctdet_gaze/nano_synth_160.py'
    (tmp_path / path).symlink_to(ROOT / path)
    results = [{'Metrics': {'pog/mean_mm': 40.0}}]
    old = {'Models': [{'Config': path, 'Results': results, 'Metadata': {}}, {'Config': 'gone.py', 'Results': []}]}
    for stored, kept in (({}, []), (old, results)):
        (tmp_path / 'model-index.yml').write_text(yaml.safe_dump(stored))
        models = yaml.safe_load(model_index_text(tmp_path))['Models']
        assert [(model['Name'], model['Results']) for model in models] == [('ctdet_gaze/nano_synth_160', kept)]
        assert models[0]['Metadata']['Parameters'] == 894_619


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


def test_products_of_attention_by_formula():
    """A head of width 8 on n cells: a linear layer to queries, keys, values, n x n products twice."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(3, 24, bias=False)

        def forward(self, x):
            query, key, value = self.qkv(x.flatten(2).transpose(1, 2)).chunk(3, dim=2)
            return (query @ key.transpose(1, 2)).softmax(dim=2) @ value

    whole, one, inside, _ = count_flops(nn.Sequential(Attention(), nn.Identity()), (6, 4), batch=2)
    n = 6 * 4
    assert inside.macs == 2 * n * 3 * 24
    assert one.macs == whole.macs == inside.macs + 2 * (n * n * 8 * 2)


@pytest.mark.parametrize('name', ['vit_tiny_patch16_224', 'swin_tiny_patch4_window7_224', 'efficientvit_b0'])
def test_timm_with_attention_agrees_with_torch(name):
    with torch.device('meta'):
        model = timm.create_model(name)
    assert count_flops(model, (224, 224))[0].macs == pytest.approx(_torch_macs(model, (224, 224)), rel=1e-6)


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
    base = run_tool('analyze_flops', 'configs/_base_/default_runtime.py', code=2)
    assert 'default_runtime.py has no model with codecs' in base.stderr
    wrong = run_tool('analyze_flops', config, '--cfg-options', 'codec.fit=x', code=2)
    assert wrong.stderr.endswith("error: VPHeatmapCodec: fit must be 'width' (the original) or 'contain', not 'x'\n")


def test_the_tool_compares_configs_and_measures(tmp_path):
    configs = [f'configs/{folder}/nano_synth_160.py' for folder in ('ctdet_gaze', 'ctdet_gazeface')]
    options = ['--bench', '--shape', 64, 32, '--json', tmp_path / 'f.json']
    # A compilation takes half a minute.
    text = run_tool('analyze_flops', *configs, *options, env={'TORCHDYNAMO_DISABLE': '1'}).stdout
    assert re.search(r'ctdet_gaze/nano_synth_160\.py +64 x 32 +894,619 +0\.012 ', text)
    found = json.loads((tmp_path / 'f.json').read_text())
    assert [one['config'] for one in found] == configs
    for one in found:
        ways = {way['way']: way for way in one['latency']['ways']}
        assert list(ways) == ['eager', 'channels_last', 'compiled', 'onnxruntime']
        for way in ways.values():
            assert way['skipped'] or 0 < way['median_ms'] <= way['p95_ms']
        assert not ways['eager']['skipped'] and not ways['onnxruntime']['skipped']


def test_a_way_that_this_machine_does_not_have_says_so(monkeypatch):
    def no_compiler(*_, **__):
        raise RuntimeError('no C++ compiler found\nmore')

    monkeypatch.setattr(torch, 'compile', no_compiler)
    monkeypatch.setattr('evg.deploy.latency.SECONDS', 0)
    codec = dict(type='VPHeatmapCodec', input_frame=dict(size=(64, 32), pad=0), vp_size_px=(64, 32), ppm=1.0)
    backbone, neck = dict(type='NanoNet', channels=(4, 4, 4, 4, 4)), dict(type='DeconvNeck', channels=(4, 4, 4))
    model = GazeEstimator(backbone, dict(heatmap=dict(type='HeatmapHead')), dict(gaze=codec), neck)
    ways = {latency.way: latency for latency in latencies(model, (64, 32))}
    assert ways['compiled'].skipped == 'RuntimeError: no C++ compiler found'
    assert ways['eager'].runs == ways['onnxruntime'].runs == 10
