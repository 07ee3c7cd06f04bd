"""Smoothing of the live point of gaze, and gates that keep blinks and doubtful answers out of it.

Convention of this module (all filters):
    `update` takes a time in seconds and a point (2,) in any unit, usually screen px, and returns the smoothed point
    (2,) in that unit. Times may be irregular. After a gap of more than `max_gap_s`, or a time that lies before the
    last one, a filter begins anew; a second point of the same time is left out, and the last answer stands. A frame
    without a point is not given to a filter. The constants that are speeds or deviations are in the unit of the
    points.
"""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evg.errors import UserError, did_you_mean
from evg.inference.result import GazeResult

Array = NDArray[np.float64]

MAX_GAP_S = 0.5
# A blink takes 0.1 to 0.4 s; while the lids close, the point dives. Below this opening it is not trusted. Eyes that
# look down at the lower edge of a screen are half closed, and must pass.
MIN_EYES_OPEN = 0.2


class PointFilter(ABC):
    """What the filters share: the clock.

    Args:
        max_gap_s: a longer pause between two points begins anew.
    """

    def __init__(self, max_gap_s: float = MAX_GAP_S):
        if not max_gap_s > 0:
            raise UserError(f'max_gap_s must be positive, not {max_gap_s}')
        self.max_gap_s = max_gap_s
        self._last: tuple[float, Array] | None = None

    def reset(self) -> None:
        """Forget all points."""
        self._last = None

    def update(self, t_s: float, xy: ArrayLike) -> Array:
        """Take a point (2,) at a time in s; returns the smoothed point (2,)."""
        point = np.array(xy, np.float64)
        if point.shape != (2,) or not np.isfinite(point).all() or not math.isfinite(t_s):
            raise ValueError(f'a filter needs a finite time and a finite point (2,), not {t_s} and {point}')
        step_s = t_s - self._last[0] if self._last else math.inf
        if step_s == 0 and self._last:
            return self._last[1].copy()
        answer = self._next(point, step_s) if 0 < step_s <= self.max_gap_s else self._first(point)
        self._last = (t_s, answer)
        return answer.copy()

    @abstractmethod
    def _first(self, point: Array) -> Array:
        """Begin with a point."""

    @abstractmethod
    def _next(self, point: Array, step_s: float) -> Array:
        """Go on with a point that came `step_s` seconds after the last one."""


class MovingAverage(PointFilter):
    """Mean of the last points. EVG's live demo takes 5 of them, the Atlas client 10.

    Args:
        n: how many.
        max_gap_s: see the module.
    """

    def __init__(self, n: int = 5, max_gap_s: float = MAX_GAP_S):
        super().__init__(max_gap_s)
        if n < 1:
            raise UserError(f'MovingAverage.n must be 1 or more, not {n}')
        self._points: deque[Array] = deque(maxlen=int(n))

    def _first(self, point: Array) -> Array:
        self._points.clear()
        return self._next(point, 0.0)

    def _next(self, point: Array, step_s: float) -> Array:
        self._points.append(point)
        return np.mean(self._points, axis=0)


class OneEuro(PointFilter):
    """The 1 Euro filter (Casiez, Roussel, Vogel: CHI 2012), on each axis: smooth while still, quick while moving.

    A first-order low-pass whose cut-off grows with the speed, f = min_cutoff + beta * |speed|. The speed is the slope
    against the last answer, itself low-passed at d_cutoff. A low-pass of cut-off f over a step of T seconds takes the
    new value with weight 1 / (1 + tau / T), tau = 1 / (2 pi f).

    Args:
        min_cutoff: cut-off at rest, Hz; smaller is smoother.
        beta: what a speed of 1 unit per second adds to the cut-off, Hz; larger lags less.
        d_cutoff: cut-off of the speed, Hz.
        max_gap_s: see the module.
    """

    def __init__(
        self, min_cutoff: float = 1.0, beta: float = 0.007, d_cutoff: float = 1.0, max_gap_s: float = MAX_GAP_S
    ):
        super().__init__(max_gap_s)
        if not (min_cutoff > 0 and beta >= 0 and d_cutoff > 0):
            raise UserError(
                f'OneEuro needs min_cutoff > 0, beta >= 0, d_cutoff > 0, not {min_cutoff}, {beta}, {d_cutoff}'
            )
        self.min_cutoff, self.beta, self.d_cutoff = min_cutoff, beta, d_cutoff
        self._point = self._speed = np.zeros(2)

    def _first(self, point: Array) -> Array:
        self._point, self._speed = point, np.zeros(2)
        return point

    def _next(self, point: Array, step_s: float) -> Array:
        speed = (point - self._point) / step_s
        self._speed = self._speed + _weight(self.d_cutoff, step_s) * (speed - self._speed)
        cutoff = self.min_cutoff + self.beta * np.abs(self._speed)
        self._point = self._point + _weight(cutoff, step_s) * (point - self._point)
        return self._point


def _weight(cutoff_hz: ArrayLike, step_s: float) -> Array:
    """Weight of a new value in a first-order low-pass."""
    return 1 / (1 + 1 / (2 * np.pi * np.asarray(cutoff_hz, np.float64) * step_s))


class Kalman(PointFilter):
    """Kalman filter of a point that moves with constant velocity, pushed by white acceleration.

    Both axes have the same constants, so they share one 2 x 2 covariance of position and velocity.

    Args:
        acceleration: root of the spectral density of the acceleration, unit / s^1.5; smaller is smoother.
        noise: standard deviation of a measured point on each axis.
        start_speed: standard deviation of the velocity at the beginning, unit / s.
        max_gap_s: see the module.
    """

    def __init__(
        self,
        acceleration: float = 3000.0,
        noise: float = 40.0,
        start_speed: float = 500.0,
        max_gap_s: float = MAX_GAP_S,
    ):
        super().__init__(max_gap_s)
        if not (acceleration > 0 and noise > 0 and start_speed > 0):
            raise UserError(f'Kalman needs positive constants, not {acceleration}, {noise}, {start_speed}')
        self.acceleration, self.noise, self.start_speed = acceleration, noise, start_speed
        self._state = np.zeros((2, 2))  # position and velocity, each (2,)
        self._covariance = np.zeros((2, 2))

    def _first(self, point: Array) -> Array:
        self._state = np.stack([point, np.zeros(2)])
        self._covariance = np.diag([self.noise**2, self.start_speed**2])
        return point

    def _next(self, point: Array, step_s: float) -> Array:
        move = np.array([[1.0, step_s], [0.0, 1.0]])
        push = np.array([[step_s**3 / 3, step_s**2 / 2], [step_s**2 / 2, step_s]])
        state = move @ self._state
        covariance = move @ self._covariance @ move.T + self.acceleration**2 * push
        gain = covariance[:, 0] / (covariance[0, 0] + self.noise**2)
        self._state = state + np.outer(gain, point - state[0])
        # Joseph's form stays symmetric and positive whatever the rounding.
        keep = np.eye(2) - np.outer(gain, [1.0, 0.0])
        self._covariance = keep @ covariance @ keep.T + self.noise**2 * np.outer(gain, gain)
        return self._state[0]


FILTERS: dict[str, Callable[[], PointFilter | None]] = {
    'none': lambda: None,
    'average': MovingAverage,
    'one_euro': OneEuro,
    'kalman': Kalman,
}


def make_filter(name: str) -> PointFilter | None:
    """A filter for screen px by its name, with its default constants; None for 'none'."""
    if name not in FILTERS:
        raise UserError(f'unknown filter {name!r}{did_you_mean(name, FILTERS)}')
    return FILTERS[name]()


class Gate:
    """Which results are good enough to be shown and smoothed.

    Args:
        min_score: smallest `score`, 0..1.
        min_eyes_open: smallest `eyes_open`, 0..1; a model that does not know it passes.
    """

    def __init__(self, min_score: float = 0.0, min_eyes_open: float = MIN_EYES_OPEN):
        if not (0 <= min_score <= 1 and 0 <= min_eyes_open <= 1):
            raise UserError(f'Gate needs two numbers from 0 to 1, not {min_score} and {min_eyes_open}')
        self.min_score, self.min_eyes_open = min_score, min_eyes_open

    def reason(self, result: GazeResult) -> str:
        """Why a result stays out: 'no face', 'eyes closed', 'low score', 'no point on the screen'; '' lets it pass."""
        if not result.found:
            return result.reason or 'no face'
        if result.eyes_open is not None and not result.eyes_open >= self.min_eyes_open:
            return 'eyes closed'
        if not result.score >= self.min_score:
            return 'low score'
        if result.screen_px is None or not np.isfinite(result.screen_px).all():
            return 'no point on the screen'
        return ''
