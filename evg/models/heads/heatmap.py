"""Heatmap heads: where on the virtual plane a person looks, and where in the picture the face is."""

from torch import Tensor, nn

from evg.models.heads.branch import conv_branch
from evg.registry import HEADS, LOSSES


@HEADS.register_module()
class HeatmapHead(nn.Module):
    """One heatmap of logits.

    Args:
        in_channels: channels of the features; the estimator fills it in.
        head_conv: channels of the 3x3 convolution.
        loss: loss on (logits, target heatmap), an object or its config; None is `HeatmapFocalLoss`.
        loss_weight: its factor.
    """

    output = 'heatmap'
    target = 'target_heatmap'
    loss_name = 'loss_hm'

    def __init__(
        self,
        in_channels: int,
        head_conv: int = 64,
        loss: nn.Module | dict | None = None,
        loss_weight: float = 1.0,
    ):
        super().__init__()
        self.branch = conv_branch(in_channels, head_conv, 1)
        # sigmoid(-2.19) = 0.1: almost every cell is background at the start (CornerNet).
        nn.init.constant_(self.branch[-1].bias, -2.19)  # type: ignore[arg-type]  # a convolution's, see conv_branch
        self.criterion = LOSSES.build(loss or dict(type='HeatmapFocalLoss'))
        self.loss_weight = loss_weight

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_channels, h, w) to logits (B, 1, h, w)."""
        return self.branch(features)

    def loss(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weighted loss, by its name in the log."""
        return {self.loss_name: self.loss_weight * self.criterion(outputs[self.output], targets[self.target])}


@HEADS.register_module()
class FaceCenterHead(HeatmapHead):
    """The face's centre in the picture: EVG's second task, on the same features."""

    output = 'face_heatmap'
    target = 'target_face_heatmap'
    loss_name = 'loss_face_hm'
