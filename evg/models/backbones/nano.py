"""A small backbone that learns on a CPU in minutes."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from evg.registry import BACKBONES


@BACKBONES.register_module()
class NanoNet(nn.Module):
    """Five stages of plain 3x3 convolutions, each at half the resolution, with a residual block from the second on.

    The picture is first folded (2 x 2 px to 12 channels), so that the first convolution sees every pixel: the iris is a
    few pixels wide, and a strided convolution of few channels loses it. Plain convolutions, because on a CPU they are
    faster than depthwise ones of the same accuracy at this size.

    Args:
        channels: channels of the five stages; the last is `out_channels`.
    """

    stride = 32

    def __init__(self, channels: Sequence[int] = (24, 32, 64, 96, 128)):
        super().__init__()
        if len(channels) != 5:
            raise ValueError(f'NanoNet has five stages, not {len(channels)}')
        stages: list[nn.Module] = [nn.PixelUnshuffle(2), _conv(12, channels[0])]
        for previous, width in pairwise(channels):
            stages += [_conv(previous, width, stride=2), _Residual(width)]
        self.stages = nn.Sequential(*stages)
        self.out_channels = channels[-1]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, out_channels, H / 32, W / 32)."""
        return self.stages(images)


class _Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.convs = nn.Sequential(
            _conv(channels, channels), nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        return self.relu(features + self.convs(features))


def _conv(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
