"""PupilNet and SpaNet: three small hourglasses after one convolution (abnormalstudent/GazeEstimation)."""

import torch
from torch import Tensor, nn

from evg.registry import BACKBONES

_CHANNELS = 64
_GROWTH = 8


@BACKBONES.register_module()
class PupilNet(nn.Module):
    """Features for landmarks at the resolution of the picture ("PupilNet-3Hourglass", Hourglass.ipynb).

    Args:
        hourglasses: how many; the original has 3.
    """

    stride = 1
    max_stride = 4
    out_channels = _CHANNELS

    def __init__(self, hourglasses: int = 3):
        super().__init__()
        stem = [nn.Conv2d(3, _CHANNELS, 3, padding=1), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*stem, *(_Hourglass(3) for _ in range(hourglasses)))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 64, H, W); H and W are multiples of 4."""
        return self.layers(images)


@BACKBONES.register_module()
class SpaNet(nn.Module):
    """Hourglasses at full resolution, then a small DenseNet (modules/SpaNet.py, after Deep Pictorial Gaze).

    With `PitchYawHead`, which does the DenseNet's global mean and last linear layer, it is the original.

    Args:
        hourglasses: how many; the original has 3.
    """

    stride = 8
    out_channels = 2 * _GROWTH + 4 * _GROWTH

    def __init__(self, hourglasses: int = 3):
        super().__init__()
        stem = [nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, _CHANNELS, 3, padding=1)]
        self.hourglasses = nn.Sequential(*stem, *(_Hourglass(3) for _ in range(hourglasses)))
        narrow = 2 * _GROWTH
        dense: list[nn.Module] = [nn.Conv2d(_CHANNELS, narrow, 1)]
        for block in range(4):
            if block:
                dense += [_Composite(self.out_channels, narrow, 1), nn.AvgPool2d(2)]
            dense.append(_DenseBlock(narrow))
        self.dense = nn.Sequential(*dense)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 48, H / 8, W / 8)."""
        return self.dense(self.hourglasses(images))


class _Residual(nn.Module):
    """1x1 to half the channels, 3x3, 1x1 back, each with ReLU before batch norm, plus the input."""

    def __init__(self):
        super().__init__()
        layers: list[nn.Module] = []
        half = _CHANNELS // 2
        for before, after, kernel in ((_CHANNELS, half, 1), (half, half, 3), (half, _CHANNELS, 1)):
            conv = nn.Conv2d(before, after, kernel, padding=kernel // 2)
            layers += [conv, nn.ReLU(inplace=True), nn.BatchNorm2d(after)]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.layers(features)


class _Hourglass(nn.Module):
    """Half the resolution, an inner hourglass and a residual beside it, and back up; no skip at full resolution.

    Args:
        levels: 1 is three residuals; every further one halves the resolution once.
    """

    def __init__(self, levels: int):
        super().__init__()
        inner = [_Hourglass(levels - 1)] if levels > 1 else [_Residual() for _ in range(3)]
        self.inner = nn.Sequential(*inner)
        self.levels = levels
        if levels == 1:
            return
        self.down = nn.Sequential(nn.MaxPool2d(2), _Residual())
        self.beside = _Residual()
        self.up = nn.Sequential(nn.Upsample(scale_factor=2, mode='bicubic', align_corners=True), _Residual())

    def forward(self, features: Tensor) -> Tensor:
        if self.levels == 1:
            return self.inner(features)
        low = self.down(features)
        return self.up(self.beside(low) + self.inner(low))


class _Composite(nn.Sequential):
    """Batch norm, ReLU, convolution."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int):
        conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
        super().__init__(nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True), conv)


class _DenseBlock(nn.Module):
    """Four 3x3 composites of 8 channels, each on everything before it."""

    def __init__(self, in_channels: int):
        super().__init__()
        self.layers = nn.ModuleList(_Composite(in_channels + i * _GROWTH, _GROWTH, 3) for i in range(4))

    def forward(self, features: Tensor) -> Tensor:
        for layer in self.layers:
            features = torch.cat([features, layer(features)], dim=1)
        return features
