"""CenterNet's stacked hourglass network (large_hourglass.py; Law and Deng, ECCV 2018)."""

from torch import Tensor, nn
from torch.nn import functional

from evg.registry import BACKBONES

_DIMS = (256, 256, 384, 384, 384, 512)
_MODULES = (2, 2, 2, 2, 2, 4)


@BACKBONES.register_module()
class Hourglass(nn.Module):
    """Hourglasses one after the other at a quarter of the resolution, each down to 1/128 and back.

    Every stack has features of its own. The estimator puts heads on all of them while it trains and answers with the
    last. No ImageNet weights are published for it.

    Args:
        num_stacks: hourglasses; CenterNet's has 2.
        dims: channels at each resolution, from the quarter down.
        modules: residual blocks at each resolution.
        out_channels: channels of each stack's features.
    """

    stride = 4

    def __init__(
        self,
        num_stacks: int = 2,
        dims: tuple[int, ...] = _DIMS,
        modules: tuple[int, ...] = _MODULES,
        out_channels: int = 256,
    ):
        super().__init__()
        if num_stacks < 1 or len(dims) != len(modules) or len(dims) < 2:
            raise ValueError(
                f'Hourglass needs at least one stack and as many dims as modules, two or more, not num_stacks='
                f'{num_stacks}, dims={dims}, modules={modules}'
            )
        self.num_stacks = num_stacks
        self.out_channels = out_channels
        self.max_stride = self.stride * 2 ** (len(dims) - 1)
        width = dims[0]
        self.stem = nn.Sequential(_conv(3, 128, 7, stride=2), _Residual(128, width, stride=2))
        self.hourglasses = nn.ModuleList(_Level(dims, modules) for _ in range(num_stacks))
        self.outs = nn.ModuleList(_conv(width, out_channels, 3) for _ in range(num_stacks))
        between = range(num_stacks - 1)
        self.keep = nn.ModuleList(_conv(width, width, 1, relu=False) for _ in between)
        self.feed = nn.ModuleList(_conv(out_channels, width, 1, relu=False) for _ in between)
        self.between = nn.ModuleList(_Residual(width, width) for _ in between)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) to one (B, out_channels, H / 4, W / 4) per stack; H and W are multiples of `max_stride`."""
        inner = self.stem(images)
        features = []
        for i, (hourglass, out) in enumerate(zip(self.hourglasses, self.outs, strict=True)):
            features.append(out(hourglass(inner)))
            if i < self.num_stacks - 1:
                inner = self.between[i](functional.relu(self.keep[i](inner) + self.feed[i](features[-1])))
        return tuple(features)


class _Level(nn.Module):
    """One resolution of an hourglass and everything below it."""

    def __init__(self, dims: tuple[int, ...], modules: tuple[int, ...]):
        super().__init__()
        (width, inner), (count, inner_count) = dims[:2], modules[:2]
        self.beside = nn.Sequential(*(_Residual(width, width) for _ in range(count)))
        self.down = nn.Sequential(
            _Residual(width, inner, stride=2), *(_Residual(inner, inner) for _ in range(count - 1))
        )
        self.low: nn.Module
        if len(dims) > 2:
            self.low = _Level(dims[1:], modules[1:])
        else:
            self.low = nn.Sequential(*(_Residual(inner, inner) for _ in range(inner_count)))
        self.back = nn.Sequential(*(_Residual(inner, inner) for _ in range(count - 1)), _Residual(inner, width))

    def forward(self, features: Tensor) -> Tensor:
        low = self.back(self.low(self.down(features)))
        return self.beside(features) + functional.interpolate(low, scale_factor=2)


class _Residual(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.convs = nn.Sequential(
            *_conv(in_channels, out_channels, 3, stride), *_conv(out_channels, out_channels, 3, relu=False)
        )
        same = stride == 1 and in_channels == out_channels
        self.skip = nn.Identity() if same else _conv(in_channels, out_channels, 1, stride, relu=False)

    def forward(self, features: Tensor) -> Tensor:
        return functional.relu(self.convs(features) + self.skip(features))


def _conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1, relu: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)
