"""Heads: features to one raw output each, with the loss on it."""

from .heatmap import FaceCenterHead, HeatmapHead
from .offset import OffsetHead

__all__ = ['FaceCenterHead', 'HeatmapHead', 'OffsetHead']
