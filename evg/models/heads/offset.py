"""Offset head: where in its cell the point lies."""

from torch import Tensor, nn
from torch.nn import functional

from evg.codecs.grid import gather_cells
from evg.models.heads.branch import conv_branch
from evg.registry import HEADS


@HEADS.register_module()
class OffsetHead(nn.Module):
    """Sub-cell offset (x, y) in cells, supervised by L1 at the target's cell.

    Args:
        in_channels: channels of the features; the estimator fills it in.
        head_conv: channels of the 3x3 convolution.
        loss_weight: factor of the loss.
    """

    output = 'offset'

    def __init__(self, in_channels: int, head_conv: int = 64, loss_weight: float = 1.0):
        super().__init__()
        self.branch = conv_branch(in_channels, head_conv, 2)
        for layer in (self.branch[0], self.branch[2]):
            nn.init.normal_(layer.weight, std=0.001)  # type: ignore[arg-type]  # a convolution's, see conv_branch
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.loss_weight = loss_weight

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_channels, h, w) to offsets (B, 2, h, w)."""
        return self.branch(features)

    def loss(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Mean absolute difference in cells at the target's cell."""
        predicted = gather_cells(outputs[self.output].float(), targets['target_index'])
        return {'loss_off': self.loss_weight * functional.l1_loss(predicted, targets['target_offset'])}
