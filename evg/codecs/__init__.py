"""Codecs: labels to network targets and network outputs back to labels, each pair in one class."""

from .face_center import FaceCenterCodec
from .vp_heatmap import VPHeatmapCodec

__all__ = ['FaceCenterCodec', 'VPHeatmapCodec']
