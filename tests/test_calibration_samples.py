"""Which samples a calibration uses, and what it does with too few of them."""

from dataclasses import replace

import numpy as np
import pytest

from evg.errors import UserError
from evg.inference.calibration import CalibrationSample, fit_calibration, target_points
from evg.inference.calibration_samples import usable
from evg.inference.result import GazeResult
from evg.inference.screen import Screen

SCREEN = Screen((1920, 1080), (480, 270), (240, -12, 0))  # 4 px per mm


def sample(target, point, **more) -> CalibrationSample:
    values = dict(found=True, screen_px=np.array(point, np.float64), score=1.0, eyes_open=1.0)
    return CalibrationSample(np.array(target, np.float64), GazeResult(**{**values, **more}))


def steady(target, n=10, spread=8.0, seed=0) -> list[CalibrationSample]:
    """Samples around (30, -20) px from the target."""
    points = np.random.default_rng(seed).normal(0, spread, (n, 2)) + target + (30, -20)
    return [sample(target, point) for point in points]


def test_each_kind_of_bad_sample_is_left_out_with_its_reason():
    bad = [
        sample((500, 500), (530, 480), eyes_open=0.3),
        CalibrationSample(np.array([500.0, 500.0]), GazeResult(False, 'no face')),
        sample((500, 500), (530, 480), screen_px=None),
        sample((500, 500), (530, np.nan)),
        sample((500, 500), (1e7, 480)),
        sample((500, 500), (830, 880)),  # 500 px of 4 per mm away from where the others are
    ]
    samples = [*steady((500, 500)), *bad]
    kept, rejected = usable(samples, SCREEN)
    assert kept == list(range(10))
    reasons = ['eyes closed', 'no face', 'no point on the screen', 'no point on the screen', 'far off the screen']
    assert [reason for _, reason in rejected[:5]] == reasons
    assert rejected[5][0] == 15
    assert int(rejected[5][1].split()[0]) == pytest.approx(125, abs=6)
    with_bad, without = (fit_calibration(s, SCREEN, 'translation') for s in (samples, samples[:10]))
    assert np.array_equal(with_bad.model.offset_px, without.model.offset_px)
    assert with_bad.rejected == tuple(rejected)


def test_eyes_that_look_down_are_not_a_blink():
    narrow = [sample((500, 1000), (500, 1000), eyes_open=opening) for opening in (0.3, 0.25, 0.3, 0.2, 0.12)]
    assert [i for i, _ in usable(narrow, SCREEN)[1]] == [4]
    closed = [sample((500, 1000), (500, 1000), eyes_open=0.09) for _ in range(5)]
    assert len(usable(closed, SCREEN)[1]) == 5
    wide = [sample((500, 1000), (500, 1000), eyes_open=opening) for opening in (1, 1, 1, 0.41, 0.39)]
    assert [i for i, _ in usable(wide, SCREEN)[1]] == [4]


def test_noise_is_not_an_outlier():
    # 4 standard deviations of a round Gaussian: 3 in 10,000 samples.
    rng = np.random.default_rng(1)
    samples = [sample((500, 500), p) for p in rng.normal(500, 60, (4000, 2))]
    assert len(usable(samples, SCREEN)[1]) <= 6
    # Within 5 mm nothing is out, however still the others are; with four samples nobody knows which one is right.
    still = [sample((500, 500), (500, 500)) for _ in range(9)]
    assert usable([*still, sample((500, 500), (519, 500))], SCREEN)[1] == []
    assert [i for i, _ in usable([*still, sample((500, 500), (521, 500))], SCREEN)[1]] == [9]
    assert usable([*still[:3], sample((500, 500), (900, 500))], SCREEN)[1] == []


def test_the_eye_is_given_time_to_arrive():
    def at(target, times):
        return [sample(target, (500, 500), timestamp_ms=float(t)) for t in times]

    first, second = at((100, 100), range(0, 500, 50)), at((900, 100), range(1000, 1500, 50))
    kept, rejected = usable([*first, *second], SCREEN)
    assert kept == [*range(4, 10), *range(14, 20)]
    assert rejected[0] == (0, "within 200 ms of the point's beginning")
    assert len(usable([*first, *second], SCREEN, settle_ms=0)[0]) == 20
    # Coming back to a point is a new stay; a point shorter than twice the time, or without a clock, keeps all.
    assert usable([*first, *second, *at((100, 100), range(2000, 2500, 50))], SCREEN)[0][12:] == list(range(24, 30))
    assert len(usable(at((100, 100), range(0, 400, 50)), SCREEN)[0]) == 8
    unknown = replace(first[3].result, timestamp_ms=None)
    assert len(usable([*first, CalibrationSample(first[3].target_px, unknown)], SCREEN)[0]) == 11


def test_too_few_points_are_told_what_to_do():
    line = [s for x in (200, 600, 1000, 1400, 1800) for s in steady((x, 300 + 0.1 * x), 3)]
    for method in ('ridge', 'features'):
        more = [CalibrationSample(s.target_px, replace(s.result, features=np.ones(2))) for s in line]
        with pytest.raises(UserError, match=f"method '{method}' needs 4 points or more that do not lie on a line"):
            fit_calibration(more, SCREEN, method)
    with pytest.raises(UserError, match=r'needs 4 points .* has 3'):
        fit_calibration([s for t in target_points(4, SCREEN)[:3] for s in steady(t, 3)], SCREEN, 'ridge')
    fallen = fit_calibration(line, SCREEN, 'affine')
    assert fallen.method == 'translation'
    assert 'a translation was fitted instead' in fallen.message
    assert np.allclose(fallen.model.offset_px, (-30, 20), atol=8)
    # A model that sees no difference between the points must not be stretched over the screen.
    blind = [sample(t, np.random.default_rng(i).normal((960, 540), 1)) for i, t in enumerate(SCREEN_GRID)]
    assert fit_calibration(blind, SCREEN, 'affine').method == 'translation'
    assert fit_calibration(steady((500, 500)), SCREEN, 'translation').leave_one_out is None


SCREEN_GRID = target_points(9, SCREEN)


def test_a_point_that_was_lost_is_named():
    samples = [s for t in SCREEN_GRID[:8] for s in steady(t, 3)]
    samples += [CalibrationSample(SCREEN_GRID[8], GazeResult(False, 'no face')) for _ in range(3)]
    calibration = fit_calibration(samples, SCREEN)
    assert (calibration.n_points, calibration.n_samples) == (8, 24)
    assert calibration.message == 'No usable sample at the point (1728, 972): look there again.'


@pytest.mark.parametrize(
    ('samples', 'method', 'words'),
    [
        ([], 'affine', 'none of the 0 samples'),
        ([CalibrationSample(np.zeros(2), GazeResult(False, 'no face'))] * 3, 'affine', '3 x no face'),
        (steady((500, 500)), 'kappa', "10 x no gaze.*does not give gaze: use method 'affine'"),
        (steady((500, 500)), 'features', "does not give features: use method 'affine'"),
        (steady((500, 500)), 'afine', "did you mean 'affine'"),
        ([sample((np.nan, 1), (1, 1))], 'affine', 'target_px of sample 0'),
        ([sample((1, 1), (1, 1), calibrated=True)], 'affine', 'sample 0 is calibrated already'),
        ([sample((i, 7 * i % 11), (i, i)) for i in range(40)], 'affine', 'at most 32 points, not 40'),
    ],
)
def test_what_cannot_be_fitted(samples, method, words):
    with pytest.raises(UserError, match=words):
        fit_calibration(samples, SCREEN, method)


def test_samples_that_contradict_each_other_are_refused():
    targets = target_points(4, SCREEN)
    uneven = [sample(t, t, features=np.ones(2 + (i == 3))) for i, t in enumerate(targets)]
    with pytest.raises(UserError, match='features must have one length'):
        fit_calibration(uneven, SCREEN, 'features')
    sheared = np.array([[1, 0.5, 0], [0, 1, 0], [0, 0, 1]])
    gaze = dict(gaze=np.array([0, 0, -1.0]), origin_mm=np.array([0, 0, 600.0]), head_rotation=sheared)
    with pytest.raises(UserError, match='not a rotation'):
        fit_calibration([sample(t, t, **gaze) for t in targets], SCREEN, 'kappa')


@pytest.mark.parametrize('method', ['translation', 'affine', 'ridge', 'kappa', 'features'])
def test_wild_values_never_break_it(method):
    rng = np.random.default_rng(8)
    for _ in range(60):
        samples = []
        for target in target_points(int(rng.choice([4, 5, 9])), SCREEN):
            for _ in range(int(rng.integers(1, 4))):
                scale = 10.0 ** rng.integers(-3, 9)
                gaze = rng.normal(size=3)
                more = dict(
                    gaze=gaze / np.linalg.norm(gaze),
                    origin_mm=scale * rng.normal(size=3),
                    features=rng.choice([0, 1, np.nan, scale], 5, p=[0.4, 0.4, 0.02, 0.18]),
                )
                samples.append(sample(target, rng.choice([0, 5, 1e3, scale], 2), **more))
        try:
            calibration = fit_calibration(samples, SCREEN, method)
        except UserError:
            continue
        assert calibration.to_json()['parameters']
        for one in samples:
            point = calibration.apply(one.result).screen_px
            assert point is None or np.isfinite(point).all() or not np.isfinite(one.result.screen_px).all()
