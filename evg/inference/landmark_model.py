"""The gaze from 478 face landmarks: an eyeball that turns about its centre. No network is trained for it.

Each eye: the centre of the eyeball follows from the corners of the eye, the head's rotation and the distance; the
centre of the iris lies where its line of sight meets a sphere about that centre; the optical axis leads through both.
The target is midway between the points where the two axes meet the camera's plane, so that the horizontal parts of the
angles kappa, which are mirror images, cancel. What remains is the person's own: a calibration finds it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evg.geometry import head_pitchyaw, intersect_plane, vector_to_pitchyaw
from evg.inference.camera import Camera
from evg.inference.head_pose import EYEBALL_MM, INNER_CORNER_MM, OUTER_CORNER_MM, HeadPose
from evg.inference.iris import IrisGuess, find_iris

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

VERSION = '1'  # changes with every number that the answers depend on: calibrations are for one version
IRIS_DIAMETER_MM = 11.7  # of adults 11.7 +- 0.4
IRIS_DEPTH_MM = 10.4  # from the eyeball's centre to the middle of the iris

# Landmarks of the person's (right, left) eye.
_CORNERS = np.array([[33, 133], [263, 362]])  # outer, inner
_IRIS = np.array([468, 473])
_RIM = np.array([[469, 471, 470, 472], [474, 476, 475, 477]])  # two ends of one diameter, two of the other
_OPENING = np.array(
    [
        [33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7],
        [263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249],
    ]
)
_UPPER_LID = np.array([[160, 159, 158], [387, 386, 385]])
_LOWER_LID = np.array([[144, 145, 153], [373, 374, 380]])
# Height over width of the opening of an eye that is closed, and of one that is open.
_CLOSED, _OPEN = 0.10, 0.27
_DISAGREEMENT_DEG = 8.0  # eyes turn up and down together; so far apart, the score is 0.6
_FOLLOW = 0.7  # 1 takes the place of the eyes from their corners alone, 0 from the face alone: both are noisy
_MIRROR = np.array([[[-1.0, 1.0, 1.0]], [[1.0, 1.0, 1.0]]])
_CORNERS_FROM_EYE_MM = (np.stack([OUTER_CORNER_MM, INNER_CORNER_MM]) - EYEBALL_MM) * _MIRROR
_STEEPEST = 0.3  # cosine of the angle to the camera's axis up to which the plane is used

FEATURES = (
    'right_iris_x', 'right_iris_y', 'left_iris_x', 'left_iris_y', 'right_lid', 'left_lid',
    'head_pitch_rad', 'head_yaw_rad', 'head_roll_rad', 'head_x_mm', 'head_y_mm', 'head_z_mm',
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class LandmarkGaze:
    """What the eyes of one face say.

    Convention: camera frame (OpenCV axes), mm; right and left are the person's, right first.

    Attributes:
        centers_mm: (2, 3) centres of the eyeballs.
        axes: (2, 3) unit optical axes, out of the eyes.
        origin_mm: (3,) midway between the eyes.
        gaze: (3,) unit vector from there to the target.
        score: 0..1, how well the two eyes agree in height.
        features: (12,) see `FEATURES`: irises and upper lids against the corners of their eyes, along the head's axes,
            in units of the iris's depth; head and its place.
        landmarks_px: (478, 2) the landmarks, the irises where they were found.
    """

    centers_mm: Array
    axes: Array
    origin_mm: Array
    gaze: Array
    score: float
    features: Array
    landmarks_px: Array


def landmark_gaze(
    landmarks_px: Array, pose: HeadPose, camera: Camera, image: Image | None = None
) -> LandmarkGaze | None:
    """The gaze of a face; None where landmarks are not finite.

    Args:
        landmarks_px: (478, 2) of MediaPipe, px of a picture without distortion.
        pose: of the head, see `evg.inference.head_pose`.
        camera: of the picture.
        image: the picture (H, W, 3) uint8 BGR: the irises are looked for in it; None takes the landmarks' irises.
    """
    points = np.array(landmarks_px, np.float64)
    if not np.isfinite(points).all():
        return None
    by_face = np.stack([pose.right_eye_mm, pose.left_eye_mm])
    # The distance by the size of the face, then by that of the irises too, whose tilt is known by then.
    _, axes = _eyes(points, pose, by_face, camera)
    iris_z = (by_face + IRIS_DEPTH_MM * axes)[:, 2].mean()
    places = by_face * np.sqrt(_iris_distance(points, axes, camera) / iris_z)
    if image is not None:
        _find_irises(image, points, axes, places, camera)
    centers, axes = _eyes(points, pose, places, camera)
    origin = centers.mean(axis=0)
    gaze = _towards_one_point(centers, axes)
    pitch = np.degrees(vector_to_pitchyaw(axes @ pose.rotation)[:, 0])
    score = float(np.exp(-(((pitch[0] - pitch[1]) / _DISAGREEMENT_DEG) ** 2) / 2))
    return LandmarkGaze(centers, axes, origin, gaze, score, _features(points, pose, origin, camera), points)


def lid_opening(landmarks_px: Array) -> float:
    """How far the eyes are open, the mean of both: 0 closed to 1 open.

    Args:
        landmarks_px: (478, 2) of MediaPipe.
    """
    points = np.asarray(landmarks_px, np.float64)
    outer, inner = points[_CORNERS[:, 0]], points[_CORNERS[:, 1]]
    height = np.linalg.norm(points[_UPPER_LID].mean(axis=1) - points[_LOWER_LID].mean(axis=1), axis=1)
    ratio = height / np.maximum(np.linalg.norm(outer - inner, axis=1), 1e-3)
    return float(np.clip((ratio - _CLOSED) / (_OPEN - _CLOSED), 0, 1).mean())


def _eyes(points: Array, pose: HeadPose, places_mm: Array, camera: Camera) -> tuple[Array, Array]:
    """Centres (2, 3) and optical axes (2, 3) of the eyes, whose rough places (2, 3) give the distance."""
    # Each eye is moved in the picture to where its own corners are.
    corners = places_mm[:, None] + _CORNERS_FROM_EYE_MM @ pose.rotation.T
    shift_px = _FOLLOW * (points[_CORNERS] - camera.project(corners)).mean(axis=1)
    centers = camera.rays(camera.project(places_mm) + shift_px) * places_mm[:, 2:]
    sight = _unit(camera.rays(points[_IRIS]))
    # Where the line of sight meets the sphere; one that passes it by is put on its edge.
    along = np.sum(sight * centers, axis=1)
    missed = np.sum(centers**2, axis=1) - along**2
    iris = sight * (along - np.sqrt(np.maximum(IRIS_DEPTH_MM**2 - missed, 0)))[:, None]
    return centers, _unit(iris - centers)


def _iris_distance(points: Array, axes: Array, camera: Camera) -> float:
    """Distance z of the irises by their size, mm.

    Two diameters of the ellipse that a tilted circle looks like, at right angles on the circle: their squares sum up to
    (1 + cos^2 tilt) of the circle's.
    """
    ends = points[_RIM]
    squares = np.sum((ends[:, [0, 2]] - ends[:, [1, 3]]) ** 2, axis=(1, 2))
    cosine = np.sum(axes * _unit(camera.rays(points[_IRIS])), axis=1)
    diameter_px = np.sqrt(squares / (1 + cosine**2))
    focal = np.sqrt(camera.matrix[0, 0] * camera.matrix[1, 1])
    return float(focal * IRIS_DIAMETER_MM / max(diameter_px.mean(), 1e-3))


def _find_irises(image: Image, points: Array, axes: Array, places_mm: Array, camera: Camera) -> None:
    """Moves the irises' points (in place) to where the picture has them."""
    for side in (0, 1):
        sight = _unit(camera.rays(points[_IRIS[side]]))
        # A circle looks shorter along the picture of its axis.
        across = axes[side] - sight * (axes[side] @ sight)
        length = float(np.hypot(*across[:2]))
        guess = IrisGuess(
            points[_IRIS[side]],
            float(camera.matrix[0, 0] * IRIS_DIAMETER_MM / 2 / (places_mm[side, 2] - IRIS_DEPTH_MM)),
            across[:2] / length if length > 1e-6 else np.array([1.0, 0.0]),
            abs(float(axes[side] @ sight)),
            points[_OPENING[side]],
        )
        points[[_IRIS[side], *_RIM[side]]] += find_iris(image, guess) - guess.center_px


def _towards_one_point(centers: Array, axes: Array) -> Array:
    """Unit vector from midway between the eyes to midway between where their axes meet the camera's plane."""
    if (axes[:, 2] < -_STEEPEST).all():
        return _unit(intersect_plane(centers, axes).mean(axis=0) - centers.mean(axis=0))
    return _unit(axes.mean(axis=0))


def _features(points: Array, pose: HeadPose, origin: Array, camera: Camera) -> Array:
    """(12,) `FEATURES`."""
    per_mm = camera.matrix[[0, 1], [0, 1]] / origin[2]
    # Differences in the picture, turned back by the head, as if they were parallel to the picture.
    at = np.stack([points[_IRIS], points[_UPPER_LID].mean(axis=1)]) - points[_CORNERS].mean(axis=1)
    iris, lid = (at / per_mm) @ pose.rotation[:2, :2] / IRIS_DEPTH_MM
    roll = np.arctan2(pose.rotation[1, 0], pose.rotation[0, 0])
    return np.array([*iris.reshape(-1), *lid[:, 1], *head_pitchyaw(pose.rotation), roll, *origin], np.float64)


def _unit(vector: Array) -> Array:
    return np.asarray(vector / np.linalg.norm(vector, axis=-1, keepdims=True), np.float64)
