"""Networks: backbones, necks, heads, losses and the estimator that joins them."""

from . import backbones, heads, losses, necks
from .data_preprocessor import GazePreprocessor
from .estimator import GazeEstimator

__all__ = ['GazeEstimator', 'GazePreprocessor', 'backbones', 'heads', 'losses', 'necks']
