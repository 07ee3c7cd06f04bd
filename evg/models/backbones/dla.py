"""DLA-34 with CenterNet's deformable up-sampling (pose_dla_dcn.py; Yu et al., CVPR 2018)."""

import torch
from torch import Tensor, nn

from evg.models.backbones.pretrained import PublishedFile, load_pretrained
from evg.models.necks.deconv import ModulatedDeformConv
from evg.registry import BACKBONES

_CHANNELS = (16, 32, 64, 128, 256, 512)
_IMAGENET = PublishedFile(
    'http://dl.yf.io/dla/models/imagenet/dla34-ba72cf86.pth', mirror='https://huggingface.co/timm/dla34.in1k'
)


@BACKBONES.register_module()
class DLA34(nn.Module):
    """DLA-34 whose maps of stride 4 to 32 are merged into one of stride 4.

    The merging is part of the network, not a neck, because it needs four maps. CenterNet's file holds 41,728
    parameters more than are used: the 1x1 projections of the outer trees of levels 3 and 4, whose output its forward
    drops. They are not built.

    Args:
        pretrained: None, 'imagenet' or the path of a state dict of DLA-34 in the names of its authors (timm has the
            same).
    """

    stride = 4
    max_stride = 32
    out_channels = _CHANNELS[2]

    def __init__(self, pretrained: str | None = 'imagenet'):
        super().__init__()
        self.base = _Base()
        load_pretrained(self.base, pretrained, _IMAGENET, 'DLA-34')
        # Each merges one more map into a chain that ends in ever higher resolution; the last takes the ends of three.
        self.merge = nn.ModuleList(
            (
                _Merge(256, (512,), (2,)),
                _Merge(128, (256, 256), (2, 2)),
                _Merge(64, (128, 128, 128), (2, 2, 2)),
            )
        )
        self.last = _Merge(64, (128, 256), (2, 4))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 64, H / 4, W / 4); H and W are multiples of 32."""
        stride4, stride8, stride16, stride32 = self.base(images)
        maps = self.merge[0]([stride16, stride32])
        at16 = maps[-1]
        maps = self.merge[1]([stride8, *maps])
        at8 = maps[-1]
        maps = self.merge[2]([stride4, *maps])
        return self.last([maps[-1], at8, at16])[-1]


class _Merge(nn.Module):
    """Brings maps to the resolution and width of the first and adds them up one by one (CenterNet's IDAUp)."""

    def __init__(self, channels: int, in_channels: tuple[int, ...], scales: tuple[int, ...]):
        super().__init__()
        self.project = nn.ModuleList(_deform(width, channels) for width in in_channels)
        self.up = nn.ModuleList(_up(channels, scale) for scale in scales)
        self.node = nn.ModuleList(_deform(channels, channels) for _ in in_channels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """All maps at the first one's resolution; each is the sum up to it."""
        merged = [maps[0]]
        for features, project, up, node in zip(maps[1:], self.project, self.up, self.node, strict=True):
            merged.append(node(up(project(features)) + merged[-1]))
        return merged


def _deform(in_channels: int, out_channels: int) -> nn.Sequential:
    conv = ModulatedDeformConv(in_channels, out_channels)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def _up(channels: int, scale: int) -> nn.ConvTranspose2d:
    """Bilinear up-sampling at the start, each channel for itself."""
    up = nn.ConvTranspose2d(channels, channels, 2 * scale, scale, scale // 2, groups=channels, bias=False)
    ramp = 1 - ((torch.arange(2 * scale) + 0.5) / scale - 1).abs()
    with torch.no_grad():
        up.weight.copy_(torch.outer(ramp, ramp))
    return up


class _Base(nn.Module):
    """DLA-34 without its classifier; its names are those of the published weights."""

    def __init__(self):
        super().__init__()
        self.base_layer = _conv(3, _CHANNELS[0], 7, 1)
        self.level0 = _conv(_CHANNELS[0], _CHANNELS[0], 3, 1)
        self.level1 = _conv(_CHANNELS[0], _CHANNELS[1], 3, 2)
        self.level2 = _Tree(32, 64, 2)
        self.level3 = _DeepTree(64, 128)
        self.level4 = _DeepTree(128, 256)
        self.level5 = _Tree(256, 512, 2, root_extra=256, keep_input=True)

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.level2(self.level1(self.level0(self.base_layer(images))))
        maps = [features]
        for level in (self.level3, self.level4, self.level5):
            maps.append(level(maps[-1]))
        return maps


class _Tree(nn.Module):
    """Two blocks whose outputs a 1x1 convolution joins, together with maps that are handed down to it."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, root_extra: int = 0, keep_input: bool = False):
        super().__init__()
        self.tree1 = _Block(in_channels, out_channels, stride)
        self.tree2 = _Block(out_channels, out_channels, 1)
        self.root = _Root(2 * out_channels + root_extra, out_channels)
        self.downsample = nn.MaxPool2d(stride) if stride > 1 else nn.Identity()
        same = in_channels == out_channels
        self.project = nn.Identity() if same else _conv(in_channels, out_channels, 1, 1)[:2]
        self.keep_input = keep_input

    def forward(self, features: Tensor, handed_down: tuple[Tensor, ...] = ()) -> Tensor:
        bottom = self.downsample(features)
        first = self.tree1(features, self.project(bottom))
        second = self.tree2(first, first)
        return self.root([second, first, *([bottom] if self.keep_input else []), *handed_down])


class _DeepTree(nn.Module):
    """A tree of two trees at half the resolution; the second one's root sees the input and the first one too."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.tree1 = _Tree(in_channels, out_channels, 2)
        self.tree2 = _Tree(out_channels, out_channels, 1, root_extra=in_channels + out_channels)
        self.downsample = nn.MaxPool2d(2)

    def forward(self, features: Tensor) -> Tensor:
        first = self.tree1(features)
        return self.tree2(first, (self.downsample(features), first))


class _Root(nn.Module):
    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.relu(self.bn(self.conv(torch.cat(maps, dim=1))))


class _Block(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, features: Tensor, residual: Tensor) -> Tensor:
        inner = self.relu(self.bn1(self.conv1(features)))
        return self.relu(self.bn2(self.conv2(inner)) + residual)


def _conv(in_channels: int, out_channels: int, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))
