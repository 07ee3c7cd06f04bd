"""From a camera's frame to the point of gaze on a declared screen. Needs no torch unless a checkpoint is loaded."""

from evg.inference.camera import Camera
from evg.inference.result import GazeResult
from evg.inference.screen import Screen

__all__ = ['Camera', 'GazePredictor', 'GazeResult', 'Screen']


def __getattr__(name: str):
    """`GazePredictor` is imported at its first use: it brings OpenCV along."""
    if name == 'GazePredictor':
        from evg.inference.predictor import GazePredictor  # noqa: PLC0415

        return GazePredictor
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
