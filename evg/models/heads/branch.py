"""CenterNet's head branch."""

from torch import nn


def conv_branch(in_channels: int, head_conv: int, out_channels: int) -> nn.Sequential:
    """3x3 convolution, ReLU, 1x1 convolution; torch's default initialisation."""
    return nn.Sequential(
        nn.Conv2d(in_channels, head_conv, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(head_conv, out_channels, 1),
    )
