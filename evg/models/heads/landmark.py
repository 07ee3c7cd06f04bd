"""Landmark head: one heatmap per landmark, regressed as it is."""

from torch import Tensor, nn

from evg.registry import HEADS, LOSSES


@HEADS.register_module()
class LandmarkHead(nn.Module):
    """One 1x1 convolution to a map per landmark, without an activation: PupilNet's.

    It begins with maps of almost 0, which most cells are: the original's begin with squared errors a thousand times as
    large as the landmarks', and lose many epochs on them.

    Args:
        in_channels: channels of the features; the estimator fills it in.
        num_landmarks: maps.
        loss: loss on (maps, target maps), an object or its config; None is `SumOfSquaresLoss`, the original's.
        loss_weight: its factor.
    """

    output = 'landmark_heatmap'

    def __init__(
        self,
        in_channels: int,
        num_landmarks: int = 8,
        loss: nn.Module | dict | None = None,
        loss_weight: float = 1.0,
    ):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, num_landmarks, 1)
        nn.init.normal_(self.conv.weight, std=0.001)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]  # None only with bias=False
        self.criterion = LOSSES.build(loss or dict(type='SumOfSquaresLoss'))
        self.loss_weight = loss_weight

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_channels, h, w) to maps (B, num_landmarks, h, w)."""
        return self.conv(features)

    def loss(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weighted loss, by its name in the log."""
        value = self.criterion(outputs[self.output], targets['target_landmark_heatmap'])
        return {'loss_landmarks': self.loss_weight * value}
