"""Backbones: a picture (B, 3, H, W) to features.

Each publishes `out_channels` and `stride` (None where it answers with one vector per picture), and where the picture
must be a multiple of more than that, `max_stride`. One with several stacks of heads publishes `num_stacks` and returns
as many feature maps.
"""

from .dla import DLA34
from .gazenet import GazeNet
from .hourglass import Hourglass
from .mobilenet_v2 import MobileNetV2
from .nano import NanoNet
from .resnet import ResNet
from .spanet import PupilNet, SpaNet
from .timm import TimmBackbone

__all__ = ['DLA34', 'GazeNet', 'Hourglass', 'MobileNetV2', 'NanoNet', 'PupilNet', 'ResNet', 'SpaNet', 'TimmBackbone']
