"""A network as one ONNX file: the raw outputs of `GazeEstimator`, one graph output per head."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch
from onnx import ModelProto, helper
from torch import Tensor, nn

from evg.deploy.dcn import ASCEND_DOMAIN, ASCEND_OP, NATIVE_OPSET, deformable_layers, replace_deformable
from evg.deploy.graph import sort_nodes, tidy, without_ascend_op
from evg.errors import UserError
from evg.files import atomic_write
from evg.models import GazeEstimator

DEFAULT_OPSET = 11  # what every ATC from CANN 5.0 on reads
INT8_OPSET = 13  # the first with a scale per channel
OPSETS = (9, 20)  # of torch's TorchScript exporter, the only one that writes opsets below 18
_NOT_HALF = ('DeformConv', 'Resize')  # ONNX Runtime's CPU kernels of these take float32


Shape = tuple[int | None, ...]
Outputs = tuple[tuple[str, Shape], ...]


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        opset: of the default domain.
        dcn: 'none', 'native', 'lower' or 'ascend'.
        outputs: (name, shape) of each; the first dimension is None where any batch is taken.
        nodes: operators in the graph.
    """

    opset: int
    dcn: str
    outputs: Outputs
    nodes: int


def choose_opset(asked: int | None, dcn: str, precision: str = 'fp32') -> int:
    """The opset to write.

    Args:
        asked: by the user; None is 11, or the least that the rest needs.
        dcn: how deformable convolutions are written; 'none' where there are none.
        precision: 'fp32', 'fp16' or 'int8'.

    Raises:
        UserError: what was asked for does not exist, or is too low for the rest.
    """
    needs = {'--dcn native (DeformConv)': NATIVE_OPSET if dcn == 'native' else 0}
    needs['--precision int8 (a scale per channel)'] = INT8_OPSET if precision == 'int8' else 0
    for what, least in needs.items():
        if asked is not None and asked < least:
            raise UserError(f'{what} needs opset {least} or later, not {asked}: leave --opset out, or choose another')
    opset = asked if asked is not None else max(DEFAULT_OPSET, *needs.values())
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise UserError(f'--opset must be {OPSETS[0]} to {OPSETS[1]}, not {opset}')
    return opset


def export_onnx(
    model: GazeEstimator,
    path: str | Path,
    input_size: tuple[int, int],
    *,
    opset: int | None = None,
    batch: int | None = 1,
    dcn: str = 'native',
    half: bool = False,
) -> Exported:
    """Write the network as one file, whole or not at all.

    Args:
        model: on the CPU; it is not changed.
        path: the file.
        input_size: (width, height) of the input, px, padding included.
        opset: see `choose_opset`.
        batch: pictures; None takes any number.
        dcn: how deformable convolutions are written, see `evg.deploy.dcn`; without any it does not matter.
        half: compute in half precision; input and outputs stay float32.

    Raises:
        UserError: an opset that the rest does not allow, a layer that cannot be written.
    """
    dcn = dcn if deformable_layers(model) else 'none'
    opset = choose_opset(opset, dcn)
    net = _Raw(model if dcn == 'none' else replace_deformable(model, dcn)).eval()
    width, height = input_size
    # Two pictures where any number is taken, so that no size 1 is taken for something else.
    images = torch.zeros(batch or 2, 3, height, width)
    proto = _trace(net, images, opset, batch is None, {ASCEND_DOMAIN: 1} if dcn == 'ascend' else None)
    outputs = tuple((name, (batch, *shape[1:])) for name, shape in zip(net.names, net.shapes, strict=True))
    _set_shapes(proto, outputs)
    tidy(proto, [name for name, _ in net.named_modules() if name], root='net')
    if half:
        proto = _to_half(proto)
    _finish(proto, opset)
    _check(proto, (('input', (batch, 3, height, width)),), outputs)
    with atomic_write(path) as file:
        file.write(proto.SerializeToString(deterministic=True))
    return Exported(opset, dcn, outputs, len(proto.graph.node))


class _Raw(nn.Module):
    """The raw outputs as a tuple, in the order of the heads."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net
        self.names = [str(head.output) for head in net.heads.values()]  # type: ignore[union-attr, operator]
        self.shapes: list[Shape] = []

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        outputs = self.net(images)
        self.shapes = [tuple(int(size) for size in outputs[name].shape) for name in self.names]
        return tuple(outputs[name] for name in self.names)


def _trace(net: _Raw, images: Tensor, opset: int, dynamic: bool, custom: dict[str, int] | None) -> ModelProto:
    """As torch writes it. Its newer exporter writes opset 18 whatever is asked below it, so the older one is used."""
    axes = {name: {0: 'batch'} for name in ('input', *net.names)} if dynamic else None
    with warnings.catch_warnings(), torch.no_grad(), TemporaryDirectory() as folder:
        warnings.simplefilter('ignore')  # of deprecation, and of shapes that become constants, as they shall
        path = Path(folder) / 'traced.onnx'
        torch.onnx.export(
            net, (images,), path, input_names=['input'], output_names=net.names, opset_version=opset,
            dynamic_axes=axes, dynamo=False, custom_opsets=custom,
        )  # fmt: skip
        return onnx.load(path)


def _to_half(proto: ModelProto) -> ModelProto:
    from onnxruntime.transformers.float16 import (  # noqa: PLC0415  # onnxruntime is imported for it
        DEFAULT_OP_BLOCK_LIST,
        convert_float_to_float16,
    )

    blocked = [*DEFAULT_OP_BLOCK_LIST, *_NOT_HALF]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of weights that half precision rounds to 0
        half = convert_float_to_float16(proto, keep_io_types=True, op_block_list=blocked)
    sort_nodes(half)
    return half


def _finish(proto: ModelProto, opset: int) -> None:
    """One opset_import, the oldest IR version that it allows, and nothing that changes from run to run."""
    for node in proto.graph.node:
        if node.op_type == ASCEND_OP:
            node.domain = ''
    written = {entry.domain or 'ai.onnx': entry.version for entry in proto.opset_import}
    if written['ai.onnx'] != opset:
        raise UserError(f'opset {opset} was asked for and torch wrote {written["ai.onnx"]}: choose another --opset')
    del proto.opset_import[:]
    proto.opset_import.append(helper.make_opsetid('', opset))
    proto.ir_version = helper.find_min_ir_version_for(proto.opset_import)
    proto.graph.name = 'evg'


def _set_shapes(proto: ModelProto, outputs: Outputs) -> None:
    """Shapes of the graph's outputs, which the exporter does not always find; all but the batch are fixed."""
    for info, (_, shape) in zip(proto.graph.output, outputs, strict=True):
        dims = ['batch' if size is None else size for size in shape]
        info.CopyFrom(helper.make_tensor_value_info(info.name, onnx.TensorProto.FLOAT, dims))


def _check(proto: ModelProto, inputs: Outputs, outputs: Outputs) -> None:
    """What every file must be, whoever wrote it."""
    onnx.checker.check_model(without_ascend_op(proto), full_check=True)
    found = tuple((info.name, _shape(info)) for info in proto.graph.input)
    written = tuple((info.name, _shape(info)) for info in proto.graph.output)
    unnamed = [node.op_type for node in proto.graph.node if not node.name]
    outside = [t.name for t in proto.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    if found != inputs or written != outputs or unnamed or outside:
        raise RuntimeError(f'the exported graph is wrong: {found}, {written}, unnamed {unnamed}, outside {outside}')


def _shape(info: onnx.ValueInfoProto) -> Shape:
    dims = info.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField('dim_value') else None for dim in dims)
