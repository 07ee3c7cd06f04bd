"""Codecs: labels to network targets and network outputs back to labels, each pair in one class."""

from .face_center import FaceCenterCodec
from .landmark_heatmap import LandmarkHeatmapCodec
from .pitch_yaw import BinnedPitchYawCodec, PitchYawCodec
from .vp_heatmap import VPHeatmapCodec
from .vp_point import VPPointCodec

__all__ = [
    'BinnedPitchYawCodec',
    'FaceCenterCodec',
    'LandmarkHeatmapCodec',
    'PitchYawCodec',
    'VPHeatmapCodec',
    'VPPointCodec',
]
