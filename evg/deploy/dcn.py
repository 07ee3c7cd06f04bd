"""Deformable convolutions in an exported graph: three ways to write one.

`native` is ONNX's DeformConv, which needs opset 19. `lower` is the same function in primitives of opset 11. `ascend` is
DeformableConv2D, the node that ATC's ONNX plug-in knows: not an operator of ONNX, so only an Ascend chip runs it.
"""

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import DeformConv2d, deform_conv2d

from evg.errors import UserError
from evg.models.necks.deconv import ModulatedDeformConv

MODES = ('native', 'lower', 'ascend')
NATIVE_OPSET = 19
ASCEND_OP = 'DeformableConv2D'
ASCEND_DOMAIN = 'evg'  # while torch exports; the file has the node in the default domain


def deformable_layers(model: nn.Module) -> dict[str, DeformConv2d]:
    """The deformable convolutions of a network by their module paths."""
    return {name: module for name, module in model.named_modules() if isinstance(module, DeformConv2d)}


def replace_deformable(model: nn.Module, mode: str) -> nn.Module:
    """A copy of a network whose deformable convolutions can be exported.

    Args:
        model: any network.
        mode: one of `MODES`.

    Raises:
        UserError: a layer that `mode` cannot write; the message names it.
    """
    model = copy.deepcopy(model)
    for path, layer in deformable_layers(model).items():
        if mode == 'native':
            model.set_submodule(path, _NativeDeformConv(layer))
            continue
        if layer.groups != 1:
            raise UserError(f'{path} has groups={layer.groups}: --dcn {mode} writes layers of one group; use native')
        if mode == 'lower':
            model.set_submodule(path, _LoweredDeformConv(layer))
            continue
        above = path.rpartition('.')[0]
        module = model.get_submodule(above)
        if not isinstance(module, ModulatedDeformConv):
            raise UserError(f'{path} is no part of a ModulatedDeformConv: --dcn ascend cannot write it; use lower')
        if layer.padding[0] != layer.padding[1]:
            raise UserError(f'{path}: its two paddings differ, which versions of ATC read differently; use --dcn lower')
        model.set_submodule(above, _AscendDeformConv(module))
    return model


class _NativeDeformConv(nn.Module):
    """A `DeformConv2d` that is exported as ONNX's DeformConv; offsets have the same order there."""

    def __init__(self, layer: DeformConv2d):
        super().__init__()
        self.layer = layer

    def forward(self, features: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        layer = self.layer
        positions = layer.kernel_size[0] * layer.kernel_size[1]
        offset_groups = int(offset.shape[1]) // (2 * positions)
        return _NativeFunction.apply(features, offset, mask, layer.weight, layer.bias, layer, offset_groups)


def _sample_and_convolve(features, offset, mask, weight, bias, layer: DeformConv2d) -> Tensor:
    """The layer without being called: a module that is called inside of a function confuses the tracer."""
    return deform_conv2d(features, offset, weight, bias, layer.stride, layer.padding, layer.dilation, mask)


class _NativeFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features, offset, mask, weight, bias, layer: DeformConv2d, offset_groups: int) -> Tensor:
        return _sample_and_convolve(features, offset, mask, weight, bias, layer)

    @staticmethod
    def symbolic(g: Any, features, offset, mask, weight, bias, layer: DeformConv2d, offset_groups: int) -> Any:
        attributes = dict(
            kernel_shape_i=layer.kernel_size,
            strides_i=layer.stride,
            pads_i=(*layer.padding, *layer.padding),
            dilations_i=layer.dilation,
            group_i=layer.groups,
            offset_group_i=offset_groups,
        )
        return g.op('DeformConv', features, weight, offset, bias, mask, **attributes)


class _LoweredDeformConv(nn.Module):
    """The function of a `DeformConv2d` with one group, of operators that opset 11 has.

    Each kernel position's value is gathered from the four cells around it, weighted, and one matrix product does the
    rest. The picture gets a border of zeros, to which positions outside are moved. Offsets are split into whole cells
    and a rest before anything is added to them, and cells are integers: half precision, which Ascend computes in, then
    loses nothing at high coordinates.
    """

    def __init__(self, layer: DeformConv2d):
        super().__init__()
        self.kernel_size, self.stride = layer.kernel_size, layer.stride
        self.padding, self.dilation = layer.padding, layer.dilation
        # (out channels, kernel positions * in channels)
        self.weight = nn.Parameter(layer.weight.detach().permute(0, 2, 3, 1).flatten(1))
        self.bias = layer.bias
        self.out_channels = layer.out_channels

    def forward(self, features: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        channels, height, width = (int(n) for n in features.shape[1:])
        positions = self.kernel_size[0] * self.kernel_size[1]
        out_height, out_width = (int(n) for n in offset.shape[2:])
        # Everything below is (B, out height, out width, kernel positions), so that a cell's positions stand together.
        shifts = offset.permute(0, 2, 3, 1).reshape(-1, out_height, out_width, positions, 2)
        rows, row_shares = self._corners(shifts[..., 0], 0, out_height, height)
        columns, column_shares = self._corners(shifts[..., 1], 1, out_width, width)
        mask = mask.permute(0, 2, 3, 1)
        cells = functional.pad(features, (1, 1, 1, 1)).permute(0, 2, 3, 1).reshape(-1, channels)
        first = torch.arange(features.shape[0]).reshape(-1, 1, 1, 1) * ((height + 2) * (width + 2))
        sampled: Any = 0
        for row, row_share in zip(rows, row_shares, strict=True):
            for column, column_share in zip(columns, column_shares, strict=True):
                index = first + row * (width + 2) + column
                share = (row_share * column_share * mask).reshape(-1, 1)
                sampled = sampled + cells.index_select(0, index.reshape(-1)) * share
        out = functional.linear(sampled.reshape(-1, positions * channels), self.weight, self.bias)
        return out.reshape(-1, out_height, out_width, self.out_channels).permute(0, 3, 1, 2)

    def _corners(self, shift: Tensor, axis: int, out_size: int, size: int) -> tuple[list[Tensor], list[Tensor]]:
        """The two cells of the padded picture beside each position, along one axis, and their shares."""
        kernel_cell = np.indices(self.kernel_size)[axis].reshape(1, 1, -1) * self.dilation[axis]
        out_cell = np.arange(out_size).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1)) * self.stride[axis]
        start = torch.from_numpy((out_cell + kernel_cell - self.padding[axis]).astype(np.float32))
        whole = shift.floor()
        rest = shift - whole
        cells = [(whole + start + step).clamp(-1.0, float(size)).long() + 1 for step in (0.0, 1.0)]
        return cells, [1 - rest, rest]


class _AscendDeformConv(nn.Module):
    """A `ModulatedDeformConv` that is exported as DeformableConv2D.

    That operator wants all x offsets, then all y offsets, then the masks; torchvision's are y0, x0, y1, x1, ... The
    channels of the convolution that predicts them are put into this order, so nothing moves at run time.
    """

    def __init__(self, module: ModulatedDeformConv):
        super().__init__()
        self.layer = module.conv
        self.offset_mask = copy.deepcopy(module.offset_mask)
        count = self.layer.kernel_size[0] * self.layer.kernel_size[1]
        order = [*range(1, 2 * count, 2), *range(0, 2 * count, 2), *range(2 * count, 3 * count)]
        with torch.no_grad():
            self.offset_mask.weight.copy_(module.offset_mask.weight[order])
            self.offset_mask.bias.copy_(module.offset_mask.bias[order])  # type: ignore[union-attr, index]
        self.sizes = (2 * count, count)

    def forward(self, features: Tensor) -> Tensor:
        offset, mask = self.offset_mask(features).split(self.sizes, dim=1)
        offsets = torch.cat([offset, mask.sigmoid()], dim=1)
        return _AscendFunction.apply(features, self.layer.weight, offsets, self.layer.bias, self.layer)


class _AscendFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features, weight, offsets, bias, layer: DeformConv2d) -> Tensor:
        x, y, mask = offsets.chunk(3, dim=1)
        offset = torch.stack([y, x], dim=2).flatten(1, 2)
        return _sample_and_convolve(features, offset, mask, weight, bias, layer)

    @staticmethod
    def symbolic(g: Any, features, weight, offsets, bias, layer: DeformConv2d) -> Any:
        attributes = dict(
            strides_i=layer.stride,
            pads_i=layer.padding,
            dilations_i=layer.dilation,
            groups_i=1,
            deformable_groups_i=1,
            data_format_s='NCHW',
            modulated_i=1,
        )
        inputs = [features, weight, offsets, *([] if layer.bias is None else [bias])]
        out = g.op(f'{ASCEND_DOMAIN}::{ASCEND_OP}', *inputs, **attributes)
        out.setType(features.type().with_sizes([None, layer.out_channels, None, None]))
        return out


def deformable_conv2d(
    features: NDArray,
    weight: NDArray,
    offsets: NDArray,
    bias: NDArray | None = None,
    strides: tuple[int, ...] = (1, 1),
    pads: tuple[int, ...] = (0, 0),
    dilations: tuple[int, ...] = (1, 1),
) -> NDArray[np.float64]:
    """What the Ascend operator DeformableConv2D computes, in float64: for checks where no chip is at hand.

    At kernel position k of output (r, c) it reads, bilinearly and with zeros around the picture,
    row r * stride - pad + k_row * dilation + offset_y, column c * stride - pad + k_column * dilation + offset_x, times
    the mask; the rest is a convolution.

    Args:
        features: (B, C, H, W).
        weight: (out channels, C, kh, kw).
        offsets: (B, 3 kh kw, h, w): all x offsets, all y offsets, all masks, each in the kernel's row-major order.
        bias: (out channels,).
        strides: (vertical, horizontal).
        pads: the same.
        dilations: the same.

    Returns:
        (B, out channels, h, w).
    """
    batch, _, height, width = features.shape
    kernel = weight.shape[2:]
    out_height, out_width = offsets.shape[2:]
    parts = offsets.astype(np.float64).reshape(batch, 3, *kernel, out_height, out_width)
    k_row, k_column, r, c = np.meshgrid(
        np.arange(kernel[0]), np.arange(kernel[1]), np.arange(out_height), np.arange(out_width), indexing='ij'
    )
    column = c * strides[1] - pads[1] + k_column * dilations[1] + parts[:, 0]
    row = r * strides[0] - pads[0] + k_row * dilations[0] + parts[:, 1]
    values: Any = 0.0
    top, left = np.floor(row).astype(int), np.floor(column).astype(int)
    for i, j in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        share = (1 - np.abs(row - i)) * (1 - np.abs(column - j))
        inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
        read = [image[:, np.clip(i[b], 0, height - 1), np.clip(j[b], 0, width - 1)] for b, image in enumerate(features)]
        values = values + np.stack(read) * (share * inside)[:, None]
    out = np.einsum('bcklhw,ockl->bohw', values * parts[:, None, 2], weight.astype(np.float64))
    return out if bias is None else out + bias.reshape(1, -1, 1, 1)
