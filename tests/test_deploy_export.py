"""Export: every network as one ONNX file that answers as torch does; its layers against what ATC takes."""

import json
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import CONFIGS
from onnx import TensorProto, helper, numpy_helper
from settled import load, pictures, settled
from torch import nn

from evg.deploy.decode import decode
from evg.deploy.describe import describe
from evg.deploy.graph import attributes_of, layer_of, tidy
from evg.deploy.onnx_export import choose_opset, export_onnx
from evg.deploy.operators import check_operators, operator_table, unsupported
from evg.errors import UserError
from evg.registry import MODELS

NANO = 'configs/ctdet_gaze/nano_synth_160.py'
RES18 = 'configs/ctdet_gaze/res18_eve_480.py'
HOURGLASS = 'configs/ctdet_gaze/hourglass_eve_480.py'
SPANET = 'configs/regression/spanet_ethxgaze_224.py'
# Answers of a pair of outputs agree within this.
LIMITS = {
    'pred_plane_mm': 0.05,
    'pred_vp_px': 0.5,
    'pred_pitchyaw_rad': np.radians(0.01),
    'pred_gaze': np.radians(0.01),
    'pred_score': 1e-4,
    'pred_face_center_input_px': 1e-3,
    'pred_landmarks_input_px': 0.05,
}


def _networks():
    """Configs by their network, whatever they are trained on; of those that differ in heads, the one with most."""
    groups = {}
    for path in CONFIGS:
        model = load(path).model.to_dict()
        key = json.dumps([model['backbone'], model['neck']] if model.get('neck') else [model['backbone']])
        heads = {(name, head['type'], head.get('head_conv')) for name, head in model['heads'].items() if head}
        for group in groups.setdefault(key, []):
            if heads <= group['heads'] or heads >= group['heads']:
                group['paths'].append(path)
                if heads > group['heads']:
                    group |= {'heads': heads, 'path': path}
                break
        else:
            groups[key].append({'heads': heads, 'path': path, 'paths': [path]})
    return [group for same in groups.values() for group in same]


NETWORKS = _networks()


def _run(path, images):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {'input': images.numpy()}), strict=True))


def _assert_equal(model, found, images):
    """Raw outputs to 1e-4, answers to `LIMITS`."""
    with torch.no_grad():
        expected = model(images)
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert 0.1 < value.abs().max() < 30, name
            np.testing.assert_allclose(found[name], value.numpy(), atol=1e-4, err_msg=name)
        for codec in model.codecs.values():
            theirs = codec.decode({name: torch.from_numpy(value) for name, value in found.items()})
            for name, value in codec.decode(expected).items():
                assert (theirs[name] - value).abs().max() < LIMITS[name], name


def test_every_config_is_in_a_group():
    assert sorted(path for group in NETWORKS for path in group['paths']) == CONFIGS


@pytest.mark.parametrize('group', NETWORKS, ids=lambda group: group['path'][8:-3])
def test_every_network_answers_as_torch_does(group, tmp_path):
    width, height = load(group['path']).input_frame['size']
    # Half of the large pictures: a network has no size of its own, except GazeNet, whose pictures are small.
    smaller = [f'input_frame.size=({width // 2},{height // 2})'] if width > 300 else []
    cfg = load(group['path'], smaller)
    model = settled(cfg)
    size = next(iter(model.codecs.values())).input_frame.input_size
    exported = export_onnx(model, tmp_path / 'model.onnx', size)
    assert [path.name for path in tmp_path.iterdir()] == ['model.onnx']
    images = pictures(1, size, seed=1)
    found = _run(tmp_path / 'model.onnx', images)
    _assert_equal(model, found, images)
    # And by the decoder of model.json, without torch.
    codecs = describe(cfg, exported, 1, 'fp32', {}).codecs
    with torch.no_grad():
        expected = {key: value for codec in model.codecs.values() for key, value in codec.decode(model(images)).items()}
    answers = decode(codecs, found)
    assert answers.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(answers[name], value.numpy(), rtol=0, atol=LIMITS[name], err_msg=name)
    proto = onnx.load(tmp_path / 'model.onnx')
    has_dcn = any(node.op_type == 'DeformConv' for node in proto.graph.node)
    assert (exported.dcn, exported.opset) == (('native', 19) if has_dcn else ('none', 11))
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [('', exported.opset)]
    assert proto.ir_version <= (8 if exported.opset <= 18 else 9)
    shapes = {o.name: tuple(d.dim_value for d in o.type.tensor_type.shape.dim) for o in proto.graph.output}
    assert tuple(shapes.items()) == exported.outputs
    # Every node has a name of its own, that of its layer; nothing is left that could be folded.
    names = [node.name for node in proto.graph.node]
    assert len(set(names)) == len(names) == exported.nodes
    modules = dict(model.named_modules())
    assert {layer_of(node) for node in proto.graph.node} <= modules.keys()
    kinds = {node.op_type for node in proto.graph.node}
    assert not kinds & {'Constant', 'Identity', 'Shape', 'Dropout'}
    makers = {name: node.op_type for node in proto.graph.node for name in node.output}
    readers = Counter(name for node in proto.graph.node for name in node.input)
    for node in proto.graph.node:
        if node.op_type == 'BatchNormalization' and readers[node.input[0]] == 1:
            assert not makers.get(node.input[0], '').startswith('Conv'), node.name


@pytest.mark.parametrize(
    ('path', 'dcn'),
    [
        (NANO, 'native'),
        ('configs/ctdet_gaze/resdcn18_eve_480.py', 'lower'),
        ('configs/ctdet_gaze/resdcn18_eve_480.py', 'native'),
        ('configs/ctdet_gazeface/mobv201_eve_480.py', 'native'),
        ('configs/regression/resnet50_gaze360_448_l2cs.py', 'native'),
        ('configs/regression/gazenetv2_syntheseyes_120.py', 'native'),
        ('configs/landmark/pupilnet_synth_48_nano.py', 'native'),
    ],
)
def test_a_dynamic_batch_takes_any_number(path, dcn, tmp_path):
    overrides = ['input_frame.size=(64,64)'] if '448' in path else []
    model = settled(load(path, overrides))
    size = next(iter(model.codecs.values())).input_frame.input_size
    exported = export_onnx(model, tmp_path / 'm.onnx', size, batch=None, dcn=dcn)
    assert all(shape[0] is None and None not in shape[1:] for _, shape in exported.outputs)
    for count in (1, 3):
        images = pictures(count, size, seed=count)
        _assert_equal(model, _run(tmp_path / 'm.onnx', images), images)


@pytest.mark.parametrize('opset', [9, 13, 17, 18, 20])
def test_the_opset_is_the_one_asked_for(opset, tmp_path):
    model = settled(load(NANO))
    exported = export_onnx(model, tmp_path / 'm.onnx', (160, 96), opset=opset, batch=2)
    proto = onnx.load(tmp_path / 'm.onnx')
    assert exported.opset == proto.opset_import[0].version == opset
    images = pictures(2, (160, 96), seed=1)
    _assert_equal(model, _run(tmp_path / 'm.onnx', images), images)


def test_half_precision_computes_in_half_and_answers_in_single(tmp_path):
    model = settled(load(NANO))
    export_onnx(model, tmp_path / 'single.onnx', (160, 96))
    export_onnx(model, tmp_path / 'half.onnx', (160, 96), half=True)
    proto = onnx.load(tmp_path / 'half.onnx')
    weights = [t.data_type for t in proto.graph.initializer if len(t.dims) == 4]
    assert weights
    assert set(weights) == {TensorProto.FLOAT16}
    assert (tmp_path / 'half.onnx').stat().st_size < 0.55 * (tmp_path / 'single.onnx').stat().st_size
    images = pictures(1, (160, 96), seed=1)
    found = _run(tmp_path / 'half.onnx', images)
    with torch.no_grad():
        expected = model(images)
    for name, value in expected.items():
        assert found[name].dtype == np.float32
        # Half precision keeps 11 bits; some 30 layers add up their roundings.
        assert 1e-6 < np.abs(found[name] - value.numpy()).max() < 0.02


def test_the_same_network_gives_the_same_bytes(tmp_path):
    for name in 'ab':
        export_onnx(settled(load(NANO)), tmp_path / name, (160, 96))
    assert (tmp_path / 'a').read_bytes() == (tmp_path / 'b').read_bytes()


def test_opsets_that_the_rest_does_not_allow_are_refused():
    assert choose_opset(None, 'none') == choose_opset(None, 'ascend') == 11
    assert choose_opset(None, 'native') == 19
    assert choose_opset(None, 'none', 'int8') == 13
    assert choose_opset(20, 'native') == 20
    with pytest.raises(UserError, match=r'native \(DeformConv\) needs opset 19 or later, not 11'):
        choose_opset(11, 'native')
    with pytest.raises(UserError, match='needs opset 13 or later, not 12'):
        choose_opset(12, 'none', 'int8')
    with pytest.raises(UserError, match='must be 9 to 20, not 21'):
        choose_opset(21, 'none')


def test_an_older_file_stays_when_the_export_fails(tmp_path):
    (tmp_path / 'm.onnx').write_bytes(b'old')
    model = settled(load('configs/regression/gazenetv1_synth_120.py'))
    with pytest.raises(UserError, match='120 x 80'):
        export_onnx(model, tmp_path / 'm.onnx', (64, 64))
    assert (tmp_path / 'm.onnx').read_bytes() == b'old'
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize('groups', [1, 3])
def test_batch_norms_after_transposed_convolutions_are_folded(groups):
    """Against float64 torch; with groups the output channels of a weight are per group."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.ConvTranspose2d(6, 9, 4, 2, 1, groups=groups, bias=groups > 1), nn.BatchNorm2d(9)).eval()
    norm = layers[1]
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    images = torch.randn(2, 6, 5, 4)
    inputs = [helper.make_tensor_value_info('x', TensorProto.FLOAT, [2, 6, 5, 4])]
    outputs = [helper.make_tensor_value_info('y', TensorProto.FLOAT, [2, 9, 10, 8])]
    arrays = {'w': layers[0].weight, 'gamma': norm.weight, 'beta': norm.bias}
    arrays |= {'mean': norm.running_mean, 'var': norm.running_var}
    if groups > 1:
        arrays['b'] = layers[0].bias
    conv = helper.make_node(
        'ConvTranspose', ['x', 'w', *(['b'] if groups > 1 else [])], ['h'], name='/a/ConvTranspose', strides=[2, 2],
        pads=[1, 1, 1, 1], kernel_shape=[4, 4], group=groups,
    )  # fmt: skip
    bn = helper.make_node(
        'BatchNormalization', ['h', 'gamma', 'beta', 'mean', 'var'], ['y'], name='/b/BatchNormalization'
    )
    weights = [numpy_helper.from_array(value.detach().numpy(), name) for name, value in arrays.items()]
    graph = helper.make_graph([conv, bn], 'g', inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 11)], ir_version=6)
    tidy(model, ['a', 'b'])
    assert [node.name for node in model.graph.node] == ['a/ConvTranspose']
    assert len(model.graph.initializer) == 2
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    expected = layers.double()(images.double()).detach().numpy()
    np.testing.assert_allclose(session.run(None, {'x': images.numpy()})[0], expected, atol=2e-6)


def _graph(nodes, constants=None, opset=11):
    """A graph of nodes from x (1, 8, 6, 6) to y, for the checks of operators alone."""
    inputs = [helper.make_tensor_value_info('x', TensorProto.FLOAT, [1, 8, 6, 6])]
    outputs = [onnx.ValueInfoProto(name='y')]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, 'g', inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', opset)])


def _node(kind, *inputs, **attributes):
    return helper.make_node(kind, list(inputs), ['y'], name=f'some.layer/{kind}', **attributes)


KERNEL = np.zeros((8, 8, 3, 3), np.float32)
SCALES = np.array([1, 1, 2, 2], np.float32)
DCN = dict(strides=[1, 1], pads=[1, 1], dilations=[1, 1], groups=1, deformable_groups=1, data_format='NCHW')


@pytest.mark.parametrize(
    ('node', 'constants', 'opset', 'reason'),
    [
        (_node('Relu', 'x'), {}, 19, 'Relu is registered for opset 8..18, not 19'),
        (_node('DeformConv', 'x', 'w', 'x'), {'w': KERNEL}, 19, 'CANN registers no DeformConv; --dcn ascend'),
        (_node('Upsample', 'x', 's'), {'s': SCALES}, 10, 'registered for opset 8..9, 11..16, not 10'),
        (_node('DeformableConv2D', 'x', 'w', 'x', **DCN), {'w': KERNEL}, 17, 'for opset 9..16, not 17'),
        (_node('Einsum', 'x', equation='abcd->ab'), {}, 12, 'CANN registers no Einsum'),
        (_node('GridSample', 'x', 'x'), {}, 16, 'runs on none of 310'),
        (_node('QuantizeLinear', 'x', 's'), {'s': SCALES}, 13, 'made by AMCT'),
        (_node('Conv', 'x', 'w'), {'w': KERNEL}, 11, 'Conv without kernel_shape'),
        (_node('ConvTranspose', 'x', 'w'), {'w': KERNEL}, 11, 'without kernel_shape'),
        (_node('ConvTranspose', 'x', 'w', kernel_shape=[3, 3], dilations=[2, 2]), {'w': KERNEL}, 11, r'\[2, 2\]'),
        (_node('ConvTranspose', 'x', 'w', kernel_shape=[3, 3], auto_pad='SAME_UPPER'), {'w': KERNEL}, 11, 'SAME_UPPER'),
        (_node('MaxPool', 'x', kernel_shape=[2, 2], storage_order=1), {}, 11, 'storage_order'),
        (_node('AveragePool', 'x', kernel_shape=[2, 2], auto_pad='SAME_LOWER'), {}, 11, 'SAME_LOWER'),
        (_node('Clip', 'x'), {}, 11, 'without min and max'),
        (_node('ReduceMean', 'x', noop_with_empty_axes=1), {}, 18, 'noop_with_empty_axes'),
        (_node('Resize', 'x', '', 's', mode='cubic'), {'s': SCALES}, 11, 'mode=cubic'),
        (_node('Resize', 'x', '', 's', mode='linear', antialias=1), {'s': SCALES}, 18, 'antialias'),
        (_node('Resize', 'x', '', 'x', mode='linear'), {}, 11, 'no constants'),
        (_node('Resize', 'x', '', 's'), {'s': SCALES}, 11, 'half_pixel and round_prefer_floor'),
        (_node('Gather', 'x', 'i'), {'i': np.array([-1])}, 11, 'negative index'),
        (_node('GatherND', 'x', 'i', batch_dims=1), {'i': np.array([[0]])}, 12, 'batch_dims'),
        (_node('Slice', 'x', 'a', 'a'), {'a': np.array([0, 0, 0, 0])}, 11, 'empty output'),
        (_node('DeformableConv2D', 'x', 'w', 'x', **{**DCN, 'strides': [64, 1]}), {'w': KERNEL}, 11, 'strides'),
        (_node('DeformableConv2D', 'x', 'w', 'x', **{**DCN, 'pads': [1, 2]}), {'w': KERNEL}, 11, r'pads=\[1, 2\]'),
        (_node('DeformableConv2D', 'x', 'w', 'x', **DCN), {'w': np.zeros((8, 8, 1, 64), np.float32)}, 11, '1 x 64'),
        (_node('DeformableConv2D', 'q', 'w', 'q', **DCN), {'w': KERNEL}, 11, 'no known shape'),
    ],
)
def test_what_atc_does_not_take_names_its_layer(node, constants, opset, reason):
    model = _graph([node], constants, opset)
    with pytest.raises(UserError, match=rf'some\.layer \(some\.layer/{node.op_type}\).*{reason}'):
        check_operators(model)


def test_maps_and_channels_that_the_ascend_operator_does_not_take():
    for channels, width, reason in ((12, 6, 'a multiple of 8'), (8, 1366, 'at most 1365'), (7288, 3, 'at most 65535')):
        weight = np.zeros((1, channels, 3, 3), np.float32)
        model = _graph([_node('DeformableConv2D', 'x', 'w', 'x', **DCN)], {'w': weight})
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info('x', TensorProto.FLOAT, [1, channels, 3, width]))
        (finding,) = unsupported(model)
        assert reason in finding.reason


@pytest.mark.parametrize('path', [NANO, RES18, HOURGLASS, 'configs/regression/resnet50_gaze360_448_l2cs.py'])
def test_networks_for_atlas_are_taken(path, tmp_path):
    cfg = load(path)
    model = MODELS.build(cfg.model).eval()
    export_onnx(model, tmp_path / 'm.onnx', next(iter(model.codecs.values())).input_frame.input_size)
    proto = onnx.load(tmp_path / 'm.onnx')
    assert unsupported(proto) == []
    lines = operator_table(proto).splitlines()
    assert len(lines) == 1 + len({node.op_type for node in proto.graph.node})
    convs = sum(node.op_type == 'Conv' for node in proto.graph.node)
    assert f'Conv {convs} 8..18' in [' '.join(line.split()) for line in lines]
    for node in proto.graph.node:
        if node.op_type == 'Resize':
            assert attributes_of(node)['nearest_mode'] == 'floor'


def test_spanets_bicubic_layers_are_named(tmp_path):
    model = MODELS.build(load(SPANET, ['input_frame.size=(64,64)']).model).eval()
    export_onnx(model, tmp_path / 'm.onnx', (64, 64))
    modules = dict(model.named_modules())
    bicubic = [name for name, module in modules.items() if isinstance(module, nn.Upsample)]
    assert [finding.layer for finding in unsupported(onnx.load(tmp_path / 'm.onnx'))] == bicubic
    assert len(bicubic) == 6
