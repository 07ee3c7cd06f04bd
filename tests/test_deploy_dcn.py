"""Deformable convolutions: three ways to write one, each against torch or by hand, with offsets of several cells."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from settled import pictures, settle
from torch import nn
from torchvision.ops import DeformConv2d

from evg.deploy.dcn import deformable_conv2d, deformable_layers, replace_deformable
from evg.deploy.dcn_cost import lowering_cost
from evg.deploy.graph import attributes_of
from evg.deploy.onnx_export import export_onnx
from evg.deploy.operators import unsupported
from evg.errors import UserError
from evg.models.estimator import GazeEstimator
from evg.models.necks.deconv import ModulatedDeformConv

FRAME = dict(size=(64, 32), pad=0)
CODEC = dict(type='VPHeatmapCodec', input_frame=FRAME, vp_size_px=(640, 320), ppm=1.0)


def _network(channels=(16, 8, 8)):
    """A small network with three deformable convolutions, whose offsets reach over several cells and the border."""
    torch.manual_seed(0)
    model = GazeEstimator(
        dict(type='NanoNet', channels=(4, 8, 8, 8, 16)),
        dict(heatmap=dict(type='HeatmapHead', head_conv=8), offset=dict(type='OffsetHead', head_conv=8)),
        dict(gaze=CODEC),
        dict(type='DeconvNeck', channels=channels, refine='dcn'),
    )
    return settle(model)


class DeformableConv2D(OpRun):
    """The Ascend operator for ONNX's reference runtime."""

    op_domain = ''

    def _run(self, features, weight, offsets, *bias, **given):
        assert (given['groups'], given['deformable_groups'], given['modulated']) == (1, 1, 1)
        assert given['data_format'] == 'NCHW'
        geometry = {name: tuple(given[name]) for name in ('strides', 'pads', 'dilations')}
        assert all(len(value) == 2 for value in geometry.values())
        return (deformable_conv2d(features, weight, offsets, *bias, **geometry).astype(np.float32),)


def _run(path, images):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    return session.run(None, {'input': images.numpy()})


def test_the_ascend_operator_by_hand():
    """On the plane 3 row + 5 column a bilinear value is the plane's value; at the border a part of it is zero."""
    row, column = np.mgrid[:4, :5]
    features = (3.0 * row + 5.0 * column)[None, None]
    # x first: 0.25 of a cell to the right, then y: half a cell up, then the mask.
    offsets = np.array([0.25, -0.5, 0.5])[None, :, None, None] * np.ones((1, 3, 4, 5))
    found = deformable_conv2d(features, np.full((1, 1, 1, 1), 2.0), offsets, np.array([1.0]))[0, 0]
    np.testing.assert_allclose(found[1:, :4], (0.5 * 2 * (3 * (row - 0.5) + 5 * (column + 0.25)) + 1)[1:, :4])
    # The first row is half of row 0, the last column three quarters of column 4.
    np.testing.assert_allclose(found[0, :4], 0.5 * 2 * 0.5 * 5 * (np.arange(4) + 0.25) + 1)
    np.testing.assert_allclose(found[1:, 4], 0.5 * 2 * 0.75 * (3 * (np.arange(1, 4) - 0.5) + 5 * 4) + 1)
    # Outside of the picture there is nothing.
    offsets[:, 0] = 7
    np.testing.assert_allclose(deformable_conv2d(features, np.ones((1, 1, 1, 1)), offsets), 0)


def test_the_ascend_operator_is_a_convolution_without_offsets():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 7, 9, generator=generator, dtype=torch.float64)
    weight = torch.randn(4, 3, 3, 2, generator=generator, dtype=torch.float64)
    expected = nn.functional.conv2d(features, weight, stride=(2, 1), padding=(1, 2), dilation=(1, 2))
    offsets = np.zeros((2, 18, *expected.shape[2:]))
    offsets[:, 12:] = 1
    found = deformable_conv2d(features.numpy(), weight.numpy(), offsets, None, (2, 1), (1, 2), (1, 2))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-12)


@pytest.mark.parametrize(
    ('kernel', 'geometry', 'bias'),
    [
        (3, dict(padding=1), True),
        (3, dict(padding=2, dilation=2, stride=2), False),
        ((1, 3), dict(padding=(0, 2), dilation=(1, 2), stride=(2, 1)), True),
        (1, dict(), True),
    ],
)
def test_the_primitives_are_the_layer(kernel, geometry, bias):
    torch.manual_seed(0)
    layer = DeformConv2d(5, 4, kernel, bias=bias, **geometry)
    holder = nn.ModuleDict({'layer': layer})
    lowered = replace_deformable(holder, 'lower')['layer']
    assert lowered is not layer
    features = torch.randn(2, 5, 8, 11)
    size = nn.functional.conv2d(features, layer.weight, None, layer.stride, layer.padding, layer.dilation).shape[2:]
    positions = layer.weight[0, 0].numel()
    # Offsets of whole and half cells too, where the floor changes, and far outside.
    offset = (torch.randn(2, 2 * positions, *size) * 4).round(decimals=1)
    mask = torch.rand(2, positions, *size)
    expected = layer.double()(features.double(), offset.double(), mask.double())
    torch.testing.assert_close(lowered(features, offset, mask).double(), expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize('batch', [1, 2, None])
@pytest.mark.parametrize('mode', ['native', 'lower'])
def test_a_network_with_large_offsets_in_onnx_runtime(mode, batch, tmp_path):
    model = _network()
    exported = export_onnx(model, tmp_path / 'm.onnx', (64, 32), dcn=mode, batch=batch)
    assert (exported.dcn, exported.opset) == (mode, {'native': 19, 'lower': 11}[mode])
    for count in (batch,) if batch else (1, 3):
        images = pictures(count, (64, 32), seed=count)
        with torch.no_grad():
            expected = model(images)
        for found, value in zip(_run(tmp_path / 'm.onnx', images), expected.values(), strict=True):
            assert value.std() > 0.02
            np.testing.assert_allclose(found, value.numpy(), atol=1e-4)


@pytest.mark.parametrize('batch', [1, 2])
def test_a_network_for_ascend_in_the_reference_runtime(batch, tmp_path):
    model = _network()
    exported = export_onnx(model, tmp_path / 'm.onnx', (64, 32), dcn='ascend', batch=batch)
    proto = onnx.load(tmp_path / 'm.onnx')
    assert (exported.dcn, exported.opset) == ('ascend', 11)
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [('', 11)]
    assert unsupported(proto) == []
    nodes = [node for node in proto.graph.node if node.op_type == 'DeformableConv2D']
    assert [(node.name, node.domain) for node in nodes] == [
        (f'neck.steps.{i}/DeformableConv2D', '') for i in (0, 6, 12)
    ]
    lists = dict(strides=[1, 1], pads=[1, 1], dilations=[1, 1])
    rest = dict(groups=1, deformable_groups=1, data_format='NCHW', modulated=1)
    assert all(attributes_of(node) == {**lists, **rest} for node in nodes)
    # Its batch norms are folded into it.
    assert all(len(node.input) == 4 for node in nodes)
    assert not any(node.op_type == 'BatchNormalization' for node in proto.graph.node)
    images = pictures(batch, (64, 32), seed=1)
    with torch.no_grad():
        expected = model(images)
    found = ReferenceEvaluator(proto, new_ops=[DeformableConv2D]).run(None, {'input': images.numpy()})
    for array, value in zip(found, expected.values(), strict=True):
        np.testing.assert_allclose(array, value.numpy(), atol=1e-4)


def test_the_network_itself_is_not_changed(tmp_path):
    model = _network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for mode in ('native', 'lower', 'ascend'):
        export_onnx(model, tmp_path / 'm.onnx', (64, 32), dcn=mode)
    assert len(deformable_layers(model)) == 3
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_layers_that_cannot_be_written_are_named():
    grouped = nn.ModuleDict({'a': DeformConv2d(4, 4, 3, groups=2)})
    with pytest.raises(UserError, match=r'a has groups=2.*use native'):
        replace_deformable(grouped, 'lower')
    assert type(replace_deformable(grouped, 'native')['a']) is not DeformConv2d
    with pytest.raises(UserError, match='b is no part of a ModulatedDeformConv'):
        replace_deformable(nn.ModuleDict({'b': DeformConv2d(4, 4, 3)}), 'ascend')
    uneven = ModulatedDeformConv(4, 4)
    uneven.conv.padding = (1, 2)
    with pytest.raises(UserError, match=r'c\.conv: its two paddings differ'):
        replace_deformable(nn.ModuleDict({'c': uneven}), 'ascend')


def test_channels_that_the_ascend_kernel_does_not_take_are_named(tmp_path):
    export_onnx(_network((12, 8, 8)), tmp_path / 'm.onnx', (64, 32), dcn='ascend')
    (finding,) = unsupported(onnx.load(tmp_path / 'm.onnx'))
    assert finding.layer == 'neck.steps.6'
    assert '12 input channels: a multiple of 8' in finding.reason


def test_the_cost_of_the_primitives_is_told(tmp_path):
    model = _network()
    exported = export_onnx(model, tmp_path / 'm.onnx', (64, 32), dcn='lower')
    text = lowering_cost(model, tmp_path / 'm.onnx', exported, 1)
    assert text.startswith(f'3 deformable convolutions in primitives: {exported.nodes} nodes instead of ')
    # 4 neighbours of 9 positions of 16, 16 and 8 channels at 2 x 1, 4 x 2 and 8 x 4 cells.
    assert f'{4 * 9 * (16 * 2 + 16 * 8 + 8 * 32):,} values' in text
