"""Angles, screens, planes and affine maps against values worked out by hand."""

import cv2
import numpy as np
import pytest

from evg.geometry import (
    InputFrame,
    Rig,
    VirtualPlane,
    angle_between_deg,
    apply_affine,
    compose_affine,
    flip_matrix,
    intersect_plane,
    invert_affine,
    pitchyaw_to_vector,
    plane_point_by_pose,
    plane_point_by_ray,
    vector_to_pitchyaw,
)

RNG = np.random.default_rng(0)
S = np.sqrt(0.5)


# Directions as one would say them; OpenCV axes, the person looks towards the camera (z < 0).
@pytest.mark.parametrize(
    ('vector', 'pitch_deg', 'yaw_deg'),
    [
        ((0, 0, -1), 0, 0),  # straight into the camera
        ((0, -S, -S), 45, 0),  # up
        ((0, S, -S), -45, 0),  # down
        ((-S, 0, -S), 0, 45),  # to the user's right, which is the image's left
        ((S, 0, -S), 0, -45),  # to the user's left
        ((-0.5, -S, -0.5), 45, 45),  # up and to the user's right
        ((-1, 0, 0), 0, 90),
        ((0, 0, 1), 0, -180),
    ],
)
def test_directions_by_hand(vector, pitch_deg, yaw_deg):
    angles = np.degrees(vector_to_pitchyaw(vector))
    assert angles[0] == pytest.approx(pitch_deg, abs=1e-12)
    assert (angles[1] - yaw_deg) % 360 == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(pitchyaw_to_vector(np.radians([pitch_deg, yaw_deg])), vector, atol=1e-15)


def test_published_gaze360_row():
    # A row of GazeHub's Gaze360 labels: 3DGaze in eye axes (x left, y up), 2DGaze (yaw, pitch).
    g = np.array([0.62578, -0.38594, -0.67783])
    pitch, yaw = vector_to_pitchyaw([-g[0], -g[1], g[2]])
    assert (yaw, pitch) == pytest.approx((0.74549, -0.39622), abs=2e-5)


def test_angles_round_trip():
    angles = np.stack([RNG.uniform(-1.57, 1.57, 1000), RNG.uniform(-3.14, 3.14, 1000)], axis=1)
    np.testing.assert_allclose(vector_to_pitchyaw(3.7 * pitchyaw_to_vector(angles)), angles, atol=1e-12)


def test_angle_between_is_exact_near_0_and_180():
    tiny = 1e-9
    assert angle_between_deg([1, 0, 0], [np.cos(tiny), np.sin(tiny), 0]) == pytest.approx(np.degrees(tiny), rel=1e-6)
    assert angle_between_deg([1, 0, 0], [-2, 0, 0]) == 180
    assert angle_between_deg([[1, 0, 0], [0, 3, 0]], [0, 1, 0]).tolist() == [90, 0]


def test_bad_vectors_are_refused():
    with pytest.raises(ValueError, match='length zero'):
        vector_to_pitchyaw([0, 0, 0])
    with pytest.raises(ValueError, match='3 values'):
        vector_to_pitchyaw([0, 1])


# Plane.
def test_plane_window_round_trip_and_centre():
    plane = VirtualPlane((3840, 2160), 3.3)
    assert plane.from_mm([0, 0]).tolist() == [1920, 1080]
    assert plane.from_mm([100, -10]).tolist() == pytest.approx([1920 + 330, 1080 - 33])
    points = RNG.uniform(-500, 500, (1000, 2))
    np.testing.assert_allclose(plane.to_mm(plane.from_mm(points)), points, atol=1e-6 / 3.3)
    assert plane.clamp([-5, 3000]).tolist() == [0, 2160]
    assert plane.contains([[0, 0], [3840, 2160], [3841, 0]]).tolist() == [True, True, False]
    with pytest.raises(ValueError, match='ppm'):
        VirtualPlane((10, 10), 0)


# Screen: 553 x 311 mm, 1920 x 1080 px; top edge 10 mm below the camera, tilted by 90 degrees in the second case.
def _rig(**changes):
    transform = np.eye(4)
    transform[:3, :3] = np.diag([-1, 1, -1])
    transform[:3, 3] = (276.5, 10, 0)
    values = dict(
        image_size=(1920, 1080),
        screen_size_px=(1920, 1080),
        screen_size_mm=(553, 311),
        screen_center_plane_mm=(0, 155.5),
        screen_to_camera=transform,
    )
    return Rig(**{**values, **changes})


def test_screen_corners_by_hand():
    rig = _rig()
    # The screen's upper left corner, as the user sees it, is at the user's left: positive camera x, negative u.
    np.testing.assert_allclose(rig.screen_px_to_camera([0, 0]), [276.5, 10, 0])
    np.testing.assert_allclose(rig.screen_px_to_camera([1920, 1080]), [-276.5, 321, 0])
    np.testing.assert_allclose(plane_point_by_pose([276.5, 10, 0]), [-276.5, 10])
    np.testing.assert_allclose(rig.offset_screen_px_to_plane([0, 0]), [-276.5, 0])
    np.testing.assert_allclose(rig.offset_screen_px_to_plane([1920, 1080]), [276.5, 311])


def test_original_golden_vector_plane_to_screen():
    # frame_eve of the original: VP 3840 x 2360 at the raw ppm 1920 / 553, camera at the middle of the top edge.
    rig = _rig(screen_size_mm=(553, 553 * 1080 / 1920), screen_center_plane_mm=(0, 553 * 540 / 1920))
    plane = VirtualPlane((3840, 2360), 1920 / 553)
    screen_px = rig.offset_plane_to_screen_px(plane.to_mm([1927.66305, 1717.20843]))
    assert screen_px == pytest.approx([967.66, 537.21], abs=0.01)
    assert plane.from_mm(rig.offset_screen_px_to_plane([957, 544])) == pytest.approx([1917, 1724])


@pytest.mark.parametrize('rule', ['offset', 'pose'])
def test_screen_round_trips(rule):
    tilt, _ = cv2.Rodrigues(np.array([0.2, -0.1, 0.05]))
    transform = np.eye(4)
    transform[:3, :3] = tilt @ np.diag([-1, 1, -1])
    transform[:3, 3] = (270, 15, -20)
    rig = _rig(screen_to_camera=transform)
    px = RNG.uniform((0, 0), (1920, 1080), (500, 2))
    if rule == 'offset':
        back = rig.offset_plane_to_screen_px(rig.offset_screen_px_to_plane(px))
    else:
        eye = np.array([30.0, -20, 600])
        plane = plane_point_by_ray(eye, rig.screen_px_to_camera(px))
        point = np.stack([-plane[:, 0], plane[:, 1], np.zeros(500)], axis=1)
        back = rig.ray_to_screen_px(eye, point - eye)
    np.testing.assert_allclose(rig.px_to_screen_mm(back), rig.px_to_screen_mm(px), atol=1e-6)


def test_ray_that_misses_is_nan():
    assert intersect_plane([0, 0, 600], [1, 0, -2]).tolist() == [300, 0, 0]
    assert np.isnan(intersect_plane([0, 0, 600], [1, 0, 0])).all()
    assert np.isnan(intersect_plane([0, 0, 600], [0, 0, 1])).all()


def test_parallax_of_the_two_pose_rules():
    # A target 28 mm behind the plane, seen from 524 mm: it moves towards the eye's foot by 28 / 552 of the way.
    eye, target = np.array([0, 0, 524.0]), np.array([-100, 50, -28.0])
    assert plane_point_by_pose(target).tolist() == [100, 50]
    assert plane_point_by_ray(eye, target) == pytest.approx([100 * 524 / 552, 50 * 524 / 552])


def test_rig_checks_its_values():
    with pytest.raises(ValueError, match='screen_to_camera'):
        _rig(screen_to_camera=np.full((4, 4), np.nan))
    with pytest.raises(ValueError, match='screen_center_plane_mm'):
        _rig(screen_center_plane_mm=None).offset_screen_px_to_plane([0, 0])


# Input frame and affine maps.
@pytest.mark.parametrize(
    ('size', 'pad', 'expected'),
    [
        ((640, 360), 31, (672, 384)),
        ((480, 270), 31, (512, 288)),
        ((480, 272), 127, (512, 384)),
        ((512, 512), 31, (544, 544)),
        ((512, 512), 0, (512, 512)),
    ],
)
def test_input_sizes_of_the_original(size, pad, expected):
    assert InputFrame(size, pad).input_size == expected


def test_input_frame_maps_edges_onto_edges():
    matrix = InputFrame((480, 270), 31).matrix((1920, 1080))
    # Outer edges are at -0.5 and n - 0.5; the padding is 16 and 9 px at each side.
    corners = apply_affine(matrix, [[-0.5, -0.5], [1919.5, 1079.5]])
    assert corners == pytest.approx(np.array([[15.5, 8.5], [495.5, 278.5]]))
    letterbox = InputFrame((512, 512), 0, keep_aspect=True).matrix((480, 640))
    corners = apply_affine(letterbox, [[-0.5, -0.5], [479.5, 639.5]])
    assert corners == pytest.approx(np.array([[63.5, -0.5], [447.5, 511.5]]))


def test_affine_compose_and_invert():
    a, b = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3))
    points = RNG.normal(size=(50, 2))
    one_by_one = apply_affine(a, apply_affine(b, points))
    np.testing.assert_allclose(apply_affine(compose_affine(a, b), points), one_by_one, atol=1e-12)
    np.testing.assert_allclose(apply_affine(invert_affine(a), apply_affine(a, points)), points, atol=1e-9)
    assert apply_affine(flip_matrix(640), [0, 5]).tolist() == [639, 5]


@pytest.mark.parametrize(('pad', 'message'), [(30, 'pad'), (-1, 'pad')])
def test_input_frame_refuses(pad, message):
    with pytest.raises(ValueError, match=message):
        InputFrame((10, 10), pad)
