"""Calibration: each method finds its own transformation, errors are brute force, files belong to one set-up."""

import json
from dataclasses import replace

import numpy as np
import pytest

from evg.errors import UserError
from evg.geometry import angle_between_deg, pitchyaw_to_vector
from evg.inference.calibration import METHODS, Calibration, CalibrationSample, fit_calibration, target_points
from evg.inference.calibration_methods import PENALTIES
from evg.inference.result import GazeResult
from evg.inference.screen import Screen
from evg.synthetic.scene import eye_rotation, head_rotation

SCREEN = Screen((1920, 1080), (480, 270), (240, -12, 3), tilt_deg=-4)  # 4 px per mm
ORIGIN = np.array([15.0, -30.0, 610.0])


def result(point_px, origin=ORIGIN, **more) -> GazeResult:
    """A result whose point, plane and gaze agree."""
    point = np.asarray(point_px, np.float64)
    gaze = SCREEN.px_to_camera(point) - origin
    plane = SCREEN.px_to_plane_mm(point, origin)
    values = dict(found=True, screen_px=point, plane_mm=plane, on_screen=bool(SCREEN.contains(point)), score=1.0)
    return GazeResult(**{**values, 'gaze': gaze / np.linalg.norm(gaze), 'origin_mm': origin, **more})


def sample(target_px, point_px, **more) -> CalibrationSample:
    return CalibrationSample(np.asarray(target_px, np.float64), result(point_px, **more))


def noisy(n_points=9, per_point=4, seed=0) -> list[CalibrationSample]:
    """Samples of a person whom the model sees squeezed, shifted, bent and shaking, with features that tell how."""
    rng = np.random.default_rng(seed)
    samples = []
    for target in target_points(n_points, SCREEN):
        for _ in range(per_point):
            x, y = target / SCREEN.size_px * 2 - 1
            features = rng.normal(0, 1, 3)
            bent = np.array([60 * x * y + 20 * features[0], 50 * x * x - 30 * y])
            point = 0.85 * target + (130, -60) + bent + rng.normal(0, 12, 2)
            samples.append(sample(target, point, origin=ORIGIN + rng.normal(0, 8, 3), features=features))
    return samples


def test_target_points():
    small = Screen((100, 50), (400, 200), (200, -10, 0))
    assert target_points(4, small).tolist() == [[10, 5], [90, 5], [10, 45], [90, 45]]
    assert target_points(5, small, 0.2).tolist() == [[20, 10], [80, 10], [50, 25], [20, 40], [80, 40]]
    assert target_points(9, small)[[0, 1, 4, 8]].tolist() == [[10, 5], [50, 5], [50, 25], [90, 45]]
    assert np.allclose(target_points(13, small)[3:5], [[30, 15], [70, 15]])
    assert [len(np.unique(target_points(n, small), axis=0)) for n in (4, 5, 9, 13)] == [4, 5, 9, 13]
    for n, margin in ((7, 0.1), (9, 0.5)):
        with pytest.raises(UserError):
            target_points(n, small, margin)


def test_translation_by_hand():
    samples = [
        sample((100, 100), (90, 110)),
        sample((100, 100), (94, 106)),  # mean (92, 108): (8, -8) to the target
        sample((500, 300), (480, 310)),  # (20, -10), and this point weighs as much
    ]
    calibration = fit_calibration(samples, SCREEN, 'translation')
    assert np.allclose(calibration.model.offset_px, (14, -9), atol=1e-12)
    assert np.allclose(calibration.apply(result((0, 5))).screen_px, (14, -4))
    # Without the first point the shift is (20, -10): it ends at (112, 98), 12 and -2 px off, 4 px per mm.
    first, second = calibration.leave_one_out.per_point
    assert first['after']['x_px'] == pytest.approx(12)
    assert first['after']['y_px'] == pytest.approx(-2)
    assert first['after']['mm'] == pytest.approx(148**0.5 / 4)
    assert (first['n'], second['n']) == (2, 1)
    assert calibration.leave_one_out.mean('px') == pytest.approx(148**0.5)  # (-12, 2) at the second point
    assert calibration.leave_one_out.mean('px', 'before') == pytest.approx((128**0.5 + 500**0.5) / 2)


def test_affine_finds_its_matrix():
    matrix = np.array([[1.1, 0.05, -40], [-0.03, 1.3, 25]])
    points = target_points(5, SCREEN)
    samples = [sample(matrix[:, :2] @ p + matrix[:, 2], p) for p in points for _ in range(2)]
    calibration = fit_calibration(samples, SCREEN, 'affine')
    assert np.allclose(calibration.model.matrix, matrix, rtol=0, atol=1e-9)
    assert calibration.leave_one_out.mean('px') == pytest.approx(0, abs=1e-9)
    assert np.allclose(calibration.apply(result((700, 300))).screen_px, matrix @ (700, 300, 1))
    assert calibration.message == ''


def test_ridge_finds_its_polynomial():
    points = target_points(13, SCREEN)
    x, y = (2 * points / SCREEN.size_px - 1).T
    coefficients = np.array([[3, -5], [8, 2], [-1, 9], [4, -3], [2, 6], [-7, 1]], np.float64)
    basis = np.column_stack([np.ones(13), x, y, x**2, x * y, y**2])
    samples = [sample(p + 4 * c, p) for p, c in zip(points, basis @ coefficients, strict=True)]
    calibration = fit_calibration(samples, SCREEN, 'ridge')
    assert calibration.model.penalty == 0
    assert np.allclose(calibration.model.coefficients_mm, coefficients, rtol=0, atol=1e-9)
    # At (1440, 270), x = 0.5 and y = -0.5: 3 + 4 + 0.5 + 1 - 0.5 - 1.75 = 6.25 mm; -5 + 1 - 4.5 - 0.75 - 1.5 + 0.25.
    assert np.allclose(calibration.apply(result((1440, 270))).screen_px, (1440 + 4 * 6.25, 270 - 4 * 10.5))
    # Outside, the correction stays what it is a quarter of half a screen beyond the border.
    far, farther = (calibration.apply(result(p)).screen_px - p for p in ((2160, 540), (5000, 540)))
    assert np.allclose(far, farther)


@pytest.mark.parametrize('n_points', [4, 5, 9, 13])
def test_ridge_is_its_normal_equations_with_the_best_penalty(n_points):
    samples = noisy(n_points)
    model = fit_calibration(samples, SCREEN, 'ridge').model
    targets = target_points(n_points, SCREEN)
    means = np.array([np.mean([s.result.screen_px for s in samples if (s.target_px == t).all()], 0) for t in targets])
    x, y = (2 * means / SCREEN.size_px - 1).T
    rows = np.column_stack([np.ones(n_points), x, y, x**2, x * y, y**2])
    goal = (targets - means) / 4

    def solve(keep, penalty):
        if penalty == 0:  # the smallest slopes among the exact ones
            slopes = np.linalg.pinv((rows - rows[keep].mean(0))[keep, 1:]) @ goal[keep]
            return np.vstack([(goal - rows[:, 1:] @ slopes)[keep].mean(0), slopes])
        shrink = np.diag([0, *[penalty] * 5]) * keep.sum()
        return np.linalg.solve(rows[keep].T @ rows[keep] + shrink, rows[keep].T @ goal[keep])

    folds = [np.arange(n_points) != i for i in range(n_points)]
    errors = [[((rows[~keep] @ solve(keep, p) - goal[~keep]) ** 2).sum() for keep in folds] for p in PENALTIES]
    means = np.mean(errors, axis=1)
    enough = means.min() + np.std(errors[int(np.argmin(means))]) / np.sqrt(n_points)
    assert model.penalty == max(p for p, mean in zip(PENALTIES, means, strict=True) if mean <= enough)
    assert np.allclose(model.coefficients_mm, solve(np.ones(n_points, bool), model.penalty), rtol=0, atol=1e-8)


@pytest.mark.parametrize('frame', ['head', 'camera'])
def test_kappa_is_found_in_three_dimensions(frame):
    # The synthetic world's eye (no torsion, Fick) with a kappa that the model does not know: it says the optical axis.
    rng = np.random.default_rng(4)
    kappa = np.radians([1.7, -4.3])
    samples, true = [], []
    for target in target_points(9, SCREEN):
        head = head_rotation(np.radians(rng.normal(0, 12, 2)), np.radians(rng.normal(0, 8)))
        head = head if frame == 'head' else np.eye(3)
        origin = ORIGIN + rng.normal(0, 40, 3)
        sight = SCREEN.px_to_camera(target) - origin
        optical = -(head @ eye_rotation(head.T @ sight / np.linalg.norm(sight), kappa))[:, 2]
        more = dict(gaze=optical, head_rotation=head if frame == 'head' else None)
        samples.append(sample(target, SCREEN.ray_to_px(origin, optical), origin=origin, **more))
        true.append(sight / np.linalg.norm(sight))
    calibration = fit_calibration(samples, SCREEN, 'kappa')
    assert calibration.model.frame == frame
    assert np.degrees(np.abs(calibration.model.pitchyaw_rad - kappa)).max() < 1e-6
    for one, sight in zip(samples, true, strict=True):
        corrected = calibration.apply(one.result)
        assert angle_between_deg(corrected.gaze, sight) < 1e-6
        assert np.allclose(corrected.screen_px, one.target_px, atol=1e-5)
    assert calibration.leave_one_out.mean('deg') == pytest.approx(0, abs=1e-6)
    assert calibration.leave_one_out.mean('deg', 'before') > 3


def test_kappa_minimises_the_sum_of_squared_chords():
    samples = noisy()
    fitted = fit_calibration(samples, SCREEN, 'kappa')

    def cost(pitchyaw):
        model = replace(fitted.model, pitchyaw_rad=np.asarray(pitchyaw))
        gaze = [replace(fitted, model=model).apply(s.result).gaze for s in samples]
        sight = np.array([SCREEN.px_to_camera(s.target_px) - s.result.origin_mm for s in samples])
        return np.sum((gaze - sight / np.linalg.norm(sight, axis=1, keepdims=True)) ** 2)

    best = fitted.model.pitchyaw_rad
    around = [best + 1e-3 * np.array([np.cos(a), np.sin(a)]) for a in np.arange(0, 6.28, 0.7)]
    assert all(cost(other) > cost(best) for other in around)
    step = 1e-4
    for axis in np.eye(2):
        assert (cost(best + step * axis) - cost(best - step * axis)) / (2 * step) == pytest.approx(0, abs=1e-6)


def test_features_find_their_linear_map():
    rng = np.random.default_rng(2)
    slopes = rng.normal(0, 6, (4, 2))
    samples = []
    for target in target_points(9, SCREEN):
        for _ in range(12):
            features = rng.uniform(-1, 1, 4) * (1, 0.01, 3, 0)  # the last one stands still
            samples.append(sample(target, target - 4 * ((3, -2) + features @ slopes), features=features))
    calibration = fit_calibration(samples, SCREEN, 'features')
    assert calibration.model.penalty == 0
    features = np.array([0.3, -0.004, 1.1, 0])
    answer = calibration.apply(result((900, 500), features=features)).screen_px
    assert np.allclose(answer, (900, 500) + 4 * ((3, -2) + features @ slopes), rtol=0, atol=1e-6)
    with pytest.raises(UserError, match='4 features'):
        calibration.apply(result((900, 500), features=features[:3]))


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('n_points', [4, 9])
def test_leave_one_out_is_brute_force(method, n_points):
    samples = noisy(n_points)
    if n_points == 4 and method in ('ridge', 'features'):  # brute force has three points, for which these ask for more
        samples += [sample((960, 540 + shift), (990, 500), features=np.ones(3)) for shift in (0, 9)]
    calibration = fit_calibration(samples, SCREEN, method)
    assert len(calibration.leave_one_out.per_point) == len({tuple(s.target_px) for s in samples})
    for point in calibration.leave_one_out.per_point:
        out = [s for s in samples if s.target_px.tolist() == point['target_px']]
        others = fit_calibration([s for s in samples if s not in out], SCREEN, method)
        mean = np.mean([others.apply(s.result).screen_px for s in out], axis=0)
        target, origin = out[0].target_px, np.mean([s.result.origin_mm for s in out], axis=0)
        assert point['after']['px'] == pytest.approx(np.linalg.norm(mean - target), rel=1e-9)
        assert point['after']['mm'] == pytest.approx(np.linalg.norm(mean - target) / 4, rel=1e-9)
        rays = SCREEN.px_to_camera(np.stack([mean, target])) - origin
        assert point['after']['deg'] == pytest.approx(angle_between_deg(*rays), rel=1e-9)
    if n_points == 9:
        assert calibration.leave_one_out.mean('mm') < calibration.leave_one_out.mean('mm', 'before')


@pytest.mark.parametrize('method', METHODS)
def test_a_calibrated_result_agrees_with_itself(method):
    samples = noisy()
    calibration = fit_calibration(samples, SCREEN, method)
    before = samples[4].result
    old = before.to_json()
    after = calibration.apply(before)
    assert before.to_json() == old
    assert after.calibrated
    assert np.linalg.norm(after.screen_px - before.screen_px) > 10
    # The line from the origin along the gaze meets the plane z = 0 at plane_mm, and the screen at screen_px.
    at = after.origin_mm - after.gaze * after.origin_mm[2] / after.gaze[2]
    assert np.allclose(after.plane_mm, at[:2] * (-1, 1))
    assert np.allclose(SCREEN.ray_to_px(after.origin_mm, after.gaze), after.screen_px)
    assert np.linalg.norm(after.gaze) == pytest.approx(1)
    outside = calibration.apply(result((1900, 30), features=np.zeros(3)))
    assert outside.on_screen == bool(SCREEN.contains(outside.screen_px))
    with pytest.raises(UserError, match='calibrated already'):
        calibration.apply(after)
    for nothing in (GazeResult(False, 'no face'), GazeResult(True)):
        assert calibration.apply(nothing).to_json() == nothing.to_json()


def test_without_an_origin_the_plane_point_moves_along_the_normal():
    samples = [sample((100, 100), (90, 110), origin=ORIGIN, gaze=None)]
    calibration = fit_calibration(samples, SCREEN, 'translation')
    after = calibration.apply(replace(samples[0].result, origin_mm=None))
    assert after.gaze is None
    assert np.allclose(after.plane_mm, SCREEN.px_to_plane_mm((100, 100)))
    assert calibration.leave_one_out is None


def test_a_gaze_that_turns_away_from_the_screen_has_no_point():
    turned = fit_calibration(noisy(4), SCREEN, 'kappa')
    away = pitchyaw_to_vector(np.radians([0, 89.9]))
    model = replace(turned.model, pitchyaw_rad=np.radians([0.0, 30.0]))
    after = replace(turned, model=model).apply(result((100, 100), gaze=away))
    assert (after.screen_px, after.plane_mm, after.on_screen, after.calibrated) == (None, None, False, True)
    assert angle_between_deg(after.gaze, pitchyaw_to_vector(np.radians([0, 119.9]))) < 1e-9


@pytest.mark.parametrize('method', METHODS)
def test_a_file_gives_the_same_calibration(method, tmp_path):
    samples = noisy()
    fitted = fit_calibration(samples, SCREEN, method, model_identity='resdcn18 1a2b', camera_identity='c0ffee')
    fitted.save(tmp_path / 'me.json')
    loaded = Calibration.load(tmp_path / 'me.json')
    loaded.check(SCREEN, 'resdcn18 1a2b', 'c0ffee')
    assert loaded.to_json() == fitted.to_json()
    for one in samples[:3]:
        assert loaded.apply(one.result).to_json() == fitted.apply(one.result).to_json()


@pytest.mark.parametrize(
    ('setup', 'words'),
    [
        ((replace(SCREEN, tilt_deg=0), 'model', 'camera'), 'another screen'),
        ((SCREEN, 'other', 'camera'), r'another model \(model, not other\)'),
        ((SCREEN, 'model', ''), r'another camera \(camera, not none\)'),
        ((SCREEN, 'a', 'b'), 'another model .* and another camera'),
    ],
)
def test_it_is_refused_for_another_set_up(setup, words):
    with pytest.raises(UserError, match=words):
        fit_calibration(noisy(4), SCREEN, 'affine', 'model', 'camera').check(*setup)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'version': 2}, 'evg-calibration'),
        ({'method': 'spline'}, 'method must be one of'),
        ({'parameters': {'matrix': [[1, 0, 0]]}}, r'parameter matrix .* \(2, 3\)'),
        ({'parameters': {'matrix': [[1, 0, 0], [0, 1, None]]}}, 'finite'),
        ({'parameters': {'offset': 1}}, 'must be matrix'),
        ({'screen': {}}, 'screen: the field'),
        ({'leave_one_out': {'per_point': [{}]}}, 'damaged'),
        ({'rejected': 7}, 'damaged'),
        ({'owner': 'me'}, "unknown field 'owner'"),
    ],
)
def test_a_damaged_file_says_what_is_wrong(change, words, tmp_path):
    values = {**fit_calibration(noisy(4), SCREEN).to_json(), **change}
    path = tmp_path / 'c.json'
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match=words):
        Calibration.load(path)


STAGE = {'x_px': 3, 'y_px': 4, 'x_mm': 3, 'y_mm': 4, 'px': 5, 'mm': 5, 'cm': 0.5, 'deg': None}
POINT = {'target_px': [1, 2], 'n': 3, 'before': STAGE, 'after': None}
DAMAGED_POINTS = {
    'a text': POINT | {'before': STAGE | {'px': '5'}},
    'names alone': POINT | {'before': ['px', 'mm', 'deg']},
    'an object': POINT | {'before': STAGE | {'px': {}}},
    'not a number': POINT | {'before': STAGE | {'px': float('nan')}},
    'a sum without end': POINT | {'before': STAGE | {'px': 1e308}},
    'no float': POINT | {'before': STAGE | {'mm': 10**400}},
    'true': POINT | {'before': STAGE | {'mm': True}},
    'unknown': POINT | {'before': STAGE | {'mm': None}},
    'another unit': POINT | {'before': STAGE | {'km': 1}},
    'no unit': POINT | {'before': {'px': 5}},
    'target': POINT | {'target_px': [1, float('nan')]},
    'target of three': POINT | {'target_px': [1, 2, 3]},
    'half a sample': POINT | {'n': 2.5},
    'less than none': POINT | {'n': -1},
    'a list': [POINT],
}


@pytest.mark.parametrize('name', DAMAGED_POINTS)
def test_a_damaged_report_in_a_file_is_refused(name):
    values = fit_calibration(noisy(4), SCREEN).to_json()
    good = Calibration.from_json(values | {'leave_one_out': {'per_point': [POINT, POINT]}})
    assert (good.leave_one_out.mean('px', 'before'), good.leave_one_out.mean('px')) == (5, None)
    for points in ([POINT, DAMAGED_POINTS[name]], [DAMAGED_POINTS[name]] * 2):
        with pytest.raises(UserError, match='damaged'):
            Calibration.from_json(values | {'leave_one_out': {'per_point': points}})


def test_a_report_of_more_points_than_a_calibration_has_is_refused():
    values = fit_calibration(noisy(4), SCREEN).to_json()
    Calibration.from_json(values | {'leave_one_out': {'per_point': [POINT] * 32}})
    with pytest.raises(UserError, match='damaged'):
        Calibration.from_json(values | {'leave_one_out': {'per_point': [POINT] * 33}})


@pytest.mark.parametrize('method', ['kappa', 'features'])
def test_parameters_that_contradict_each_other_are_refused(method):
    values = fit_calibration(noisy(), SCREEN, method).to_json()
    values['parameters'] |= {'kappa': {'frame': 'eye'}, 'features': {'center': [0.0]}}[method]
    with pytest.raises(UserError, match=r'frame|each column'):
        Calibration.from_json(values)
