"""Every registered backbone, neck and head, and the architectures of the originals."""

import builtins

import numpy as np
import pytest
import timm
import torch
from conftest import ROOT

from evg.config import load_config
from evg.errors import UserError
from evg.models.backbones import DLA34, GazeNet, TimmBackbone
from evg.models.estimator import GazeEstimator
from evg.models.flops import build_on_meta
from evg.registry import BACKBONES, HEADS, MODELS, NECKS
from evg.structures import GazeDataSample

FRAME = dict(size=(128, 64), pad=0)
PLANE = dict(vp_size_px=(640, 320), ppm=1.0)
BINS = dict(type='BinnedPitchYawCodec', input_frame=FRAME, gaze_frame='camera', bins=12, limit_deg=60)
# One small example of every part; a part without one fails the tests below.
BACKBONE_EXAMPLES = {
    'DLA34': dict(pretrained=None),
    'GazeNet': dict(input_size=(128, 96)),
    'Hourglass': dict(dims=(8, 8, 12), modules=(1, 1, 2), out_channels=6),
    'MobileNetV2': dict(width=0.1, pretrained=None),
    'NanoNet': dict(channels=(4, 4, 6, 6, 8)),
    'PupilNet': dict(hourglasses=1),
    'ResNet': dict(depth=18, pretrained=None),
    'SpaNet': dict(hourglasses=1),
    'TimmBackbone': dict(name='mobilenetv3_small_050', pretrained=None),
}
NECK_EXAMPLES = {'DeconvNeck': dict(in_channels=8, channels=(8, 6), refine='dcn')}
HEAD_EXAMPLES = {
    'BinnedPitchYawHead': dict(codec=BINS),
    'FaceCenterHead': dict(head_conv=4),
    'HeatmapHead': dict(head_conv=4),
    'LandmarkHead': dict(num_landmarks=3),
    'OffsetHead': dict(head_conv=4),
    'PitchYawHead': dict(hidden=5),
    'VPPointHead': dict(),
}
HEAD_SHAPES = {'BinnedPitchYawHead': (2, 12), 'PitchYawHead': (2,), 'VPPointHead': (2,)}
HEAD_SHAPES |= {'FaceCenterHead': (1, 16, 32), 'HeatmapHead': (1, 16, 32), 'OffsetHead': (2, 16, 32)}
HEAD_SHAPES |= {'LandmarkHead': (3, 16, 32)}
TARGETS = {
    'target_heatmap': torch.rand(2, 1, 16, 32),
    'target_face_heatmap': torch.rand(2, 1, 16, 32),
    'target_landmark_heatmap': torch.rand(2, 3, 16, 32),
    'target_index': torch.tensor([3, 40]),
    'target_offset': torch.rand(2, 2),
    'target_pitchyaw_rad': torch.rand(2, 2) - 0.5,
    'target_bins': torch.tensor([[1, 2], [10, 3]]),
    'target_point': torch.rand(2, 2),
}


for _name in ('target_heatmap', 'target_face_heatmap'):
    TARGETS[_name][:, :, 5, 7] = 1


def _registered(registry):
    registry.import_from_location()
    # A user's or a test's own parts are not ours to show.
    return sorted(name for name, part in registry.module_dict.items() if part.__module__.startswith('evg.'))


def _example(examples, name):
    if name not in examples:
        pytest.fail(f'{name} is registered and has no small example in tests/test_architectures.py: add one')
    return {'type': name, **examples[name]}


def _count(module):
    return sum(p.numel() for p in module.parameters())


def _gradients(module):
    """A part's parameters without a finite gradient, and whether some gradient is not 0."""
    missing = [n for n, p in module.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    return missing, any(p.grad.abs().sum() > 0 for p in module.parameters() if p.grad is not None)


@pytest.mark.parametrize('name', _registered(BACKBONES))
def test_backbone_keeps_its_word(name):
    torch.manual_seed(0)
    backbone = BACKBONES.build(_example(BACKBONE_EXAMPLES, name))
    images = torch.randn(2, 3, 96, 128)
    features = backbone(images)
    stacks = features if isinstance(features, tuple) else (features,)
    assert len(stacks) == getattr(backbone, 'num_stacks', 1)
    if backbone.stride is None:
        expected = (2, backbone.out_channels)
    else:
        assert getattr(backbone, 'max_stride', backbone.stride) % backbone.stride == 0
        expected = (2, backbone.out_channels, 96 // backbone.stride, 128 // backbone.stride)
    assert all(stack.shape == expected for stack in stacks)
    sum(stack.square().mean() for stack in stacks).backward()
    missing, some = _gradients(backbone)
    assert not missing
    assert some


@pytest.mark.parametrize('name', _registered(NECKS))
def test_neck_keeps_its_word(name):
    torch.manual_seed(0)
    neck = NECKS.build(_example(NECK_EXAMPLES, name))
    out = neck(torch.randn(2, 8, 3, 5))
    assert out.shape == (2, neck.out_channels, 3 * neck.upscale, 5 * neck.upscale)
    out.square().mean().backward()
    assert _gradients(neck) == ([], True)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize('name', _registered(HEADS))
def test_head_keeps_its_word(name, dtype):
    torch.manual_seed(0)
    head = HEADS.build({**_example(HEAD_EXAMPLES, name), 'in_channels': 8})
    out = head(torch.randn(2, 8, 16, 32))
    assert out.shape == (2, *HEAD_SHAPES[name])
    # Half precision reaches a loss as outputs, large ones too.
    outputs = {head.output: (out * 100).to(dtype)}
    losses = head.loss(outputs, TARGETS)
    assert all(key.startswith('loss_') and value.dtype == torch.float32 for key, value in losses.items())
    total = sum(losses.values())
    assert total.isfinite()
    total.backward()
    assert _gradients(head) == ([], True)


def _vector_model(backbone, size, **head):
    codec = dict(type='PitchYawCodec', input_frame=dict(size=size, pad=0), gaze_frame='camera')
    return GazeEstimator(backbone, dict(gaze=dict(type='PitchYawHead', **head)), dict(gaze=codec))


def test_parameters_of_the_regressors_and_of_pupilnet():
    with torch.device('meta'):
        resnet = dict(type='ResNet', depth=18, pretrained=None)
        assert _count(_vector_model(resnet, (224, 224))) == 11_177_538
        assert _count(_vector_model(dict(type='GazeNet'), (120, 80))) == 1_758_774
        assert _count(_vector_model(dict(type='GazeNet'), (120, 80), hidden=1024)) == 3_854_902
        assert _count(_vector_model(dict(type='SpaNet'), (224, 224))) == 408_648
        codec = dict(type='LandmarkHeatmapCodec', input_frame=dict(size=(120, 80), pad=0))
        pupilnet = GazeEstimator(dict(type='PupilNet'), dict(p=dict(type='LandmarkHead')), dict(p=codec))
        assert _count(pupilnet) == 372_104
        assert pupilnet(torch.zeros(1, 3, 80, 120))['landmark_heatmap'].shape == (1, 8, 80, 120)


def _full(arch):
    return build_on_meta(load_config(ROOT / f'configs/ctdet_gaze/{arch}_eve_480.py').model)


def _bn_conv(kernel, before, after):
    return kernel**2 * before * after + 2 * after


def _head(channels, width):
    """hm and reg: conv 3x3 and 1x1 with biases."""
    return 2 * (9 * channels * width + width) + 3 * width + 3


def test_dla34_has_centernets_parameters():
    """The layer list of pose_dla_dcn.py at 34 layers, without the two projections that its forward drops."""

    def block(before, after):
        return _bn_conv(3, before, after) + _bn_conv(3, after, after)

    def tree(before, after, extra=0):
        project = 0 if before == after else _bn_conv(1, before, after)
        return block(before, after) + block(after, after) + project + _bn_conv(1, 2 * after + extra, after)

    def deform(before, after):
        offsets = 9 * before * 27 + 27
        return offsets + 9 * before * after + after + 2 * after

    base = _bn_conv(7, 3, 16) + _bn_conv(3, 16, 16) + _bn_conv(3, 16, 32) + tree(32, 64)
    for before, after in ((64, 128), (128, 256)):
        base += tree(before, after) + tree(after, after, extra=before + after)
    base += tree(256, 512, extra=256)
    merging = 0
    for channels, inputs, kernels in (
        (256, (512,), (4,)),
        (128, (256, 256), (4, 4)),
        (64, (128, 128, 128), (4, 4, 4)),
        (64, (128, 256), (4, 8)),
    ):
        for before, kernel in zip(inputs, kernels, strict=True):
            merging += deform(before, channels) + deform(channels, channels) + kernel**2 * channels
    total = base + merging + _head(64, 256)
    assert _count(_full('dla34')) == total == 19_465_635
    # CenterNet's file has these two more.
    assert _bn_conv(1, 64, 128) + _bn_conv(1, 128, 256) == 41_728


def test_hourglass_has_centernets_parameters():
    """The layer list of large_hourglass.py: two stacks, n=5."""
    dims, modules = (256, 256, 384, 384, 384, 512), (2, 2, 2, 2, 2, 4)

    def residual(before, after, stride=1):
        skip = _bn_conv(1, before, after) if stride != 1 or before != after else 0
        return _bn_conv(3, before, after) + _bn_conv(3, after, after) + skip

    stack = modules[5] * residual(dims[5], dims[5])
    for level in range(5):
        width, inner, count = dims[level], dims[level + 1], modules[level]
        stack += count * residual(width, width) + residual(width, inner, 2) + (count - 1) * residual(inner, inner)
        stack += (count - 1) * residual(inner, inner) + residual(inner, width)
    total = _bn_conv(7, 3, 128) + residual(128, 256, 2) + 2 * (stack + _bn_conv(3, 256, 256) + _head(256, 256))
    total += 2 * _bn_conv(1, 256, 256) + residual(256, 256)
    model = _full('hourglass')
    assert _count(model) == total == 190_062_214
    assert model(torch.zeros(1, 3, 384, 512, device='meta'))['heatmap'].shape == (1, 1, 96, 128)


def test_dla34_takes_weights_in_the_names_of_its_authors(tmp_path):
    weights = timm.create_model('dla34', pretrained=False).state_dict()
    torch.save(weights, tmp_path / 'dla34.pth')
    base = DLA34(str(tmp_path / 'dla34.pth')).base
    own = base.state_dict()
    assert all(torch.equal(own[key], weights[key]) for key in own)
    images = torch.randn(1, 3, 64, 64)
    theirs = timm.create_model('dla34', features_only=True, out_indices=(2, 3, 4, 5))
    theirs.load_state_dict(weights, strict=False)
    for ours, reference in zip(base.eval()(images), theirs.eval()(images), strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-4, rtol=1e-4)


def _stacked(num_stacks):
    torch.manual_seed(0)
    backbone = dict(type='Hourglass', num_stacks=num_stacks, dims=(8, 8, 8), modules=(1, 1, 1), out_channels=8)
    heads = dict(heatmap=dict(type='HeatmapHead', head_conv=4), offset=dict(type='OffsetHead', head_conv=4))
    codec = dict(type='VPHeatmapCodec', input_frame=FRAME, **PLANE)
    return GazeEstimator(backbone, heads, dict(gaze=codec))


def test_losses_of_stacks_are_averaged_and_the_last_answers():
    model = _stacked(3).eval()
    images = torch.randn(2, 3, 64, 128)
    targets = {key: TARGETS[key] for key in ('target_heatmap', 'target_index', 'target_offset')}
    targets['target_vp_px'] = torch.tensor([[100.0, 100.0], [300.0, 50.0]])
    features = model.backbone(images)
    heads = [*model.earlier_heads, model.heads]
    each = [
        h['heatmap'].loss({'heatmap': h['heatmap'](f)}, targets)['loss_hm']
        for h, f in zip(heads, features, strict=True)
    ]
    losses = model(images, targets, mode='loss')
    torch.testing.assert_close(losses['loss_hm'], torch.stack(each).mean())
    torch.testing.assert_close(model(images)['heatmap'], model.heads['heatmap'](features[-1]))
    model.train()
    losses = model(images, targets, mode='loss')
    sum(value for key, value in losses.items() if key.startswith('loss')).backward()
    assert _gradients(model)[0] == []


def test_an_input_that_hourglass_cannot_halve_is_named():
    codec = dict(type='VPHeatmapCodec', input_frame=dict(size=(480, 270), pad=31), **PLANE)
    with torch.device('meta'), pytest.raises(ValueError, match=r'stride 128: .* input_frame\.pad=127'):
        GazeEstimator(dict(type='Hourglass'), dict(h=dict(type='HeatmapHead')), dict(gaze=codec))


def test_gazenet_names_a_wrong_picture():
    with pytest.raises(UserError, match=r'120 x 80 px and got 64 x 32: .*@input_frame'):
        GazeNet()(torch.zeros(1, 3, 32, 64))
    with pytest.raises(UserError, match='30 x 30 px are too few'):
        GazeNet((30, 30))


@pytest.mark.parametrize('name', ['regression', 'regression_bins', 'regression_vp', 'landmark'])
def test_base_models_build_train_and_predict(name, tmp_path):
    torch.manual_seed(0)
    size = (64, 32)
    data = 'frames' if name == 'regression_vp' else 'patches'
    bases = ['default_runtime', 'schedules/adam_20e', 'datasets/loaders', f'datasets/{data}', f'models/{name}']
    text = f'_base_ = {[f"{ROOT}/configs/_base_/{base}.py" for base in bases]}\n'
    text += f'input_frame = dict(size={size}, pad=0)\n'
    text += 'vp_size_px = (640, 320)\nppm = 1.0\n' if data == 'frames' else ''
    (tmp_path / 'c.py').write_text(text)
    cfg = load_config(tmp_path / 'c.py')
    if 'pretrained' in cfg.model.backbone:
        cfg.model.backbone.update(pretrained=None, depth=18)
    model = MODELS.build(cfg.model)
    codec = next(iter(model.codecs.values()))
    labels = {'gt_gaze': (0.1, -0.2, -1), 'gt_vp_px': (100.0, 50.0), 'gt_landmarks_input_px': np.arange(16.0)}
    encoded = codec.encode(labels[codec.label])
    targets = {key: torch.from_numpy(np.stack([value, value])) for key, value in encoded.items()}
    images = torch.randn(2, 3, *size[::-1])
    losses = model(images, targets, mode='loss')
    sum(value for key, value in losses.items() if key.startswith('loss')).backward()
    assert _gradients(model) == ([], True)
    # The codec's figure for the log stands beside the losses, and everything has a finite answer of its field's name.
    assert any(not key.startswith('loss') and not value.requires_grad for key, value in losses.items())
    assert codec.describe()
    samples = [GazeDataSample(str(i), '', 'p', affine=np.array([[2.0, 0, 5], [0, 2, 3]])) for i in range(2)]
    model.eval()(images, data_samples=samples, mode='predict')
    fields = {'regression_vp': ('pred_vp_px', 'pred_plane_mm'), 'landmark': ('pred_landmarks_px', 'pred_score')}
    for field in fields.get(name, ('pred_gaze', 'pred_pitchyaw_rad')):
        assert np.isfinite(getattr(samples[0], field)).all()
    assert set(vars(samples[0])) == set(GazeDataSample.__dataclass_fields__)
    if name == 'landmark':
        inner = codec.decode(model(images))['pred_landmarks_input_px'][0].detach().numpy()
        np.testing.assert_allclose(samples[0].pred_landmarks_px * 2 + (5, 3), inner, atol=1e-4)


def test_timm_errors_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"no network 'resnet19'; did you mean 'resnet1?8"):
        TimmBackbone('resnet19', None)
    with pytest.raises(UserError, match='no feature map out_index=9'):
        TimmBackbone('mobilenetv3_small_050', None, 9)
    with pytest.raises(UserError, match='no file'):
        TimmBackbone('mobilenetv3_small_050', str(tmp_path / 'missing.pth'))
    torch.save({'a.weight': torch.zeros(1)}, tmp_path / 'other.pth')
    with pytest.raises(UserError, match="not a state dict of timm's mobilenetv3"):
        TimmBackbone('mobilenetv3_small_050', str(tmp_path / 'other.pth'))
    half = {k: v for k, v in timm.create_model('mobilenetv3_small_050').state_dict().items() if 'blocks.3' not in k}
    torch.save(half, tmp_path / 'half.pth')
    with pytest.raises(UserError, match=r'it lacks blocks\.3\.0\.'):
        TimmBackbone('mobilenetv3_small_050', str(tmp_path / 'half.pth'))
    create = timm.create_model

    def offline(name, pretrained=False, **options):
        if pretrained:
            raise OSError('no way out')
        return create(name, **options)

    monkeypatch.setattr(timm, 'create_model', offline)
    with pytest.raises(UserError, match=r'no way out.*model\.backbone\.pretrained=/path'):
        TimmBackbone('mobilenetv3_small_050', 'imagenet')
    real_import = builtins.__import__

    def without_timm(name, *args):
        if name == 'timm':
            raise ImportError(name)
        return real_import(name, *args)

    monkeypatch.setattr(builtins, '__import__', without_timm)
    with pytest.raises(UserError, match=r"pip install -e '\.\[timm\]'"):
        TimmBackbone('resnet18', None)


@pytest.mark.parametrize('name', ['mobilenetv3_small_050', 'swin_tiny_patch4_window7_224'])
def test_timm_weights_from_a_file(name, tmp_path):
    """Also of a network that answers with channels last, and whose names timm changes for its features."""
    size = {'swin_tiny_patch4_window7_224': 224}.get(name, 64)
    whole = timm.create_model(name, pretrained=False)
    torch.save(whole.state_dict(), tmp_path / 'w.pth')
    backbone = TimmBackbone(name, str(tmp_path / 'w.pth')).eval()
    first = next(iter(whole.parameters()))
    assert torch.equal(next(iter(backbone.net.parameters())), first)
    with torch.no_grad():
        features = backbone(torch.zeros(1, 3, size, size))
    assert features.shape == (1, backbone.out_channels, size // backbone.stride, size // backbone.stride)


def test_a_timm_network_for_one_size_says_so():
    backbone = TimmBackbone('swin_tiny_patch4_window7_224', None)
    with pytest.raises(UserError, match=r'swin_tiny_patch4_window7_224 of timm does not take 64 x 32 px'):
        backbone(torch.zeros(1, 3, 32, 64))


def test_landmark_maps_begin_near_zero():
    """Features of PupilNet's size, 64 channels of unit variance, times 0.001: a deviation of 0.008."""
    torch.manual_seed(0)
    maps = HEADS.build(dict(type='LandmarkHead', in_channels=64))(torch.randn(2, 64, 40, 60))
    assert maps.std().item() == pytest.approx(0.008, rel=0.3)
