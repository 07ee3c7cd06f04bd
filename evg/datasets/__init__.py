"""Data sets: the annotation index, the dataset over it, and the transforms of its pipeline."""

from . import transforms
from .collate import collate_gaze
from .gaze_dataset import GazeDataset

__all__ = ['GazeDataset', 'collate_gaze', 'transforms']
