"""Head pose, eyeball model and iris search: exact on projections of the model, then on synthetic pictures."""

import cv2
import numpy as np
import pytest

from evg.errors import UserError
from evg.geometry import angle_between_deg
from evg.inference import Camera, Screen
from evg.inference.face import MEDIAPIPE, YUNET, FaceObservation
from evg.inference.head_pose import (
    EYEBALL_MM,
    INNER_CORNER_MM,
    NOSE_WING_MM,
    OUTER_CORNER_MM,
    face_center,
    head_pose,
    rigid_points,
)
from evg.inference.iris import IrisGuess, find_iris
from evg.inference.landmark_model import FEATURES, IRIS_DEPTH_MM, IRIS_DIAMETER_MM, landmark_gaze, lid_opening
from evg.synthetic import SyntheticWorld

CAMERA = Camera([[620, 0, 318], [0, 625, 243], [0, 0, 1]], (640, 480))
MIRROR = np.array([-1, 1, 1])
POSES = [((0, 0, 0), (0, 0, 600)), ((12, -25, 8), (60, -40, 520)), ((-15, 30, -10), (-80, 70, 750))]


def turned(degrees) -> np.ndarray:
    """Rotation about x, then y, then z."""
    axes = np.eye(3)
    return np.linalg.multi_dot([cv2.Rodrigues(np.radians(d) * a)[0] for d, a in zip(degrees, axes, strict=True)][::-1])


def projected(points) -> np.ndarray:
    """By the definition of a pinhole camera."""
    x, y, z = np.moveaxis(np.asarray(points, float), -1, 0)
    return np.stack([620 * x / z + 318, 625 * y / z + 243], axis=-1)


def observed(points, scheme=MEDIAPIPE) -> FaceObservation:
    return FaceObservation(np.r_[points.min(axis=0), points.max(axis=0)], points, scheme)


def exact_landmarks(rotation, place, target) -> np.ndarray:
    """(478, 2): the face of the model, whose eyes look at a point; landmarks that nobody uses lie in the middle."""
    points = np.tile(projected(place), (478, 1))
    indices, model = rigid_points(MEDIAPIPE)
    points[indices] = projected(model @ rotation.T + place)
    for iris, rim, mirror in ((468, (469, 470, 471, 472), MIRROR), (473, (474, 475, 476, 477), 1)):
        center = rotation @ (EYEBALL_MM * mirror) + place
        axis = (target - center) / np.linalg.norm(target - center)
        right = np.cross([0, 1, 0], axis)
        right /= np.linalg.norm(right)
        down = np.cross(axis, right)
        middle = center + IRIS_DEPTH_MM * axis
        points[iris] = projected(middle)
        points[list(rim)] = projected(middle + IRIS_DIAMETER_MM / 2 * np.array([right, -down, -right, down]))
    return points


@pytest.mark.parametrize(('degrees', 'place'), POSES)
@pytest.mark.parametrize('scheme', [MEDIAPIPE, YUNET])
def test_head_pose_comes_back(scheme, degrees, place):
    rotation, place = turned(degrees), np.array(place, float)
    indices, model = rigid_points(scheme)
    points = np.zeros((478 if scheme == MEDIAPIPE else 5, 2))
    points[indices] = projected(model @ rotation.T + place)
    pose = head_pose(observed(points, scheme), CAMERA)
    assert np.degrees(np.linalg.norm(cv2.Rodrigues(pose.rotation @ rotation.T)[0])) < 1e-3
    np.testing.assert_allclose(pose.left_eye_mm, rotation @ EYEBALL_MM + place, atol=1e-2)
    corners = [OUTER_CORNER_MM, INNER_CORNER_MM, OUTER_CORNER_MM * MIRROR, INNER_CORNER_MM * MIRROR]
    wings = [NOSE_WING_MM, NOSE_WING_MM * MIRROR]
    # ETH-XGaze: the mean of two means, not the mean of six points.
    expected = (np.mean(corners, axis=0) + np.mean(wings, axis=0)) / 2
    np.testing.assert_allclose(pose.face_center_mm, rotation @ expected + place, atol=1e-2)
    assert np.linalg.norm(expected - np.mean([*corners, *wings], axis=0)) > 5


def test_face_center_of_the_synthetic_world_is_the_same_rule():
    frame = SyntheticWorld('close', (160, 96)).frame(0, 0)
    # Seen in the picture, up to the perspective of points that are not equally far away.
    corners, wings = frame.landmarks_px[[36, 39, 42, 45]], frame.landmarks_px[[31, 35]]
    seen = SyntheticWorld('close', (160, 96)).rig.camera_matrix @ frame.face_origin_mm
    np.testing.assert_allclose(face_center(corners, wings), seen[:2] / seen[2], atol=0.3)


def test_no_pose_is_none_and_a_foreign_scheme_is_refused():
    assert head_pose(observed(np.full((478, 2), np.nan)), CAMERA) is None
    with pytest.raises(UserError, match="'mediapipe478' or 'yunet5'"):
        head_pose(observed(np.zeros((68, 2)), 'dlib68'), CAMERA)


@pytest.mark.parametrize(('degrees', 'place'), POSES)
@pytest.mark.parametrize('px', [(960, 540), (100, 100), (1850, 60), (200, 1000), (1800, 1050)])
def test_gaze_is_exact_where_the_model_is(degrees, place, px):
    screen = Screen((1920, 1080), (344, 194), (172, -8, 0), -4)
    rotation, place = turned(degrees), np.array(place, float)
    target = screen.px_to_camera(px)
    points = exact_landmarks(rotation, place, target)
    seen = landmark_gaze(points, head_pose(observed(points), CAMERA), CAMERA)
    origin = rotation @ (EYEBALL_MM * (0, 1, 1)) + place
    assert angle_between_deg(seen.gaze, target - origin) < 0.1
    # The size of an iris is taken for that of one in the middle of the picture: 0.3 % of the distance.
    np.testing.assert_allclose(seen.origin_mm, origin, atol=4)
    assert np.linalg.norm(screen.ray_to_px(seen.origin_mm, seen.gaze) - px) * 344 / 1920 < 2  # mm
    assert seen.score > 0.9


@pytest.mark.parametrize(('px', 'pitch', 'yaw'), [((1900, -900), 1, 1), ((20, 1060), -1, -1)])
def test_right_and_up_are_the_users(px, pitch, yaw):
    # The camera is in the middle of the screen: up and to the right of it, as the user sees it.
    screen = Screen((1920, 1080), (344, 194), (172, 0, 0))
    points = exact_landmarks(np.eye(3), np.array([0, 0, 600.0]), screen.px_to_camera(px))
    seen = landmark_gaze(points, head_pose(observed(points), CAMERA), CAMERA)
    # By hand: to the user's right is negative camera x, up is negative y.
    assert (np.sign(-seen.gaze[1]), np.sign(-seen.gaze[0])) == (pitch, yaw)
    by_name = dict(zip(FEATURES, seen.features, strict=True))
    for side in ('right', 'left'):  # in the picture
        assert np.sign(by_name[f'{side}_iris_x']) == -yaw
    assert by_name['head_z_mm'] == pytest.approx(600 + EYEBALL_MM[2], abs=1)
    assert by_name['head_yaw_rad'] == pytest.approx(0, abs=1e-4)


def test_features_hardly_move_with_the_head_and_do_with_the_eyes():
    place = np.array([20, -10, 600.0])
    columns = [FEATURES.index(name) for name in ('right_iris_x', 'right_iris_y', 'left_iris_x', 'left_iris_y')]

    def irises(degrees, eye_turn_deg):
        rotation = turned(degrees)
        # The eyes are turned against the head, not against the camera.
        target = place + rotation @ (
            1e5 * np.array([np.sin(np.radians(eye_turn_deg)), 0, -np.cos(np.radians(eye_turn_deg))])
        )
        points = exact_landmarks(rotation, place, target)
        return landmark_gaze(points, head_pose(observed(points), CAMERA), CAMERA).features[columns]

    rolled = irises((0, 0, 20), 10) - irises((0, 0, 0), 10)
    assert np.abs(rolled).max() < 0.01
    moved = irises((0, 0, 0), 10) - irises((0, 0, 0), 0)
    np.testing.assert_allclose(moved[[0, 2]], np.sin(np.radians(10)), atol=0.01)


@pytest.mark.parametrize(('height', 'expected'), [(0, 0), (0.10, 0), (0.185, 0.5), (0.3, 1)])
def test_lid_opening_by_hand(height, expected):
    points = np.zeros((478, 2))
    for outer, inner, upper, lower in (
        (33, 133, (158, 159, 160), (144, 145, 153)),
        (263, 362, (385, 386, 387), (373, 374, 380)),
    ):
        points[outer], points[inner] = (0, 0), (40, 0)
        points[list(upper)], points[list(lower)] = (20, -20 * height), (20, 20 * height)
    assert lid_opening(points) == pytest.approx(expected)


def test_no_gaze_from_landmarks_that_are_none():
    points = exact_landmarks(np.eye(3), np.array([0, 0, 600.0]), np.array([0.0, 0, 0]))
    pose = head_pose(observed(points), CAMERA)
    points[100] = np.nan
    assert landmark_gaze(points, pose, CAMERA) is None


@pytest.mark.parametrize('radius', [5.0, 11.0, 24.0])
@pytest.mark.parametrize('away', [(0.0, 0.0), (0.3, -0.2), (-0.35, 0.25)])
def test_iris_is_found_in_a_drawing(radius, away):
    # A dark ellipse on a light ball between straight lids that hide its upper and lower ends; drawn eightfold.
    center, ratio, k = np.array([61.3, 48.8]), 0.85, 8
    y, x = (np.mgrid[: 100 * k, : 120 * k] + 0.5) / k - 0.5
    inside = ((x - center[0]) / ratio) ** 2 + (y - center[1]) ** 2 < radius**2
    skin = np.abs(y - center[1]) > 0.8 * radius
    grey = cv2.resize(np.where(skin, 150.0, np.where(inside, 60.0, 210.0)), (120, 100), interpolation=cv2.INTER_AREA)
    image = np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)
    lids = center + radius * np.array([[-2, -0.8], [2, -0.8], [2, 0.8], [-2, 0.8]])
    start = center + radius * np.array(away)
    found = find_iris(image, IrisGuess(start, radius * 1.03, np.array([1.0, 0]), ratio, lids))
    assert np.hypot(*(found - center)) < 0.06 * radius


def test_iris_stays_where_there_is_no_edge():
    lids = np.array([[20, 40], [60, 30], [100, 40], [60, 50.0]])
    for radius in (10.0, 0.1, np.nan):
        guess = IrisGuess(np.array([60.2, 40.7]), radius, np.array([1.0, 0]), 1.0, lids)
        assert find_iris(np.full((80, 120, 3), 90, np.uint8), guess) is guess.center_px


def test_iris_search_beats_where_it_starts_on_rendered_eyes():
    world = SyntheticWorld('close', (640, 480))
    camera, rng, errors = world.rig.camera_matrix, np.random.default_rng(1), []
    for person in range(6):
        frame = world.frame(person, 1)
        for side, eye in ((0, frame.right_eye_mm), (1, frame.left_eye_mm)):
            truth = frame.pupil_landmarks_px[side].mean(axis=0)
            radius = camera[0, 0] * 5.9 / eye[2]
            lids = frame.eye_landmarks_px[6 * side : 6 * side + 6]
            start = truth + radius * rng.uniform(-0.3, 0.3, 2)
            found = find_iris(frame.image, IrisGuess(start, radius, np.array([1.0, 0]), 0.95, lids))
            errors.append([np.hypot(*(start - truth)) / radius, np.hypot(*(found - truth)) / radius])
    before, after = np.median(errors, axis=0)
    assert before > 0.2 and after < 0.06
