"""Filters of the live point against their formulas, and the gate."""

import math

import numpy as np
import pytest

from evg.errors import UserError
from evg.inference.filters import FILTERS, Gate, Kalman, MovingAverage, OneEuro, make_filter
from evg.inference.result import GazeResult


def track(seed: int = 3, n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Irregular times in s and noisy points that rest, jump and drift."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.01, 0.08, n))
    points = np.where(np.arange(n)[:, None] < n // 2, (300.0, 200.0), (900.0, 500.0)) + 40 * times[:, None]
    return times, points + rng.normal(0, 8, (n, 2))


def test_moving_average_by_hand():
    average = MovingAverage(3)
    points = [(0, 3), (3, 3), (6, 9), (9, 0), (0, 0)]
    answers = [average.update(0.1 * i, xy) for i, xy in enumerate(points)]
    assert np.allclose(answers, [(0, 3), (1.5, 3), (3, 5), (6, 4), (5, 3)])


def test_one_euro_is_the_papers_algorithm():
    times, points = track()
    min_cutoff, beta, d_cutoff = 1.3, 0.02, 0.8
    euro = OneEuro(min_cutoff, beta, d_cutoff)
    answers = np.array([euro.update(t, xy) for t, xy in zip(times, points, strict=True)])

    # Casiez et al. 2012, algorithms 1 to 3, one axis at a time, with the rate of each step.
    def alpha(rate, cutoff):
        return 1 / (1 + (1 / (2 * math.pi * cutoff)) / (1 / rate))

    for axis in (0, 1):
        hat_x, hat_dx = points[0, axis], 0.0
        for i in range(1, len(times)):
            rate = 1 / (times[i] - times[i - 1])
            a = alpha(rate, d_cutoff)
            hat_dx = a * (points[i, axis] - hat_x) * rate + (1 - a) * hat_dx
            a = alpha(rate, min_cutoff + beta * abs(hat_dx))
            hat_x = a * points[i, axis] + (1 - a) * hat_x
            assert answers[i, axis] == pytest.approx(hat_x, rel=1e-12)


def test_one_euro_with_beta_0_is_a_low_pass():
    # tau = 1 / (2 pi f) = 0.1 s, steps of 0.1 s: half of the way each time.
    euro = OneEuro(min_cutoff=1 / (0.2 * math.pi), beta=0)
    euro.update(0, (0, 0))
    assert np.allclose([euro.update(0.1 * i, (8, -8)) for i in (1, 2, 3)], [(4, -4), (6, -6), (7, -7)])


def test_kalman_is_the_textbook_filter_in_four_dimensions():
    times, points = track(5)
    acceleration, noise, start = 700.0, 12.0, 90.0
    kalman = Kalman(acceleration, noise, start)
    answers = [kalman.update(t, xy) for t, xy in zip(times, points, strict=True)]
    observe = np.hstack([np.eye(2), np.zeros((2, 2))])
    state = np.array([*points[0], 0, 0])
    covariance = np.diag([noise**2, noise**2, start**2, start**2])
    for i in range(1, len(times)):
        dt = times[i] - times[i - 1]
        move = np.eye(4) + dt * np.eye(4, k=2)
        push = acceleration**2 * np.kron([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]], np.eye(2))
        state, covariance = move @ state, move @ covariance @ move.T + push
        spread = observe @ covariance @ observe.T + noise**2 * np.eye(2)
        gain = covariance @ observe.T @ np.linalg.inv(spread)
        state = state + gain @ (points[i] - observe @ state)
        covariance = (np.eye(4) - gain @ observe) @ covariance
        assert np.allclose(answers[i], state[:2], rtol=1e-10, atol=0)


def test_kalman_follows_a_constant_velocity_without_lag():
    kalman = Kalman(acceleration=100, noise=1)
    for t in np.arange(0, 10, 0.05):
        answer = kalman.update(t, (100 * t, -50 * t))
    assert np.allclose(answer, (100 * t, -50 * t), atol=1e-3)


@pytest.mark.parametrize('name', [name for name in FILTERS if name != 'none'])
def test_what_all_filters_share(name):
    times, points = track(7)
    smooth = make_filter(name)
    answers = np.array([smooth.update(t, xy) for t, xy in zip(times, points, strict=True)])
    assert np.array_equal(answers[0], points[0])
    assert np.linalg.norm(answers - points, axis=1).max() > 1
    # A second point of the same time changes nothing; nor does writing into an answer.
    answers[-1] = smooth.update(times[-1], (0, 0))
    smooth.update(times[-1], (0, 0))[:] = -1
    again = make_filter(name)
    for t, xy in zip(times, points, strict=True):
        last = again.update(t, xy)
    assert np.array_equal(answers[-1], last)
    assert np.array_equal(smooth.update(times[-1] + 0.01, (5, 5)), again.update(times[-1] + 0.01, (5, 5)))
    # A gap, a step back in time and reset() begin anew.
    for later in (times[-1] + 0.52, times[0]):
        assert np.array_equal(smooth.update(later, (7, 8)), (7, 8))
        assert not np.array_equal(smooth.update(later + 0.1, (70, 80)), (70, 80))
    smooth.reset()
    assert np.array_equal(smooth.update(times[0] + 0.11, (1, 2)), (1, 2))
    with pytest.raises(ValueError, match='finite'):
        smooth.update(9, (math.nan, 1))


def test_names_and_constants():
    assert make_filter('none') is None
    assert make_filter('average').update(0, (1, 2)).tolist() == [1, 2]
    with pytest.raises(UserError, match="did you mean 'one_euro'"):
        make_filter('one_euroo')
    for wrong in (lambda: MovingAverage(0), lambda: OneEuro(0), lambda: Kalman(noise=-1), lambda: MovingAverage(5, 0)):
        with pytest.raises(UserError):
            wrong()
    with pytest.raises(UserError):
        Gate(min_score=2)


@pytest.mark.parametrize(
    ('result', 'reason'),
    [
        (GazeResult(True, screen_px=np.array([1.0, 2.0]), score=0.5, eyes_open=0.21), ''),
        (GazeResult(True, screen_px=np.array([1.0, 2.0]), score=0.5), ''),
        (GazeResult(True, screen_px=np.array([1.0, 2.0]), score=0.5, eyes_open=0.19), 'eyes closed'),
        (GazeResult(True, screen_px=np.array([1.0, 2.0]), score=0.5, eyes_open=math.nan), 'eyes closed'),
        (GazeResult(True, screen_px=np.array([1.0, 2.0]), score=0.29), 'low score'),
        (GazeResult(True, screen_px=np.array([1.0, math.nan]), score=1.0), 'no point on the screen'),
        (GazeResult(True, score=1.0), 'no point on the screen'),
        (GazeResult(False, 'face too small'), 'face too small'),
        (GazeResult(False), 'no face'),
    ],
)
def test_gate(result, reason):
    assert Gate(min_score=0.3).reason(result) == reason
