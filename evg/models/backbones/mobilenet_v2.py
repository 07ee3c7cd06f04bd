"""MobileNetV2 of torchvision with EVG's last layer."""

import torchvision
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from evg.models.backbones.pretrained import load_pretrained
from evg.registry import BACKBONES


@BACKBONES.register_module()
class MobileNetV2(nn.Module):
    """MobileNetV2, stride 32 (Sandler et al., CVPR 2018; torchvision), ending in EVG's 1x1 convolution to 320 channels.

    Args:
        width: multiplier of all channels; ImageNet weights are published for 1.0.
        pretrained: None, 'imagenet' or the path of a torchvision state dict.
    """

    stride = 32

    def __init__(self, width: float = 1.0, pretrained: str | None = 'imagenet'):
        super().__init__()
        net = torchvision.models.mobilenet_v2(weights=None, width_mult=width)
        published = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1 if width == 1.0 else None
        load_pretrained(net, pretrained, published, f'MobileNetV2 {width}')
        channels = net.features[-1][0].in_channels
        # EVG's 320 take the place of the 1280 of the classifier's input, most of the parameters. A narrow network keeps
        # all of them, as it does of those.
        self.out_channels = max(320, channels)
        last = Conv2dNormActivation(channels, self.out_channels, kernel_size=1, activation_layer=nn.ReLU6)
        nn.init.kaiming_normal_(last[0].weight, mode='fan_out')
        self.features = nn.Sequential(*net.features[:-1], last)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, out_channels, H / 32, W / 32)."""
        return self.features(images)
