"""Transforms of a pipeline, in the order in which they stand in one.

LoadImage (and NormaliseFace, for normalised patches of whole frames), then those that only edit numbers and one 2x3
matrix (FaceCrop, RandomFlip, Affine), then Warp, the only other resampling, then light and blur (Photometric, Blur),
then the labels (PupilLandmarks, VPProjection, GaussianTarget), then PackGaze.
"""

from .formatting import PackGaze
from .geometric import Affine, FaceCrop, RandomFlip, Warp
from .loading import LoadImage
from .normalise import NormaliseFace
from .photometric import Blur, Photometric
from .targets import GaussianTarget, PupilLandmarks, VPProjection

__all__ = [
    'Affine',
    'Blur',
    'FaceCrop',
    'GaussianTarget',
    'LoadImage',
    'NormaliseFace',
    'PackGaze',
    'Photometric',
    'PupilLandmarks',
    'RandomFlip',
    'VPProjection',
    'Warp',
]
