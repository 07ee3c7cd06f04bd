"""Offset head: where in its cell the point lies."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from evg.codecs.grid import cell_corners, gather_cells
from evg.models.heads.branch import conv_branch
from evg.registry import HEADS


@HEADS.register_module()
class OffsetHead(nn.Module):
    """Offset (x, y) in cells from a cell's corner to the point, supervised by L1.

    The original trains it at the target's cell alone, where it is a number in 0..1 that a network hardly learns: its
    log stays at 0.23 where a constant 0.5 has 0.25. With `dense` every cell under the target's Gaussian learns the way
    to the point, weighted by it; the numbers are larger than a cell, and a peak in the next cell is put right.

    Args:
        in_channels: channels of the features; the estimator fills it in.
        head_conv: channels of the 3x3 convolution.
        loss_weight: factor of the loss.
        dense: train the neighbourhood too.
    """

    output = 'offset'

    def __init__(self, in_channels: int, head_conv: int = 64, loss_weight: float = 1.0, dense: bool = False):
        super().__init__()
        self.branch = conv_branch(in_channels, head_conv, 2)
        for layer in (self.branch[0], self.branch[2]):
            nn.init.normal_(layer.weight, std=0.001)  # type: ignore[arg-type]  # a convolution's, see conv_branch
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.loss_weight = loss_weight
        self.dense = dense

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_channels, h, w) to offsets (B, 2, h, w)."""
        return self.branch(features)

    def loss(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Mean absolute difference in cells, at the target's cell or, if dense, over the target's Gaussian."""
        offsets = outputs[self.output].float()
        if not self.dense:
            loss = functional.l1_loss(gather_cells(offsets, targets['target_index']), targets['target_offset'])
            return {'loss_off': self.loss_weight * loss}
        height, width = offsets.shape[2:]
        point = cell_corners(targets['target_index'], width) + targets['target_offset']
        corners = cell_corners(torch.arange(height * width, device=offsets.device), width)
        wanted = (point[:, None] - corners).transpose(1, 2).view_as(offsets)
        weight = targets['target_heatmap']
        loss = (weight * (offsets - wanted).abs()).sum() / (2 * weight.sum()).clamp(min=1e-6)
        return {'loss_off': self.loss_weight * loss}
