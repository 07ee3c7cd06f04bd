"""Structured pruning: nothing dropped is the identity, dropped zeros change nothing, the largest norms stay."""

import numpy as np
import pytest
import torch
from conftest import ROOT, run_tool
from settled import load, pictures, settled
from torch import nn

from evg.deploy.prune import prune
from evg.engine.network import load_network
from evg.errors import UserError
from evg.registry import MODELS

NANO = 'configs/ctdet_gazeface/nano_synth_160.py'
SMALLER = ['model.neck.channels=(40,24,16)', *(f'model.heads.{h}.head_conv=16' for h in ('heatmap', 'offset'))]
SMALLER += ['model.heads.face_center.head_conv=20']


def _pair(overrides=()):
    """A network and an empty one of the smaller config."""
    model = settled(load(NANO, overrides))
    return model, MODELS.build(load(NANO, [*overrides, *SMALLER]).model)


def _darken(model, layer, norm, channels):
    """Make output channels 0 whatever the input is: no weights, and a bias that the ReLU cuts off."""
    axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    with torch.no_grad():
        layer.weight.transpose(0, axis)[channels] = 0
        if layer.bias is not None:
            layer.bias[channels] = -0.1 if norm is None else 0.3
        if norm is not None:
            norm.running_mean[channels] = 0.3 if layer.bias is not None else 0
            norm.bias[channels] = -0.2


@pytest.mark.parametrize('refine', ['dcn', 'conv', None])
def test_dropping_dark_channels_changes_no_output(refine):
    model, child = _pair([f'model.neck.refine={refine}'])
    generator = torch.Generator().manual_seed(0)
    steps = model.neck.steps
    for i, layer in enumerate(steps):
        conv = getattr(layer, 'conv', layer)
        if isinstance(conv, nn.Conv2d | nn.ConvTranspose2d) or hasattr(layer, 'offset_mask'):
            width = steps[i + 1].num_features
            kept = {48: 40, 32: 24, 24: 16}[width]
            _darken(model, conv, steps[i + 1], torch.randperm(width, generator=generator)[: width - kept])
    for head in model.heads.values():
        kept = 20 if head.output == 'face_heatmap' else 16
        _darken(model, head.branch[0], None, torch.randperm(24, generator=generator)[: 24 - kept])
    pruned = prune(model, child)
    child.load_state_dict(pruned.state_dict)
    images = pictures(2, (160, 96), seed=1)
    with torch.no_grad():
        expected, found = model(images), child.eval()(images)
    for name, value in expected.items():
        assert value.std() > 0.05
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=0)
    assert len(pruned.cuts) == (6 if refine else 3) + 3
    assert all(cut.norm_kept == pytest.approx(1, abs=1e-6) and cut.after < cut.before for cut in pruned.cuts)


def test_pruning_nothing_is_the_identity():
    model = settled(load(NANO))
    pruned = prune(model, MODELS.build(load(NANO).model))
    assert pruned.cuts == []
    assert pruned.state_dict.keys() == model.state_dict().keys()
    assert all(torch.equal(value, pruned.state_dict[name]) for name, value in model.state_dict().items())


def test_the_channels_with_the_largest_norm_stay():
    """In numpy: the first deconvolution of 48 channels with its batch norm folded in, and a head's first layer."""
    model, child = _pair()
    before = {name: value.double().numpy() for name, value in model.state_dict().items()}
    pruned = prune(model, child)
    factor = before['neck.steps.1.weight'] / np.sqrt(before['neck.steps.1.running_var'] + 1e-5)
    weight = before['neck.steps.0.weight'].transpose(1, 0, 2, 3) * factor[:, None, None, None]
    bias = before['neck.steps.1.bias'] - before['neck.steps.1.running_mean'] * factor
    norm = np.sqrt((weight**2).sum(axis=(1, 2, 3)) + np.maximum(bias, 0) ** 2)
    kept = np.sort(np.argsort(norm)[-40:])
    state = {name: value.numpy() for name, value in pruned.state_dict.items()}
    np.testing.assert_allclose(state['neck.steps.0.weight'], before['neck.steps.0.weight'][:, kept], rtol=1e-6)
    np.testing.assert_allclose(state['neck.steps.1.running_mean'], before['neck.steps.1.running_mean'][kept], rtol=1e-6)
    assert state['neck.steps.3.weight'].shape == (40, 24, 4, 4)
    cut = pruned.cuts[0]
    assert (cut.layer, cut.before, cut.after) == ('neck.steps.0', 48, 40)
    assert cut.norm_kept == pytest.approx(np.sqrt((norm[kept] ** 2).sum() / (norm**2).sum()))
    # The head reads the channels of the last step that stayed.
    last = [c for c in pruned.cuts if c.layer == 'neck.steps.6']
    assert last[0].after == 16
    weight = before['heads.heatmap.branch.0.weight']
    columns = [
        i
        for i in range(24)
        if any(np.allclose(before['neck.steps.7.bias'][i], value) for value in state['neck.steps.7.bias'])
    ]
    norm = np.sqrt(
        (weight[:, columns] ** 2).sum(axis=(1, 2, 3)) + np.maximum(before['heads.heatmap.branch.0.bias'], 0) ** 2
    )
    rows = np.sort(np.argsort(norm)[-16:])
    np.testing.assert_allclose(state['heads.heatmap.branch.0.weight'], weight[rows][:, columns], rtol=1e-6)
    np.testing.assert_allclose(
        state['heads.heatmap.branch.2.weight'], before['heads.heatmap.branch.2.weight'][:, rows], rtol=1e-6
    )


def test_heads_of_every_stack_and_of_a_few_numbers_follow():
    path = 'configs/ctdet_gaze/hourglass_eve_480.py'
    model = MODELS.build(load(path).model)
    child = MODELS.build(load(path, ['model.heads.heatmap.head_conv=64', 'model.heads.offset.head_conv=64']).model)
    pruned = prune(model, child)
    child.load_state_dict(pruned.state_dict)
    assert sorted(cut.layer for cut in pruned.cuts) == sorted(
        f'{stack}.{head}.branch.0' for stack in ('heads', 'earlier_heads.0') for head in ('heatmap', 'offset')
    )
    # A vector head behind a neck reads fewer features.
    extra = ['+model.neck={"type":"DeconvNeck","channels":(16,12,8)}']
    model = MODELS.build(load('configs/regression/nano_synth_96.py', extra).model)
    extra = ['+model.neck={"type":"DeconvNeck","channels":(16,12,6)}']
    child = MODELS.build(load('configs/regression/nano_synth_96.py', extra).model)
    child.load_state_dict(prune(model, child).state_dict)


def test_networks_that_differ_in_more_are_refused():
    model = settled(load(NANO))
    with pytest.raises(UserError, match=r'differ in more than channels.*backbone\.'):
        prune(model, MODELS.build(load(NANO, ['+model.backbone.channels=(24,32,64,96,64)']).model))
    with pytest.raises(UserError, match=r'differ in more than channels.*not in the smaller one'):
        prune(model, MODELS.build(load('configs/ctdet_gaze/nano_synth_160.py').model))
    with pytest.raises(UserError, match=r'neck\.steps\.0 has 48 channels and would have 64'):
        prune(model, MODELS.build(load(NANO, ['model.neck.channels=(64,32,24)']).model))


def test_the_tool_prunes_a_checkpoint_and_training_goes_on_from_it(synth_close, tmp_path):
    config = ROOT / 'configs/ctdet_gaze/nano_synth_160.py'
    (tmp_path / 'small_synth_160.py').write_text(
        f"_base_ = '{config}'\nmodel = dict(neck=dict(channels=(40, 24, 16)), heads=dict(heatmap=dict(head_conv=16)))\n"
    )
    cfg = load('configs/ctdet_gaze/nano_synth_160.py')
    model = settled(cfg)
    facts = {'train': {'synth': {'train': ['p00']}}, 'val': {}, 'best': None, 'early_stop': False}
    torch.save({'state_dict': model.state_dict(), 'meta': {'evg_data': facts, 'epoch': 3}}, tmp_path / 'm.pth')
    done = run_tool('prune', config, tmp_path / 'm.pth', tmp_path / 'small_synth_160.py', tmp_path / 'start.pth')
    assert 'neck.steps.0: 40 of 48 channels' in done.stdout
    checkpoint = torch.load(tmp_path / 'start.pth', weights_only=True)
    # Who the larger one was trained on is not forgotten; which epoch it was is.
    assert checkpoint['meta'] == {'evg_data': facts}
    small = load(tmp_path / 'small_synth_160.py')
    assert load_network(small, str(tmp_path / 'start.pth'))[0].neck.out_channels == 16
    options = [f'data_root={synth_close}', f'load_from={tmp_path / "start.pth"}', 'train_cfg.max_epochs=1']
    options += ['train_dataloader.batch_size=8', 'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0']
    options += [
        'val_dataloader.dataset.max_samples=4',
        '+train_dataloader.dataset.max_samples=8',
    ]
    run_tool('train', tmp_path / 'small_synth_160.py', '--work-dir', tmp_path / 'run', '--cfg-options', *options)
    trained = torch.load(tmp_path / 'run' / 'model_1.pth', weights_only=True)['state_dict']
    start = checkpoint['state_dict']['backbone.stages.1.0.weight']
    # One step of training away from where it started, not from random weights.
    assert 0 < (trained['backbone.stages.1.0.weight'] - start).abs().max() < 0.1 * start.abs().max()
