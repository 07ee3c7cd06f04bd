"""ResNet of torchvision without its classifier."""

import torchvision
from torch import Tensor, nn

from evg.models.backbones.pretrained import load_pretrained
from evg.registry import BACKBONES

_WEIGHTS = {
    18: torchvision.models.ResNet18_Weights.IMAGENET1K_V1,
    34: torchvision.models.ResNet34_Weights.IMAGENET1K_V1,
    50: torchvision.models.ResNet50_Weights.IMAGENET1K_V1,
    101: torchvision.models.ResNet101_Weights.IMAGENET1K_V1,
}


@BACKBONES.register_module()
class ResNet(nn.Module):
    """ResNet-18/34/50/101, stride 32 (He et al., CVPR 2016; torchvision).

    Args:
        depth: 18, 34, 50 or 101.
        pretrained: None, 'imagenet' or the path of a torchvision state dict.
    """

    stride = 32

    def __init__(self, depth: int = 18, pretrained: str | None = 'imagenet'):
        super().__init__()
        if depth not in _WEIGHTS:
            raise ValueError(f'ResNet has depth {", ".join(map(str, _WEIGHTS))}, not {depth}')
        net = getattr(torchvision.models, f'resnet{depth}')(weights=None)
        load_pretrained(net, pretrained, _WEIGHTS[depth], f'ResNet-{depth}')
        self.out_channels = net.fc.in_features
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        self.layers = nn.Sequential(net.layer1, net.layer2, net.layer3, net.layer4)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, out_channels, H / 32, W / 32)."""
        return self.layers(self.stem(images))
