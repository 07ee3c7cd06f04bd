"""How well a calibration does on points that it was not fitted to."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from evg.inference.accuracy_measures import offset
from evg.inference.calibration_methods import METHODS
from evg.inference.calibration_samples import MAX_POINTS, Observations

_POINT = {'target_px', 'n', 'before', 'after'}
_STAGE = {'x_px', 'y_px', 'x_mm', 'y_mm', 'px', 'mm', 'cm', 'deg'}  # of `accuracy_measures.offset`
_LARGEST = 1e9  # px, mm or degrees: beyond it an error says nothing but that there is none


@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """The error at each point of a calibration that was fitted without this point.

    Attributes:
        per_point: for each point `target_px`, `n` (samples), `before` and `after` (each as
            `accuracy_measures.offset`: of the mean of the point's samples, and the angle from their mean origin), or
            None.
    """

    per_point: list[dict[str, Any]]

    def mean(self, unit: str, stage: str = 'after') -> float | None:
        """Mean over the points in 'px', 'mm' or 'deg', 'after' or 'before' the calibration; None if not known."""
        values = [point[stage][unit] for point in self.per_point if point[stage] is not None]
        return float(np.mean(values)) if values and None not in values else None

    def to_json(self) -> dict[str, Any]:
        """Plain values, the means of both stages among them."""
        means = {f'mean_{unit}': self.mean(unit) for unit in ('px', 'mm', 'deg')}
        before = {f'before_mean_{unit}': self.mean(unit, 'before') for unit in ('px', 'mm', 'deg')}
        return {**means, **before, 'per_point': self.per_point}

    @classmethod
    def from_json(cls, values: dict) -> 'LeaveOneOut':
        """The inverse of `to_json`.

        Raises:
            ValueError, TypeError, KeyError: anything else.
        """
        points = values['per_point']
        if not isinstance(points, list) or len(points) > MAX_POINTS or not all(_is_point(point) for point in points):
            raise ValueError('not a leave-one-out report')
        return cls(points)


def leave_one_out(method: str, seen: Observations) -> LeaveOneOut | None:
    """Fit the whole method again without each point, and measure there."""
    if len(seen.count) < 2:
        return None
    points = []
    for number in range(len(seen.count)):
        out = seen.point == number
        left = seen.take(out)
        after = METHODS[method].fit(seen.take(~out)).correct(left).mean(axis=0)
        origin = None if left.origin_mm is None else left.origin_mm.mean(axis=0)
        errors = [offset(seen.screen, px, left.target_px[0], origin) for px in (left.measured_px.mean(axis=0), after)]
        before_after = [error if _is_stage(error) else None for error in errors]
        points.append({'target_px': left.target_px[0].tolist(), 'n': int(out.sum())})
        points[-1] |= dict(zip(('before', 'after'), before_after, strict=True))
    return LeaveOneOut(points)


def _is_point(point: Any) -> bool:
    """Whether a value is a point as `LeaveOneOut` describes it."""
    if not isinstance(point, dict) or set(point) != _POINT:
        return False
    target, n = point['target_px'], point['n']
    return (
        isinstance(target, list)
        and len(target) == 2
        and all(_is_number(px) for px in target)
        and _is_number(n)
        and isinstance(n, int)
        and n >= 0
        and all(point[stage] is None or _is_stage(point[stage]) for stage in ('before', 'after'))
    )


def _is_stage(stage: Any) -> bool:
    """Whether a value is an error that can be averaged; the angle alone may be None."""
    if not isinstance(stage, dict) or set(stage) != _STAGE:
        return False
    return all(_is_number(value) or (name == 'deg' and value is None) for name, value in stage.items())


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST  # NaN is none
