"""How well a calibration does on points that it was not fitted to."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from evg.inference.accuracy_measures import offset
from evg.inference.calibration_methods import METHODS
from evg.inference.calibration_samples import Observations

_UNITS = {'px', 'mm', 'deg'}


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
        for point in values['per_point']:
            stages = [point[stage] for stage in ('before', 'after') if point[stage] is not None]
            if set(point) != {'target_px', 'n', 'before', 'after'} or not all(set(stage) >= _UNITS for stage in stages):
                raise ValueError('not a point of a leave-one-out report')
        return cls(values['per_point'])


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
        before_after = [error if np.isfinite(error['mm']) else None for error in errors]
        points.append({'target_px': left.target_px[0].tolist(), 'n': int(out.sum())})
        points[-1] |= dict(zip(('before', 'after'), before_after, strict=True))
    return LeaveOneOut(points)
