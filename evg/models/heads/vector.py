"""Heads that answer with a few numbers per picture: gaze angles, or a point on the virtual plane."""

import math

from torch import Tensor, nn
from torch.nn import functional

from evg.codecs import BinnedPitchYawCodec
from evg.registry import CODECS, HEADS, LOSSES


class _Vector(nn.Module):
    """Global average pooling where the features are a map, then one linear layer, or two without an activation."""

    def __init__(self, in_channels: int, out_channels: int, hidden: int | None, dropout: float):
        super().__init__()
        layers: list[nn.Module] = []
        if hidden is not None:
            layers += [nn.Linear(in_channels, hidden), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden or in_channels, out_channels))

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_channels, h, w) or (B, in_channels) to (B, out_channels)."""
        return self.layers(features.mean(dim=(2, 3)) if features.ndim == 4 else features)


@HEADS.register_module()
class PitchYawHead(_Vector):
    """(pitch, yaw) in radians, without an activation: ETH-XGaze's and RT-GazeEstimation's.

    Args:
        in_channels: channels of the features; the estimator fills it in.
        loss: loss on (predicted, target), an object or its config; None is `L1Loss`, the originals'.
        loss_weight: its factor.
        hidden: width of a linear layer before the last one, None for none; GazeNet v2 has 1024.
        dropout: after that layer.
    """

    output = 'pitchyaw'
    target = 'target_pitchyaw_rad'
    loss_name = 'loss_gaze'

    def __init__(
        self,
        in_channels: int,
        loss: nn.Module | dict | None = None,
        loss_weight: float = 1.0,
        hidden: int | None = None,
        dropout: float = 0.5,
    ):
        super().__init__(in_channels, 2, hidden, dropout)
        self.criterion = LOSSES.build(loss or dict(type='L1Loss'))
        self.loss_weight = loss_weight

    def loss(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weighted loss, by its name in the log."""
        return {self.loss_name: self.loss_weight * self.criterion(outputs[self.output], targets[self.target])}


@HEADS.register_module()
class VPPointHead(PitchYawHead):
    """The point of gaze on the virtual plane, in the units of `VPPointCodec`."""

    output = 'point'
    target = 'target_point'
    loss_name = 'loss_point'


@HEADS.register_module()
class BinnedPitchYawHead(_Vector):
    """Logits over bins of pitch and yaw, L2CS-Net's: cross entropy plus the squared error of the expectation.

    Both are sums over the two angles; the error is in degrees, as in the original.

    Args:
        in_channels: channels of the features; the estimator fills it in.
        codec: the `BinnedPitchYawCodec`.
        bin_weight: factor of the cross entropy.
        loss_weight: factor of the squared error (deg^2), L2CS-Net's alpha.
        hidden: see `PitchYawHead`.
        dropout: see `PitchYawHead`.
    """

    output = 'pitchyaw_bins'

    def __init__(
        self,
        in_channels: int,
        codec,
        bin_weight: float = 1.0,
        loss_weight: float = 1.0,
        hidden: int | None = None,
        dropout: float = 0.5,
    ):
        self_codec: BinnedPitchYawCodec = CODECS.build(codec)
        super().__init__(in_channels, 2 * self_codec.bins, hidden, dropout)
        self.codec = self_codec
        self.bin_weight = bin_weight
        self.loss_weight = loss_weight

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_channels, h, w) or (B, in_channels) to logits (B, 2, bins)."""
        # Not unflatten, which ONNX's older opsets cannot say.
        return super().forward(features).reshape(-1, 2, self.codec.bins)

    def loss(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """The two weighted losses, by their names in the log."""
        logits = outputs[self.output].float()
        entropy = functional.cross_entropy(logits.flatten(0, 1), targets['target_bins'].flatten())
        squared_rad = functional.mse_loss(self.codec.pitchyaw(outputs), targets['target_pitchyaw_rad'])
        return {
            'loss_bins': self.bin_weight * 2 * entropy,
            'loss_gaze': self.loss_weight * 2 * squared_rad * math.degrees(1) ** 2,
        }
