"""Three transposed convolutions, CenterNet's decoder, with or without deformable convolutions between them."""

import math

import torch
from torch import Tensor, nn
from torchvision.ops import DeformConv2d

from evg.registry import NECKS

_BN_MOMENTUM = 0.1
# (padding, output_padding) with which a transposed convolution of a kernel and stride 2 doubles the size: CenterNet's.
_DOUBLING = {4: (1, 0), 3: (1, 1), 2: (0, 0)}


@NECKS.register_module()
class DeconvNeck(nn.Module):
    """Doubles the resolution once per entry of `channels`.

    Each step is [refine -> BN -> ReLU ->] transposed conv, stride 2 -> BN -> ReLU. `refine='dcn'` with 256, 128, 64
    is CenterNet's resdcn (networks/resnet_dcn.py), `refine=None` with 256 three times its plain variant, with 40 three
    times EVG's mobv2.

    Args:
        in_channels: channels of the backbone; the estimator fills it in.
        channels: output channels of the steps.
        refine: 'dcn' (modulated deformable 3x3), 'conv' (plain 3x3) or None.
        kernel: side of the transposed convolutions: 4 (the originals'), 3 or 2.
    """

    def __init__(
        self,
        in_channels: int,
        channels: tuple[int, ...] = (256, 128, 64),
        refine: str | None = None,
        kernel: int = 4,
    ):
        super().__init__()
        if refine not in ('dcn', 'conv', None):
            raise ValueError(f"refine must be 'dcn', 'conv' or None, not {refine!r}")
        if kernel not in _DOUBLING:
            raise ValueError(f'kernel must be one of {", ".join(map(str, _DOUBLING))}, not {kernel!r}')
        padding, output_padding = _DOUBLING[kernel]
        steps: list[nn.Module] = []
        for width in channels:
            if refine is not None:
                steps += [
                    _refine_conv(refine, in_channels, width),
                    nn.BatchNorm2d(width, momentum=_BN_MOMENTUM),
                    nn.ReLU(inplace=True),
                ]
                in_channels = width
            deconv = nn.ConvTranspose2d(in_channels, width, kernel, 2, padding, output_padding, bias=False)
            if refine is not None:
                _bilinear_(deconv.weight)
            else:
                nn.init.normal_(deconv.weight, std=0.001)
            steps += [deconv, nn.BatchNorm2d(width, momentum=_BN_MOMENTUM), nn.ReLU(inplace=True)]
            in_channels = width
        self.steps = nn.Sequential(*steps)
        self.out_channels = in_channels
        self.upscale = 2 ** len(channels)

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_channels, h, w) to (B, out_channels, h * upscale, w * upscale)."""
        return self.steps(features)


def _refine_conv(kind: str, in_channels: int, out_channels: int) -> nn.Module:
    if kind == 'dcn':
        return ModulatedDeformConv(in_channels, out_channels)
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


class ModulatedDeformConv(nn.Module):
    """3x3 modulated deformable convolution that predicts its own offsets and masks (DCNv2, Zhu et al., CVPR 2019).

    `offset_mask` has 27 channels: 18 offsets (y, x interleaved, torchvision's order) and 9 masks before the sigmoid. It
    starts at zero, that is as a plain convolution with half of its weight, as in CenterNet's DCNv2.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = DeformConv2d(in_channels, out_channels, kernel_size=3, padding=1)
        bound = 1 / math.sqrt(in_channels * 9)
        nn.init.uniform_(self.conv.weight, -bound, bound)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]  # None only with bias=False
        self.offset_mask = nn.Conv2d(in_channels, 27, kernel_size=3, padding=1)
        nn.init.zeros_(self.offset_mask.weight)
        nn.init.zeros_(self.offset_mask.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_channels, h, w) to (B, out_channels, h, w)."""
        offset, mask = self.offset_mask(features).split((18, 9), dim=1)
        return self.conv(features, offset, mask.sigmoid())


@torch.no_grad()
def _bilinear_(weight: Tensor) -> None:
    """Bilinear up-sampling from every input channel to the first output channel, as CenterNet's `fill_up_weights`."""
    size = weight.shape[2]
    factor = math.ceil(size / 2)
    center = (2 * factor - 1 - factor % 2) / (2 * factor)
    ramp = 1 - (torch.arange(size) / factor - center).abs()
    weight[:, 0] = torch.outer(ramp, ramp)
