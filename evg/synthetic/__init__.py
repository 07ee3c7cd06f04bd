"""A procedural world: people in front of a camera and a screen, with exact gaze labels. numpy and OpenCV only."""

from evg.synthetic.scene import SETUPS
from evg.synthetic.world import SyntheticWorld, SynthFrame, gallery

GEOMETRIES = tuple(SETUPS)

__all__ = ['GEOMETRIES', 'SynthFrame', 'SyntheticWorld', 'gallery']
