"""A procedural world: people in front of a camera and a screen, with exact gaze labels. numpy and OpenCV only."""

from evg.synthetic.world import SyntheticWorld, SynthFrame

__all__ = ['SyntheticWorld', 'SynthFrame']
