"""Heads: features to one raw output each, with the loss on it."""

from .heatmap import FaceCenterHead, HeatmapHead
from .landmark import LandmarkHead
from .offset import OffsetHead
from .vector import BinnedPitchYawHead, PitchYawHead, VPPointHead

__all__ = [
    'BinnedPitchYawHead',
    'FaceCenterHead',
    'HeatmapHead',
    'LandmarkHead',
    'OffsetHead',
    'PitchYawHead',
    'VPPointHead',
]
