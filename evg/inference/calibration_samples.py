"""The samples of a calibration: which can be used, and as columns for the fits."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evg.errors import UserError
from evg.inference.filters import Gate
from evg.inference.result import GazeResult
from evg.inference.screen import Screen

Array = NDArray[np.float64]

MAX_POINTS = 32  # of a calibration
SETTLE_MS = 200.0  # a saccade begins about 0.2 s after its target appears
# Scatter within a point: a sample is out beyond this many times the median distance from the median (4 standard
# deviations of a round Gaussian, whose median distance is 1.18 of them), but never within the floor.
_SCATTER, _SCATTER_FLOOR_MM, _SCATTER_MIN = 4 / 1.18, 5.0, 5
_FAR_SCREENS = 10.0
_BLINK = (0.1, 0.4)  # closed for certain, and closed unless the person's eyes are narrow or look down
_MAX_FEATURES = 32  # a fit takes seconds then, and the estimators of this package have 12
_LARGEST = 1e6  # mm, px or features: beyond it a value is a mistake


@dataclass(frozen=True, eq=False)
class CalibrationSample:
    """One frame in which a person looked at a known point.

    Attributes:
        target_px: (2,) the point, px of the declared `Screen`.
        result: what the predictor said, not calibrated.
    """

    target_px: Array
    result: GazeResult


@dataclass(frozen=True, eq=False)
class Observations:
    """Samples as columns, N rows of P points; a row's sample may lack what is None for all.

    Convention: screen px; camera frame (OpenCV axes), mm.

    Attributes:
        screen: the declared screen.
        measured_px: (N, 2) the model's points, not calibrated.
        target_px: (N, 2) what was looked at; NaN where it is not known.
        point: (N,) each row's number among the points, in the order of their first sample.
        gaze, origin_mm: (N, 3), or None where a row has none.
        head_rotation: (N, 3, 3) head to camera, or None.
        features: (N, F), or None.
    """

    screen: Screen
    measured_px: Array
    target_px: Array
    point: NDArray[np.intp]
    gaze: Array | None
    origin_mm: Array | None
    head_rotation: Array | None
    features: Array | None

    @classmethod
    def of(cls, samples: Sequence[CalibrationSample], screen: Screen) -> 'Observations':
        """Columns of samples that all have a point on the screen."""
        targets = np.array([sample.target_px for sample in samples], np.float64)
        numbers: dict[tuple, int] = {}
        point = np.array([numbers.setdefault(tuple(target), len(numbers)) for target in targets.tolist()], np.intp)
        results = [sample.result for sample in samples]
        return cls(
            screen=screen,
            measured_px=np.array([result.screen_px for result in results], np.float64),
            target_px=targets,
            point=point,
            gaze=_column(results, 'gaze'),
            origin_mm=_column(results, 'origin_mm'),
            head_rotation=_column(results, 'head_rotation'),
            features=_column(results, 'features'),
        )

    def __len__(self) -> int:
        return len(self.point)

    def take(self, rows: NDArray) -> 'Observations':
        """Some rows, by a mask (N,) or by numbers; the points are numbered anew."""

        def cut(column: Array | None) -> Array | None:
            return None if column is None else column[rows]

        return Observations(
            self.screen,
            self.measured_px[rows],
            self.target_px[rows],
            np.unique(self.point[rows], return_inverse=True)[1].astype(np.intp),
            cut(self.gaze),
            cut(self.origin_mm),
            cut(self.head_rotation),
            cut(self.features),
        )

    def need(self, name: str) -> Array:
        """A column that a method cannot do without."""
        column = getattr(self, name)
        if column is None:
            raise UserError(f'this calibration needs {name} in every result')
        return column

    @property
    def count(self) -> NDArray[np.intp]:
        """(P,) samples of each point."""
        return np.bincount(self.point)

    @property
    def weight(self) -> Array:
        """(N,) every point weighs the same; the sum is 1."""
        return 1 / (self.count[self.point] * len(self.count))

    def means(self, column: Array) -> Array:
        """(P, K) mean of a column (N, K) at each point."""
        sums = np.zeros((len(self.count), column.shape[1]))
        np.add.at(sums, self.point, column)
        return sums / self.count[:, None]


def usable(
    samples: Sequence[CalibrationSample],
    screen: Screen,
    needs: Sequence[str] = (),
    settle_ms: float = SETTLE_MS,
    min_score: float = 0.0,
) -> tuple[list[int], list[tuple[int, str]]]:
    """Which samples of a calibration can be trusted.

    Left out are: frames without a face, with closed eyes (less open than half of what is usual at the point), with a
    low score, without a point on the screen's plane or without what the method needs; the first `settle_ms` of a point,
    where the frames have timestamps and the point lasts at least twice as long (the eye is still on its way); and, at a
    point with five samples or more, those far from the median of the point (a glance elsewhere).

    Args:
        samples: in the order of time.
        screen: the declared screen.
        needs: fields of the results that must be known.
        settle_ms: see above; 0 keeps the first samples.
        min_score: smallest `score` of a result, 0..1.

    Returns:
        Numbers of the samples that stay, and (number, reason) of the others.
    """
    reasons: dict[int, str] = {}
    limit = _FAR_SCREENS * max(screen.size_px)
    lids = _usual_opening(samples)
    for i, sample in enumerate(samples):
        target = np.asarray(sample.target_px, np.float64)
        if target.shape != (2,) or not np.isfinite(target).all() or np.abs(target).max() > limit:
            raise UserError(f'target_px of sample {i} must be two px of the screen, not {sample.target_px}')
        if sample.result.calibrated:
            raise UserError(f'sample {i} is calibrated already: a calibration is fitted to results without one')
        usual = lids.get(tuple(sample.target_px), 0.0)
        reason = Gate(min_score, float(np.clip(usual / 2, *_BLINK))).reason(sample.result)
        if not reason and np.abs(np.asarray(sample.result.screen_px)).max() > limit:
            reason = 'far off the screen'
        reason = reason or next((f'no {name}' for name in needs if not known(getattr(sample.result, name))), '')
        if reason:
            reasons[i] = reason
    for i in _unsettled(samples, settle_ms):
        reasons.setdefault(i, f"within {settle_ms:g} ms of the point's beginning")
    points: dict[tuple, list[int]] = {}
    for i, sample in enumerate(samples):
        if i not in reasons:
            points.setdefault(tuple(sample.target_px), []).append(i)
    for rows in points.values():
        places = screen.px_to_mm(np.array([samples[i].result.screen_px for i in rows]))
        far = np.linalg.norm(places - np.median(places, axis=0), axis=1)
        if len(rows) >= _SCATTER_MIN:
            allowed = max(_SCATTER * float(np.median(far)), _SCATTER_FLOOR_MM)
            away = {
                i: f'{d:.0f} mm from the others of its point' for i, d in zip(rows, far, strict=True) if d > allowed
            }
            reasons.update(away)
    return [i for i in range(len(samples)) if i not in reasons], sorted(reasons.items())


def count_reasons(rejected: Sequence[tuple[int, str]]) -> str:
    """'3 x eyes closed, 2 x no face'; distances are counted together."""
    words = Counter('looked elsewhere' if ' mm from the others' in reason else reason for _, reason in rejected)
    return ', '.join(f'{n} x {reason}' for reason, n in words.most_common())


def _usual_opening(samples: Sequence[CalibrationSample]) -> dict[tuple, float]:
    """Median of `eyes_open` at each point where it is known."""
    values: dict[tuple, list[float]] = {}
    for sample in samples:
        if sample.result.found and sample.result.eyes_open is not None:
            values.setdefault(tuple(sample.target_px), []).append(sample.result.eyes_open)
    return {target: float(np.median(opening)) for target, opening in values.items()}


def _unsettled(samples: Sequence[CalibrationSample], settle_ms: float) -> list[int]:
    """Samples from the beginning of each stay at a point."""
    stays: list[list[int]] = []
    for i, sample in enumerate(samples):
        if i == 0 or not np.array_equal(sample.target_px, samples[i - 1].target_px):
            stays.append([])
        stays[-1].append(i)
    early = []
    for stay in stays:
        times = [samples[i].result.timestamp_ms for i in stay]
        clock = [t for t in times if t is not None]
        if len(clock) == len(times) and max(clock) - min(clock) >= 2 * settle_ms:
            early += [i for i, t in zip(stay, clock, strict=True) if t - clock[0] < settle_ms]
    return early


def known(value: Array | None) -> bool:
    """Whether an array is there, finite and of a sane size."""
    return value is not None and bool((np.abs(value) <= _LARGEST).all())


def _column(results: Sequence[GazeResult], name: str) -> Array | None:
    """(N, ...) of a field, None where a result lacks it.

    Raises:
        UserError: features of different length, or a head_rotation that is none.
    """
    values = [getattr(result, name) for result in results]
    if not all(known(value) for value in values):
        return None
    shapes = {np.shape(value) for value in values}
    if len(shapes) > 1 or (name == 'features' and not 0 < len(values[0]) <= _MAX_FEATURES):
        raise UserError(f'{name} must have one length in all samples, 1 to {_MAX_FEATURES}; found {sorted(shapes)[:3]}')
    column = np.array(values, np.float64)
    if name == 'head_rotation' and np.abs(column @ column.transpose(0, 2, 1) - np.eye(3)).max() > 1e-3:
        raise UserError('head_rotation of a sample is not a rotation')
    return column
