"""The accuracy test: a person looks at known points, and the answers are compared with them, point by point.

The measures and their source are in `accuracy_measures`. The points are those of the Atlas sample's test by default,
but any will do. Nothing is taken out: a sample counts as lost where it has no face, closed eyes, too low a score, or no
point on the screen's plane; all others are measured.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evg.errors import UserError
from evg.inference.accuracy_measures import angles_deg, distances_mm, offset, rms_s2s, standard_deviation
from evg.inference.calibration_samples import known
from evg.inference.filters import Gate
from evg.inference.result import GazeResult
from evg.inference.screen import Screen

Array = NDArray[np.float64]

_ATLAS_X, _ATLAS_Y, _ATLAS_SIZE = (250, 604, 958, 1308, 1655), (200, 533, 865), (1920, 1080)


def fifteen_points(screen: Screen) -> Array:
    """(15, 2) screen px: the grid of the Atlas sample's test, row by row, scaled to the screen."""
    points = np.array([(x, y) for y in _ATLAS_Y for x in _ATLAS_X], np.float64)
    return points * np.divide(screen.size_px, _ATLAS_SIZE)


class AccuracyTest:
    """Collects results point by point, and makes the report.

    Args:
        screen: the declared screen; the results are of this screen.
        min_score: smallest score of a result, 0..1; one with less counts as lost.
    """

    def __init__(self, screen: Screen, min_score: float = 0.0):
        self.screen, self.gate = screen, Gate(min_score)
        self._points: list[tuple[Array, list[GazeResult]]] = []

    def add(self, target_px: ArrayLike, results: Iterable[GazeResult]) -> None:
        """Add one point.

        Args:
            target_px: (2,) where the person looked, screen px.
            results: one for each frame meanwhile, in the order of time; lost frames too.
        """
        target, results = np.array(target_px, np.float64), list(results)
        if target.shape != (2,) or not known(target):
            raise UserError(f'a point of the accuracy test must be two px of the screen, not {target.tolist()}')
        if not results:
            raise UserError(f'the point ({target[0]:.0f}, {target[1]:.0f}) of the accuracy test has no result')
        self._points.append((target, results))

    def report(self, facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """All figures as plain JSON values.

        Args:
            facts: what the report should say about itself: model, video, calibration, ...

        Returns:
            `points`: for each point `target_px`, `mean_px`, `n`, `n_valid`, `data_loss`, `lost` (reasons and counts),
            `error` (`accuracy_measures.offset` of the mean point), `sample_error` (mean offset of the samples: mm,
            deg), `rms_s2s`, `sd` (mm, deg), `ellipse` (one standard deviation) and `samples_px`; None where nothing
            is known. `mean`: plain means over the points that have a value; of x and y the mean of absolute values,
            and the signed one as `bias`; `data_loss` is the share of all samples. `latency_ms`: mean and 95th
            percentile of each of the results' `times_ms`.
        """
        if not self._points:
            raise UserError('the accuracy test has no point yet')
        points = [self._measure(target, results) for target, results in self._points]
        return {
            'format': 'evg-accuracy',
            'version': 1,
            'facts': {str(name): str(value) for name, value in (facts or {}).items()},
            'screen': self.screen.to_json(),
            'n_points': len(points),
            'n_points_missing': sum(point['mean_px'] is None for point in points),
            'mean': _means(points),
            'latency_ms': _latency([result for _, results in self._points for result in results]),
            'points': points,
        }

    def _measure(self, target: Array, results: Sequence[GazeResult]) -> dict[str, Any]:
        reasons = [self._lost(result) for result in results]
        nothing = np.full(2, np.nan)
        points = [nothing if reason else result.screen_px for result, reason in zip(results, reasons, strict=True)]
        samples = np.array(points, np.float64)
        seen = samples[np.isfinite(samples).all(axis=1)]
        # One origin for all samples of a point: the head hardly moves, and its own noise is not that of the gaze.
        origins = [result.origin_mm for result, reason in zip(results, reasons, strict=True) if not reason]
        all_known = [place for place in origins if place is not None and known(place)]
        origin = np.mean(all_known, axis=0) if 0 < len(all_known) == len(origins) else None
        point: dict[str, Any] = {
            'target_px': target.tolist(),
            'mean_px': seen.mean(axis=0).tolist() if len(seen) else None,
            'n': len(results),
            'n_valid': len(seen),
            'data_loss': 1 - len(seen) / len(results),
            'lost': dict(Counter(reason for reason in reasons if reason)),
            'error': offset(self.screen, seen.mean(axis=0), target, origin) if len(seen) else None,
            'sample_error': self._sample_error(seen, target, origin) if len(seen) else None,
            'ellipse': self._ellipse(seen) if len(seen) > 1 else None,
            'samples_px': seen.tolist(),
        }
        for name, measure in (('rms_s2s', rms_s2s), ('sd', standard_deviation)):
            point[name] = dict(zip(('mm', 'deg'), measure(self.screen, samples, origin), strict=True))
        return point

    def _lost(self, result: GazeResult) -> str:
        """Why a result is no sample; '' if it is one."""
        return self.gate.reason(result) or ('' if known(result.screen_px) else 'far off the screen')

    def _sample_error(self, seen: Array, target: Array, origin: Array | None) -> dict[str, float | None]:
        deg = angles_deg(self.screen, seen, target, origin)
        mm = float(np.mean(distances_mm(self.screen, seen, target)))
        return {'mm': mm, 'deg': None if deg is None else float(np.mean(deg))}

    def _ellipse(self, seen: Array) -> dict[str, Any]:
        """Standard deviations along the main axes, mm, and the angle of the first axis from x towards y."""
        values, vectors = np.linalg.eigh(np.cov(self.screen.px_to_mm(seen).T, bias=True))
        semi = np.sqrt(np.maximum(values[::-1], 0))
        return {'semi_mm': semi.tolist(), 'angle_deg': float(np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1])))}


def _means(points: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Plain means over the points, each where it has a value."""

    def mean(group: str, name: str, absolute: bool = False) -> float | None:
        values = [point[group][name] for point in points if point[group] is not None]
        values = [abs(value) if absolute else value for value in values if value is not None]
        return float(np.mean(values)) if values else None

    figures = {name: mean('error', name) for name in ('px', 'mm', 'cm', 'deg')}
    for name in ('x_px', 'y_px', 'x_mm', 'y_mm'):
        figures |= {name: mean('error', name, absolute=True), f'bias_{name}': mean('error', name)}
    for group in ('sample_error', 'rms_s2s', 'sd'):
        figures |= {f'{group}_{unit}': mean(group, unit) for unit in ('mm', 'deg')}
    lost = sum(point['n'] - point['n_valid'] for point in points)
    return {**figures, 'data_loss': lost / sum(point['n'] for point in points)}


def _latency(results: Sequence[GazeResult]) -> dict[str, dict[str, float]]:
    """Mean and 95th percentile of each step that any result has timed, ms."""
    names = sorted({name for result in results for name in result.times_ms})
    columns = {name: [result.times_ms[name] for result in results if name in result.times_ms] for name in names}
    return {name: {'mean': float(np.mean(t)), 'p95': float(np.percentile(t, 95))} for name, t in columns.items()}
