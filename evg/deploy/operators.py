"""Which operators of a graph CANN's ATC can read, and the limits that its documents and sources state.

The opsets are those that the ONNX plug-ins of CANN register (hicann/ops-nn, ops-math and ops-cv, 2026). Apart from
Upsample, GridSample and LayerNormalization all of them are in CANN 5.0.4's list too. Whether the kernels of a chip take
the shapes is known to ATC alone.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto

from evg.deploy.dcn import ASCEND_OP
from evg.deploy.graph import attributes_of, constants_of, layer_of, shapes_of
from evg.errors import UserError

_FROM_8 = (
    'Abs Add And AveragePool BatchNormalization Cast Ceil Clip Concat ConstantOfShape Conv ConvTranspose Cos Div Equal '
    'Erf Exp Expand Flatten Floor Gather GatherElements GatherND Gemm GlobalAveragePool Greater HardSigmoid Identity '
    'LeakyRelu Less Log MatMul MaxPool Mul Neg Not Or PRelu Pad Pow Range Reciprocal ReduceMax ReduceMean ReduceSum '
    'Relu Reshape Round Shape Sigmoid Sign Sin Slice Softmax Softplus Split Sqrt Squeeze Sub Tan Tanh Tile TopK '
    'Transpose Unsqueeze Where'
)
NEWEST = 18
REGISTERED: dict[str, frozenset[int]] = {
    **dict.fromkeys(_FROM_8.split(), frozenset(range(8, NEWEST + 1))),
    'GridSample': frozenset({11, 16, 17, 18}),
    'HardSwish': frozenset(range(14, NEWEST + 1)),
    'LayerNormalization': frozenset({17, 18}),
    'Resize': frozenset(range(10, NEWEST + 1)),
    'Upsample': frozenset({8, 9, *range(11, 17)}),
    ASCEND_OP: frozenset(range(9, 17)),
}
_INSTEAD = {
    'DeformConv': f'--dcn ascend ({ASCEND_OP}), --dcn lower, or a config with plain deconvolutions (res18, mobv2)',
    'GridSample': 'its kernel runs on none of 310, 310P and 310B: keep it outside of the network',
    'QuantizeLinear': 'quantised networks for Ascend are made by AMCT, see docs/deploy_atlas.md',
    'DequantizeLinear': 'quantised networks for Ascend are made by AMCT, see docs/deploy_atlas.md',
}


@dataclass(frozen=True)
class Finding:
    """One node that ATC does not take.

    Attributes:
        layer: module path.
        node: name of the node.
        reason: what is wrong and what to do.
    """

    layer: str
    node: str
    reason: str


def operator_table(model: ModelProto) -> str:
    """The operators of a graph, how often each is used, and what CANN registers."""
    opset = model.opset_import[0].version
    lines = [f'{"operator":<22}{"nodes":>6}  opsets that CANN registers (this graph: {opset})']
    for kind, count in sorted(Counter(node.op_type for node in model.graph.node).items()):
        known = REGISTERED.get(kind, frozenset())
        text = _ranges(known) or 'none'
        lines.append(f'{kind:<22}{count:>6}  {text}{"" if opset in known else "  <- not for this graph"}')
    return '\n'.join(lines)


def unsupported(model: ModelProto) -> list[Finding]:
    """All nodes that CANN's documents rule out, in the graph's order; first those that it has at no opset."""
    opset = model.opset_import[0].version
    constants, shapes = constants_of(model), shapes_of(model)
    found = []
    for node in model.graph.node:
        for reason in _reasons(node, opset, constants, shapes):
            found.append((node.op_type in REGISTERED, Finding(layer_of(node) or 'the network', node.name, reason)))
    return [finding for _, finding in sorted(found, key=lambda entry: entry[0])]


def check_operators(model: ModelProto) -> None:
    """Raise a UserError that names the first layers that ATC does not take."""
    found = unsupported(model)
    if not found:
        return
    layers: dict[str, list[str]] = {}
    for finding in found:
        layers.setdefault(finding.reason, []).append(f'{finding.layer} ({finding.node})')
    parts = [f'{_some(where)}: {reason}' for reason, where in layers.items()]
    raise UserError(
        f'ATC does not take {len(found)} node{"s" if len(found) > 1 else ""} of this network. {_some(parts, ". ")}. '
        'For ONNX Runtime alone: --target onnxruntime'
    )


def _some(texts: list[str], between: str = ', ') -> str:
    more = [f'and {len(texts) - 3} more'] if len(texts) > 3 else []
    return between.join([*texts[:3], *more])


def _ranges(opsets: frozenset[int]) -> str:
    """'8..9, 11..16'."""
    parts: list[list[int]] = []
    for opset in sorted(opsets):
        if parts and opset == parts[-1][1] + 1:
            parts[-1][1] = opset
        else:
            parts.append([opset, opset])
    return ', '.join(f'{low}..{high}' if low != high else str(low) for low, high in parts)


def _reasons(node: NodeProto, opset: int, constants: dict, shapes: dict) -> Iterator[str]:
    kind = node.op_type
    if opset not in REGISTERED.get(kind, ()):
        known = _ranges(REGISTERED.get(kind, frozenset()))
        reason = f'{kind} is registered for opset {known}, not {opset}' if known else f'CANN registers no {kind}'
        yield f'{reason}; {_INSTEAD[kind]}' if kind in _INSTEAD else reason
        return
    if kind == 'GridSample':
        yield _INSTEAD[kind]
    if kind in _LIMITS:
        yield from _LIMITS[kind](node, attributes_of(node), constants, shapes)
    for name in node.output:
        if 0 in shapes.get(name, ()):
            yield f'{kind} has an empty output {shapes[name]}'


def _conv(node: NodeProto, given: dict, constants: dict, shapes: dict) -> Iterator[str]:
    if not given.keys() & {'kernel_shape', 'pads', 'strides', 'dilations'}:
        yield 'Conv without kernel_shape, pads, strides and dilations'
    if len(shapes.get(node.input[0], (1, 1, 1, 1))) not in (4, 5):
        yield 'Conv of anything but 4 or 5 dimensions'


def _conv_transpose(node: NodeProto, given: dict, constants: dict, shapes: dict) -> Iterator[str]:
    if 'kernel_shape' not in given:
        yield 'ConvTranspose without kernel_shape'
    if len(given.get('kernel_shape', (1, 1))) != 2:
        yield 'ConvTranspose that is not two-dimensional'
    if set(given.get('dilations', (1,))) != {1}:
        yield f'ConvTranspose with dilations {list(given["dilations"])}, only 1 is possible'
    if str(given.get('auto_pad', '')).startswith('SAME'):
        yield f'ConvTranspose with auto_pad={given["auto_pad"]}'


def _max_pool(node: NodeProto, given: dict, constants: dict, shapes: dict) -> Iterator[str]:
    if given.get('storage_order', 0) or len([name for name in node.output if name]) > 1:
        yield 'MaxPool with storage_order or with indices'


def _average_pool(node: NodeProto, given: dict, constants: dict, shapes: dict) -> Iterator[str]:
    if given.get('auto_pad') == 'SAME_LOWER':
        yield 'AveragePool with auto_pad=SAME_LOWER, which ATC ignores'


def _clip(node: NodeProto, given: dict, constants: dict, shapes: dict) -> Iterator[str]:
    if not given and not any(node.input[1:]):
        yield 'Clip without min and max'


def _reduce_mean(node: NodeProto, given: dict, constants: dict, shapes: dict) -> Iterator[str]:
    if given.get('noop_with_empty_axes', 0):
        yield 'ReduceMean with noop_with_empty_axes=1, which ATC ignores'


def _resize(node: NodeProto, given: dict, constants: dict, shapes: dict) -> Iterator[str]:
    mode = given.get('mode', 'nearest')
    if mode not in ('nearest', 'linear'):
        yield f'Resize with mode={mode}, ATC has nearest and linear: use a transposed convolution in its place'
    if not all(name in constants for name in node.input[1:] if name):
        yield 'Resize with scales or sizes that are no constants: export with a fixed batch'
    ignored = {'antialias', 'axes', 'keep_aspect_ratio_policy'} & {name for name, value in given.items() if value}
    if ignored:
        yield f'Resize with {", ".join(sorted(ignored))}, which ATC ignores'
    how = (given.get('coordinate_transformation_mode', 'half_pixel'), given.get('nearest_mode', 'round_prefer_floor'))
    # ATC reads no nearest_mode: its kernel takes the floor where pixels are not counted by their centres.
    if mode == 'nearest' and how != ('asymmetric', 'floor'):
        yield f'Resize nearest with {how[0]} and {how[1]}; ATC computes asymmetric and floor, or rounds up'


def _gather(node: NodeProto, given: dict, constants: dict, shapes: dict) -> Iterator[str]:
    index = constants.get(node.input[1])
    if index is not None and (np.asarray(index) < 0).any():
        yield 'Gather with a negative index: write it as a positive one'


def _gather_nd(node: NodeProto, given: dict, constants: dict, shapes: dict) -> Iterator[str]:
    if given.get('batch_dims', 0):
        yield 'GatherND with batch_dims'


def _deformable(node: NodeProto, given: dict, constants: dict, shapes: dict) -> Iterator[str]:
    """Documents of CANN 6.0.1 and of the newest; the kernel of 2021 for the multiple of 8."""
    features, weight = shapes.get(node.input[0]), shapes.get(node.input[1])
    if features is None or weight is None:
        yield f'{ASCEND_OP} whose input has no known shape'
        return
    (_, channels, height, width), (kernel_height, kernel_width) = features, weight[2:]
    for name, most in (('strides', 63), ('dilations', 255), ('pads', 255)):
        if not all((0 if name == 'pads' else 1) <= value <= most for value in given[name]):
            yield f'{ASCEND_OP} with {name}={list(given[name])}, at most {most}'
    if max(kernel_height, kernel_width) > 63:
        yield f'{ASCEND_OP} with a kernel of {kernel_height} x {kernel_width}, at most 63'
    elif width > 4096 // kernel_width or height > 100_000 // kernel_height:
        yield (
            f'{ASCEND_OP} on a map of {width} x {height}, at most {4096 // kernel_width} x '
            f'{100_000 // kernel_height} with this kernel'
        )
    if kernel_height * kernel_width > 2048 or kernel_height * kernel_width * channels > 65_535:
        yield f'{ASCEND_OP} with {kernel_height} x {kernel_width} x {channels} inputs to an output, at most 65535'
    if channels % 8:
        yield f'{ASCEND_OP} with {channels} input channels: a multiple of 8 is needed'
    if len(set(given['pads'])) > 1:
        yield f'{ASCEND_OP} with pads={list(given["pads"])}: versions of ATC read unequal ones differently'


_LIMITS = {
    'AveragePool': _average_pool,
    'Clip': _clip,
    'Conv': _conv,
    'ConvTranspose': _conv_transpose,
    ASCEND_OP: _deformable,
    'Gather': _gather,
    'GatherND': _gather_nd,
    'MaxPool': _max_pool,
    'ReduceMean': _reduce_mean,
    'Resize': _resize,
}
