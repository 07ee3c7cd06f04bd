"""Backbones: a picture (B, 3, H, W) to one feature map; each publishes `out_channels` and `stride`."""

from .mobilenet_v2 import MobileNetV2
from .nano import NanoNet
from .resnet import ResNet

__all__ = ['MobileNetV2', 'NanoNet', 'ResNet']
