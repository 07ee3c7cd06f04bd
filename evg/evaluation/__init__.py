"""Evaluation: pure functions over columns, metrics for the runner, reports as table, JSON and Parquet."""

from .metrics import AngularError, PoGError
from .report import render, write_json, write_predictions

__all__ = ['AngularError', 'PoGError', 'render', 'write_json', 'write_predictions']
