"""Evaluation: pure functions over columns, metrics for the runner, reports as table, JSON and Parquet."""

from .landmarks import LandmarkError
from .metrics import AngularError, GazeError, PoGError
from .protocols import Folds, LeaveOneOut
from .report import render, write_json, write_predictions
from .submission import Predictions

__all__ = [
    'AngularError',
    'Folds',
    'GazeError',
    'LandmarkError',
    'LeaveOneOut',
    'PoGError',
    'Predictions',
    'render',
    'write_json',
    'write_predictions',
]
