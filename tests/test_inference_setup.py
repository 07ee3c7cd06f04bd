"""Screen, camera and result: the records that every predictor, calibration and server share."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from evg.errors import UserError
from evg.inference import Camera, GazeResult, Screen
from evg.inference.display import parse_xrandr
from evg.synthetic.scene import _pose

# The screen of the table in docs/conventions.md: its upper edge 10 mm below the camera, centred.
DESK = Screen((1920, 1080), (553, 311), (276.5, -10, 0))


@pytest.mark.parametrize(
    ('px', 'camera_mm'), [((0, 0), (276.5, 10, 0)), ((1920, 1080), (-276.5, 321, 0)), ((960, 540), (0, 165.5, 0))]
)
def test_screen_corners_by_hand(px, camera_mm):
    np.testing.assert_allclose(DESK.px_to_camera(px), camera_mm, atol=1e-12)
    # Dropping z: u = -x, v = y; the offset rule says the same for a camera that is in the plane and level.
    plane = (-camera_mm[0], camera_mm[1])
    np.testing.assert_allclose(DESK.px_to_plane_mm(px), plane, atol=1e-12)
    np.testing.assert_allclose(DESK.rig((640, 480)).offset_screen_px_to_plane(px), plane, atol=1e-12)
    np.testing.assert_allclose(DESK.plane_mm_to_px(plane), px, atol=1e-9)


@pytest.mark.parametrize(('tilt_deg', 'y'), [(0, 0), (30, 50), (-30, -50)])
def test_a_camera_that_looks_up_sees_what_is_straight_ahead_lower(tilt_deg, y):
    screen = Screen((1920, 1080), (553, 311), (276.5, -10, -5), tilt_deg)
    # 100 mm in front of the lens, along the screen's normal: z of the screen runs away from the user.
    ahead = screen.to_camera @ (276.5, -10, -105, 1)
    np.testing.assert_allclose(ahead[:3], (0, y, np.sqrt(100**2 - y**2)), atol=1e-9)
    assert np.linalg.det(screen.to_camera[:3, :3]) == pytest.approx(1)


def test_a_camera_in_front_of_the_glass_has_the_screen_behind_it():
    assert Screen((100, 100), (100, 100), (50, 0, -20)).px_to_camera((50, 50))[2] == -20


def test_the_pose_is_that_of_the_synthetic_desk():
    pose = _pose((279.5, 15.0, 3.0), tilt_deg=3.0)  # a webcam that looks slightly down
    place = -pose[:3, :3].T @ pose[:3, 3]
    np.testing.assert_allclose(Screen((1920, 1080), (553, 311), place, -3).to_camera, pose, atol=1e-12)


def test_parallax_by_hand():
    # docs/conventions.md: an eye at (0, 0, 524) and a target at (-100, 50, -28) meet the plane at 524 / 552.
    screen = Screen((553, 311), (553, 311), (0, 0, -28))
    np.testing.assert_allclose(screen.px_to_camera((100, 50)), (-100, 50, -28))
    plane = np.array([100, 50]) * 524 / 552
    np.testing.assert_allclose(screen.px_to_plane_mm((100, 50), (0, 0, 524)), plane)
    np.testing.assert_allclose(screen.plane_mm_to_px(plane, (0, 0, 524)), (100, 50))


def test_plane_and_screen_are_inverse_for_any_pose():
    screen = Screen((1920, 1080), (344, 194), (170, -7, -4), -12)
    px = np.random.default_rng(0).uniform(-200, 2200, (50, 2))
    origin = np.array([30.0, -20.0, 600.0])
    for eye in (None, origin):
        np.testing.assert_allclose(screen.plane_mm_to_px(screen.px_to_plane_mm(px, eye), eye), px, atol=1e-8)
    np.testing.assert_allclose(screen.ray_to_px(origin, screen.px_to_camera(px) - origin), px, atol=1e-8)
    assert np.isnan(screen.ray_to_px(origin, (0, 0, 1))).all()


def test_contains_has_its_border_and_no_nan():
    inside = DESK.contains([[0, 0], [1920, 1080], [-0.1, 5], [5, 1080.1], [np.nan, 5]])
    assert inside.tolist() == [True, True, False, False, False]


def test_screen_from_a_diagonal():
    # 16 : 9, 15.6 inches: the diagonal is sqrt(337) units.
    screen = Screen.from_diagonal(15.6, (1920, 1080), camera_above_mm=0)
    np.testing.assert_allclose(screen.size_mm, 15.6 * 25.4 * np.array([16, 9]) / np.sqrt(337))
    assert screen.camera_mm == (pytest.approx(screen.size_mm[0] / 2), 0, 0)


@pytest.mark.parametrize('thing', [DESK, Camera([[600, 0, 320], [0, 610, 230], [0, 0, 1]], (640, 480), [0.1] * 5)])
def test_files_come_back(thing, tmp_path):
    path = tmp_path / 'a' / 'thing.json'
    thing.save(path)
    again = type(thing).load(path)
    assert (again.to_json(), again.identity()) == (thing.to_json(), thing.identity())
    changed = json.loads(path.read_text())
    changed['image_size' if 'image_size' in changed else 'size_px'] = [1280, 960]
    assert type(thing).from_json(changed).identity() != thing.identity()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'size_px': [0, 1080]}, 'size_px must be'),
        ({'size_mm': [553]}, 'size_mm must be 2 finite'),
        ({'size_mm': 'large'}, 'size_mm must be 2 finite'),
        ({'camera_mm': [1, 2, float('nan')]}, 'camera_mm must be 3 finite'),
        ({'camera_mm': [1, 2, True]}, 'camera_mm must be 3 finite'),
        ({'size_mm': [1e9, 1]}, '100,000'),
        ({'size_mm': [10**400, 1]}, 'size_mm must be 2 finite'),
        ({'tilt_deg': 90}, 'tilt_deg must lie'),
        ({'tilt_deg': [3]}, 'tilt_deg must be 1 finite number,'),
        ({'tilt': 3}, "did you mean 'tilt_deg'"),
        ({'version': 2}, 'version 2'),
        ({'format': 'evg-camera'}, "'evg-camera'"),
    ],
)
def test_what_is_no_screen_is_refused_by_name(change, message):
    with pytest.raises(UserError, match=message) as caught:
        Screen.from_json({**DESK.to_json(), **change}, 'desk.json')
    assert str(caught.value).startswith('desk.json: ')


def test_files_that_are_none_are_refused(tmp_path):
    path = tmp_path / 'screen.json'
    with pytest.raises(UserError, match=r'make_screen\.py'):
        Screen.load(path)
    for text in ('{', '[' * 100_000, '[]', '{"size_px": [1, 1]}'):
        path.write_text(text)
        with pytest.raises(UserError, match=r'screen\.json'):
            Screen.load(path)


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        (
            'HDMI-1 connected 2560x1440+1920+0 (normal left) 597mm x 336mm\n'
            'eDP-1 connected primary 1920x1080+0+0 (normal left inverted right x axis y axis) 344mm x 194mm\n',
            ((344, 194), (1920, 1080)),
        ),
        ('DP-2 connected 1080x1920+0+0 left (normal left) 531mm x 299mm\n', ((299, 531), (1080, 1920))),
        ('HDMI-1 disconnected (normal left inverted)\n', None),
    ],
)
def test_xrandr_is_read(text, expected):
    assert parse_xrandr(text) == expected


def test_field_of_view_ends_at_the_edges():
    camera = Camera.from_field_of_view((640, 480), 60)
    assert np.degrees(np.arctan(camera.rays((-0.5, 239.5))[0])) == pytest.approx(-30)
    np.testing.assert_allclose(camera.rays((319.5, 239.5)), (0, 0, 1), atol=1e-12)


def test_camera_of_a_scaled_picture_sees_the_same_rays():
    camera = Camera([[600, 0, 330], [0, 610, 230], [0, 0, 1]], (640, 480))
    half = camera.for_size((320, 240))
    # The middle of four px is a px of the smaller picture: 10.5 there is 4.75 here.
    np.testing.assert_allclose(half.rays((4.75, 100)), camera.rays((10, 200.5)), atol=1e-12)
    assert camera.for_size((640, 480)) is camera
    with pytest.raises(UserError, match='another shape'):
        camera.for_size((640, 360))


def test_camera_projects():
    camera = Camera([[600, 0, 330], [0, 610, 230], [0, 0, 1]], (640, 480))
    np.testing.assert_allclose(camera.project([[100, -50, 500], [0, 0, -5]]), [[450, 169], [np.nan, np.nan]])


def test_undistort_moves_a_dot_to_where_it_belongs():
    camera = Camera.from_focal(500, (640, 480))
    lens = Camera(camera.matrix, (640, 480), [-0.3, 0.1, 0.002, -0.001, 0.0])
    point = np.array([180.0, -120.0, 500.0])
    seen = cv2.projectPoints(point[None], np.zeros(3), np.zeros(3), lens.matrix, lens.distortion)[0].reshape(2)
    y, x = np.mgrid[:480, :640]
    image = np.exp(-((x - seen[0]) ** 2 + (y - seen[1]) ** 2) / 18)
    image = np.repeat((image * 255).astype(np.uint8)[..., None], 3, axis=2)
    weight = lens.undistort(image)[..., 0].astype(float)
    found = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
    assert np.hypot(*(seen - camera.project(point))) > 10
    assert np.hypot(*(found - camera.project(point))) < 0.2
    assert camera.undistort(image) is image


@pytest.mark.parametrize(
    'values',
    [
        {'matrix': [[1, 0], [0, 1]]},
        {'matrix': [[0, 0, 1], [0, 1, 1], [0, 0, 1]]},
        {'matrix': [[1, 0, 1], [0, 1, 1], [0, 0, 2]]},
        {'matrix': 'x'},
        {'matrix': [[1, 0, 1], [0, 1], [0, 0, 1]]},
        {'image_size': [640.5, 480]},
        {'distortion': [1, 2]},
        {'distortion': [1, 2, 3, float('inf')]},
        {'distortion': {'k1': 1}},
    ],
)
def test_what_is_no_camera_is_refused(values):
    with pytest.raises(UserError, match=r'^the camera: '):
        Camera.from_json({**Camera.from_focal(500, (640, 480)).to_json(), **values})


RESULT = GazeResult(
    True,
    plane_mm=np.array([12.5, -30]),
    screen_px=np.array([np.nan, 2.0]),
    gaze=np.array([-0.5, -np.sqrt(0.5), -0.5]),  # up and to the user's right, 45 degrees each
    head_rotation=np.eye(3),
    landmarks_px=np.array([[1.0, 2.0], [3.0, 4.0]]),
    score=np.float32(0.5),
    times_ms={'total': 12.5},
    timestamp_ms=40.0,
)


def test_derived_values_of_a_result():
    np.testing.assert_allclose(np.degrees(RESULT.pitchyaw_rad), (45, 45))
    np.testing.assert_allclose(RESULT.plane_cm, (1.25, -3))
    nothing = GazeResult(False, 'no face')
    assert (nothing.pitchyaw_rad, nothing.plane_cm) == (None, None)


def test_a_result_comes_back_through_json():
    text = json.dumps(RESULT.to_json(), allow_nan=False)
    assert json.loads(text)['screen_px'] == [None, 2.0]
    again = GazeResult.from_json(json.loads(text))
    assert json.dumps(again.to_json()) == text
    assert again.head_rotation.dtype == np.float64 and np.isnan(again.screen_px[0])


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ([], 'object'),
        ({}, "needs 'found'"),
        ({'found': 1}, 'found .* true or false'),
        ({'found': True, 'gazes': [0, 0, 1]}, "did you mean 'gaze'"),
        ({'found': True, 'gaze': [0, 0, 0]}, 'unit vector'),
        ({'found': True, 'gaze': [0, None, 1]}, 'unit vector'),
        ({'found': True, 'plane_mm': [1, 2, 3]}, r'plane_mm .* \(2,\)'),
        ({'found': True, 'plane_mm': 5}, 'plane_mm'),
        ({'found': True, 'plane_mm': ['1', '2']}, 'plane_mm'),
        ({'found': True, 'plane_mm': [True, 2]}, 'plane_mm'),
        ({'found': True, 'landmarks_px': [[1, 2], [3]]}, 'landmarks_px'),
        ({'found': True, 'landmarks_px': []}, 'landmarks_px'),
        ({'found': True, 'features': [1e400]}, 'features'),
        ({'found': True, 'score': 10**400}, 'score'),
        ({'found': True, 'reason': 3}, 'reason .* text'),
        ({'found': True, 'times_ms': [1]}, 'times_ms'),
        ({'found': True, 'times_ms': {'total': None}}, 'times_ms'),
    ],
)
def test_a_bad_result_is_refused_by_name(values, message):
    with pytest.raises(UserError, match=message):
        GazeResult.from_json(values)


def test_importing_is_light():
    heavy = ('torch', 'mmengine', 'cv2', 'mediapipe', 'onnxruntime')
    code = f'import sys, evg.inference; print([name for name in {heavy!r} if name in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ('[]', '')
