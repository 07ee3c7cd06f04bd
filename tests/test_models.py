"""Networks: parameter counts of the originals, advertised shapes, losses against float64 numpy."""

import numpy as np
import pytest
import torch
import torchvision

from evg.codecs import VPHeatmapCodec
from evg.errors import UserError
from evg.geometry import InputFrame
from evg.models.backbones import MobileNetV2, NanoNet, ResNet
from evg.models.data_preprocessor import GazePreprocessor
from evg.models.estimator import GazeEstimator
from evg.models.heads import OffsetHead
from evg.models.losses import HeatmapCrossEntropyLoss, HeatmapFocalLoss, PoGLoss
from evg.models.necks import DeconvNeck
from evg.models.necks.deconv import ModulatedDeformConv
from evg.structures import GazeDataSample

FRAME = dict(size=(160, 96), pad=0)
CODEC = dict(type='VPHeatmapCodec', input_frame=FRAME, vp_size_px=(640, 720), ppm=1.0, fit='contain')
RESNET = dict(type='ResNet', pretrained=None)


def _count(module):
    return sum(p.numel() for p in module.parameters())


def _estimator(backbone=None, neck=None, face=False, **options):
    heads = dict(heatmap=dict(type='HeatmapHead'), offset=dict(type='OffsetHead'))
    codecs = dict(gaze=CODEC)
    if face:
        heads['face_center'] = dict(type='FaceCenterHead')
        codecs['face'] = dict(type='FaceCenterCodec', input_frame=dict(size=(160, 96), pad=0))
    backbone = backbone or dict(type='NanoNet', channels=(4, 8, 8, 16, 16))
    neck = neck or dict(type='DeconvNeck', channels=(16, 8, 8))
    return GazeEstimator(backbone, heads, codecs, neck, **options)


@pytest.mark.parametrize(
    ('backbone', 'neck', 'face', 'parameters'),
    [
        (dict(RESNET, depth=18), dict(type='DeconvNeck', refine='dcn'), False, 14_395_156),
        (dict(RESNET, depth=18), dict(type='DeconvNeck', refine='dcn'), True, 14_395_156 + 36_993),
        (dict(RESNET, depth=34), dict(type='DeconvNeck', refine='dcn'), False, 24_503_316),
        (dict(RESNET, depth=50), dict(type='DeconvNeck', refine='dcn'), False, 30_638_868),
    ],
)
def test_parameter_counts_of_the_original(backbone, neck, face, parameters):
    assert _count(_estimator(backbone, neck, face)) == parameters


def test_mobilenet_has_the_originals_size():
    model = _estimator(dict(type='MobileNetV2', pretrained=None), dict(type='DeconvNeck', channels=(40, 40, 40)))
    assert _count(model) / 1e6 == pytest.approx(2.22, abs=0.005)


@pytest.mark.parametrize('backbone', [ResNet(18, None), MobileNetV2(1.0, None), MobileNetV2(0.35, None), NanoNet()])
def test_advertised_channels_and_stride_are_true(backbone):
    features = backbone.eval()(torch.zeros(1, 3, 64, 96))
    assert features.shape == (1, backbone.out_channels, 64 // backbone.stride, 96 // backbone.stride)


@pytest.mark.parametrize('refine', ['dcn', 'conv', None])
@pytest.mark.parametrize('kernel', [2, 3, 4])
def test_neck_doubles_three_times(refine, kernel):
    neck = DeconvNeck(24, (16, 12, 8), refine, kernel)
    assert neck.steps[-3].kernel_size == (kernel, kernel)
    assert neck(torch.randn(2, 24, 3, 5)).shape == (2, neck.out_channels, 3 * neck.upscale, 5 * neck.upscale)


def test_deformable_conv_starts_as_half_a_plain_conv():
    torch.manual_seed(0)
    conv = ModulatedDeformConv(6, 4)
    x = torch.randn(2, 6, 9, 11)
    plain = torch.nn.functional.conv2d(x, 0.5 * conv.conv.weight, conv.conv.bias, padding=1)
    torch.testing.assert_close(conv(x), plain, atol=1e-5, rtol=1e-4)


def test_deformable_conv_follows_its_offsets():
    conv = ModulatedDeformConv(1, 1)
    with torch.no_grad():
        conv.conv.weight.zero_()[0, 0, 1, 1] = 1.0  # the centre tap alone
        conv.offset_mask.bias[8] = 2.0  # y of the centre tap: two rows down
        conv.offset_mask.bias[9] = -1.0  # x: one column to the left
        conv.offset_mask.bias[18 + 4] = 30.0  # mask of the centre tap: 1
    x = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(conv(x)[0, 0, :6, 1:], x[0, 0, 2:, :7], atol=1e-5, rtol=1e-4)


def test_focal_loss_against_float64_numpy():
    rng = np.random.default_rng(0)
    codec = VPHeatmapCodec(InputFrame((160, 96), 0), (640, 720), 1.0, fit='contain')
    target = np.stack([codec.encode(p)['target_heatmap'] for p in rng.uniform(0, 640, (4, 2))])
    logits = rng.normal(-2, 3, target.shape)
    p = 1 / (1 + np.exp(-logits))
    expected, positives = 0.0, 0
    for q, t in zip(p.ravel(), target.ravel().astype(np.float64), strict=True):
        if t == 1:
            expected -= (1 - q) ** 2 * np.log(q)
            positives += 1
        else:
            expected -= (1 - t) ** 4 * q**2 * np.log(1 - q)
    assert positives == 4
    got = HeatmapFocalLoss()(torch.from_numpy(logits), torch.from_numpy(target))
    assert float(got) == pytest.approx(expected / positives, rel=1e-5)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_focal_loss_is_finite_for_extreme_logits_and_empty_targets(dtype):
    target = torch.zeros(2, 1, 4, 4)
    for value in (-80.0, 80.0):
        logits = torch.full((2, 1, 4, 4), value, dtype=dtype, requires_grad=True)
        loss = HeatmapFocalLoss()(logits, target)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()
    # Nothing positive: the sum itself, not divided. All right answers cost nothing.
    assert float(HeatmapFocalLoss()(torch.full((2, 1, 4, 4), -80.0), target)) == 0


def test_cross_entropy_against_float64_numpy():
    rng = np.random.default_rng(0)
    target = np.stack(
        [
            VPHeatmapCodec(InputFrame((160, 96), 0), (640, 720), 1.0).encode(p)['target_heatmap']
            for p in rng.uniform(0, 640, (3, 2))
        ]
    )
    logits = rng.normal(0, 3, target.shape)
    expected = []
    for x, t in zip(logits.reshape(3, -1), target.reshape(3, -1).astype(np.float64), strict=True):
        log_p = x - np.log(np.exp(x).sum())
        expected.append(-(t / t.sum() * log_p).sum())
    got = HeatmapCrossEntropyLoss()(torch.from_numpy(logits), torch.from_numpy(target))
    assert float(got) == pytest.approx(np.mean(expected), rel=1e-5)
    assert float(HeatmapCrossEntropyLoss()(torch.from_numpy(logits), torch.zeros(target.shape))) == 0


def test_offset_loss_by_hand():
    head = OffsetHead(4)
    offset = torch.zeros(2, 2, 3, 4)
    offset[0, :, 1, 2] = torch.tensor([0.5, 0.25])
    targets = {'target_index': torch.tensor([6, 0]), 'target_offset': torch.tensor([[0.1, 0.25], [0.2, 0.6]])}
    # |0.5 - 0.1| + 0 + 0.2 + 0.6 over four numbers.
    assert float(head.loss({'offset': offset}, targets)['loss_off']) == pytest.approx(1.2 / 4)


@pytest.mark.parametrize('formulation', ['mean_distance', 'distance_of_mean'])
def test_pog_loss_by_hand(formulation):
    codec = VPHeatmapCodec(InputFrame((160, 96), 0), (640, 720), 1.0, fit='contain')
    targets = {k: torch.as_tensor(v)[None] for k, v in codec.encode((400.0, 500.0)).items()}
    column, row = int(targets['target_index']) % 40, int(targets['target_index']) // 40

    def loss(*peaks, shift=0.0):
        logits = torch.full((1, 1, 24, 40), -20.0)
        for dx in peaks:
            logits[0, 0, row, column + dx] = 20.0
        offset = (targets['target_offset'] + torch.tensor([shift, 0.0])).view(1, 2, 1, 1).expand(1, 2, 24, 40)
        out = PoGLoss(codec, 2.0, formulation)({'heatmap': logits, 'offset': offset}, targets)
        return float(out['loss_pog'])

    # The truth costs (almost) nothing, three cells beside it 2 x 3, by offset or by cell.
    assert loss(0) == pytest.approx(0, abs=3e-3)
    assert loss(0, shift=3.0) == pytest.approx(6, rel=1e-4)
    assert loss(3) == pytest.approx(6, rel=1e-4)
    # Two modes at +-4 cells: a drawn point is off by 4, their mean by nothing.
    assert loss(-4, 4) == pytest.approx({'mean_distance': 8, 'distance_of_mean': 0}[formulation], abs=3e-3)


def test_pog_loss_is_off_at_weight_0_and_names_its_formulations():
    codec = VPHeatmapCodec(InputFrame((160, 96), 0), (640, 720), 1.0, fit='contain')
    assert PoGLoss(codec, 0.0)({}, {}) == {}
    with pytest.raises(ValueError, match='distance_of_mean'):
        PoGLoss(codec, 1.0, 'x')


def _batch(codec_names=('gaze',), size=3):
    rng = np.random.default_rng(0)
    model = _estimator(face='face' in codec_names)
    points = rng.uniform(50, 600, (size, 2))
    encoded = [model.codecs['gaze'].encode(p) for p in points]
    if 'face' in codec_names:
        encoded = [{**e, **model.codecs['face'].encode((80, 40))} for e in encoded]
    targets = {k: torch.from_numpy(np.stack([e[k] for e in encoded])) for k in encoded[0]}
    inputs = torch.from_numpy(rng.integers(0, 255, (size, 3, 96, 160), np.uint8))
    samples = [GazeDataSample(str(i), '', 'p', affine=np.eye(2, 3)) for i in range(size)]
    return model, {'inputs': inputs, 'targets': targets, 'data_samples': samples}


@pytest.mark.parametrize('names', [('gaze',), ('gaze', 'face')])
def test_estimator_three_modes(names):
    model, batch = _batch(names)
    data = model.data_preprocessor(batch, True)
    outputs = model(data['inputs'])
    assert outputs['heatmap'].shape == (3, 1, 24, 40)
    losses = model(**data, mode='loss')
    expected = {'loss_hm', 'loss_off', 'pog_vp_px'} | ({'loss_face_hm'} if 'face' in names else set())
    assert set(losses) == expected
    assert not losses['pog_vp_px'].requires_grad
    sum(v for k, v in losses.items() if k.startswith('loss')).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    samples = model.eval()(**data, mode='predict')
    for sample in samples:
        assert np.isfinite(sample.pred_plane_mm).all()
        assert 0 <= sample.pred_score <= 1
        np.testing.assert_allclose(sample.pred_plane_mm, sample.pred_vp_px - (320, 360), atol=1e-4)
        assert (sample.pred_face_center_px is not None) == ('face' in names)
    for incomplete in ('x', 'loss', 'predict'):
        with pytest.raises(ValueError, match=f'mode must be .* not {incomplete!r}'):
            model(data['inputs'], mode=incomplete)


def test_pog_figure_is_the_distance_of_the_decoded_points():
    model, batch = _batch()
    data = model.eval().data_preprocessor(batch)
    figure = model(**data, mode='loss')['pog_vp_px']
    samples = model(**data, mode='predict')
    truth = batch['targets']['target_vp_px'].numpy()
    by_hand = np.mean([np.hypot(*(s.pred_vp_px - t)) for s, t in zip(samples, truth, strict=True)])
    assert float(figure) == pytest.approx(by_hand, rel=1e-4)


def test_l1_penalty_is_the_originals():
    model, batch = _batch()
    model.l1_penalty = 1e-3
    data = model.data_preprocessor(batch)
    weights = [p.detach().numpy().astype(np.float64) for n, p in model.named_parameters() if 'weight' in n]
    expected = 1e-3 * (1e-3 + sum(np.abs(w).sum() for w in weights))
    assert float(model(**data, mode='loss')['loss_l1'].detach()) == pytest.approx(expected, rel=1e-5)


def test_an_input_that_does_not_fit_the_backbone_is_named():
    codec = {**CODEC, 'input_frame': dict(size=(160, 100), pad=0)}
    with pytest.raises(ValueError, match=r"160 x 100 px is no multiple of the backbone's stride 32"):
        GazeEstimator(dict(type='NanoNet'), dict(h=dict(type='HeatmapHead')), dict(gaze=codec), dict(type='DeconvNeck'))


def test_a_head_can_be_removed_and_a_wrong_stride_is_named():
    model = GazeEstimator(
        dict(type='NanoNet', channels=(4, 4, 4, 4, 4)),
        dict(heatmap=dict(type='HeatmapHead'), offset=None),
        dict(gaze=CODEC),
        dict(type='DeconvNeck', channels=(4, 4, 4)),
    )
    assert set(model(torch.zeros(1, 3, 96, 160))) == {'heatmap'}
    with pytest.raises(ValueError, match='stride 4, backbone and neck give 8'):
        _estimator(neck=dict(type='DeconvNeck', channels=(4, 4)))


def test_a_codec_without_its_head_is_named():
    codecs = dict(gaze=CODEC, face=dict(type='FaceCenterCodec', input_frame=CODEC['input_frame']))
    parts = (dict(type='NanoNet', channels=(4, 4, 4, 4, 4)), dict(heatmap=dict(type='HeatmapHead'), face_center=None))
    neck = dict(type='DeconvNeck', channels=(4, 4, 4))
    with pytest.raises(ValueError, match=r"codec 'face' decodes face_heatmap.*codecs\.face=None"):
        GazeEstimator(*parts, codecs, neck)
    assert list(GazeEstimator(*parts, {**codecs, 'face': None}, neck).codecs) == ['gaze']


def test_a_neck_needs_a_map_of_features():
    with pytest.raises(ValueError, match='GazeNet gives no map of features for a neck'):
        GazeEstimator(dict(type='GazeNet'), {}, {}, dict(type='DeconvNeck'))


@pytest.mark.parametrize('order', ['rgb', 'bgr'])
@pytest.mark.parametrize('memory_format', ['channels_last', 'contiguous'])
def test_preprocessor_against_numpy(order, memory_format):
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5), np.uint8)
    channels = pictures[:, ::-1] if order == 'rgb' else pictures
    expected = (channels / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    preprocessor = GazePreprocessor(mean, std, order, memory_format)
    got = preprocessor({'inputs': torch.from_numpy(pictures)})['inputs']
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-5)
    assert got.is_contiguous(memory_format=torch.channels_last) == (memory_format == 'channels_last')


def test_pretrained_from_a_file_and_its_errors(tmp_path):
    net = torchvision.models.resnet18(weights=None)
    torch.save(net.state_dict(), tmp_path / 'r18.pth')
    model = ResNet(18, str(tmp_path / 'r18.pth'))
    torch.testing.assert_close(model.layers[3][1].conv2.weight, net.layer4[1].conv2.weight)
    with pytest.raises(UserError, match='no file'):
        ResNet(18, str(tmp_path / 'missing.pth'))
    with pytest.raises(UserError, match='not a state dict of this ResNet'):
        ResNet(34, str(tmp_path / 'r18.pth'))
    (tmp_path / 'junk.pth').write_bytes(b'junk')
    with pytest.raises(UserError, match='no file of plain tensors'):
        ResNet(18, str(tmp_path / 'junk.pth'))
    with pytest.raises(UserError, match='no ImageNet weights are published'):
        MobileNetV2(0.35, 'imagenet')


def test_imagenet_weights_offline_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    # A proxy that refuses: the machine has no way out, whatever it is.
    for name in ('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'):
        monkeypatch.setenv(name, 'http://127.0.0.1:9')
    with pytest.raises(UserError, match=r'model\.backbone\.pretrained=/path'):
        ResNet(18, 'imagenet')
