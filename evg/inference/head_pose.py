"""Where a head is and how it is turned, from landmarks: solvePnP with a face of average size.

Convention of this module: the head frame is in mm, its origin midway between the two eyes (the mean of their corners),
x to the person's left (the right of the picture for a face straight at the camera), y down, z into the head. So the
rotation of such a face is the identity, as in the synthetic world and `evg.geometry.normalisation_rotation`.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from evg.errors import UserError
from evg.inference.camera import Camera
from evg.inference.face import MEDIAPIPE, YUNET, FaceObservation

Array = NDArray[np.float64]

# Points of MediaPipe's canonical face (google-ai-edge/mediapipe, Apache-2.0; 88.9 mm between the outer corners of the
# eyes): those that its own head pose uses, which hardly move with the expression. (Person's right, left) landmark: the
# left one's place; the right one mirrors it.
_RIGID = {
    (4, 4): (0.0, 30.9, -41.2),  # tip of the nose
    (6, 6): (0.0, 1.5, -23.2),
    (10, 10): (0.0, -56.4, -10.2),
    (33, 263): (44.5, -0.4, 2.9),  # outer corner of the eye
    (54, 284): (62.8, -39.9, 20.4),
    (67, 297): (35.2, -53.8, -2.6),
    (117, 346): (52.6, 16.8, 5.0),
    (119, 348): (33.0, 17.7, -4.0),
    (121, 350): (18.2, 11.5, -7.6),
    (127, 356): (77.4, 2.6, 54.7),
    (129, 358): (17.9, 36.0, -13.8),
    (132, 361): (72.7, 55.1, 57.2),
    (133, 362): (18.6, 0.4, -2.9),  # inner corner of the eye
    (136, 365): (50.9, 98.0, 27.6),
    (143, 372): (64.1, 3.9, 19.0),
    (147, 376): (62.3, 45.7, 18.0),
    (198, 420): (12.5, 23.9, -22.1),
    (205, 425): (38.3, 41.7, -6.8),
}
_MIRROR = np.array([-1.0, 1.0, 1.0])
OUTER_CORNER_MM, INNER_CORNER_MM = np.array(_RIGID[33, 263]), np.array(_RIGID[133, 362])
NOSE_WING_MM = np.array([12.4, 42.1, -20.1])
# The centre of the left eyeball against the middle of its corners: 5 mm deeper (the cornea's apex is some 8 mm in front
# of the corners, the eye's centre of rotation some 13 mm behind the apex), and a little above their line.
EYEBALL_FROM_CORNERS_MM = np.array([0.0, -1.8, 5.0])
EYEBALL_MM = (OUTER_CORNER_MM + INNER_CORNER_MM) / 2 + EYEBALL_FROM_CORNERS_MM
# YuNet: eyes (between the lids), tip of the nose, corners of the mouth.
_FIVE_MM = ((-31.7, 0.0, -3.6), (31.7, 0.0, -3.6), (0.0, 34.2, -40.7), (-24.6, 69.7, -8.2), (24.6, 69.7, -8.2))


@dataclass(frozen=True, eq=False)
class HeadPose:
    """A head in the camera frame, mm.

    Attributes:
        rotation: (3, 3) head to camera; its columns are the head's axes.
        face_center_mm: (3,) the reference point of face patches, see `face_center`.
        right_eye_mm: (3,) centre of the right eyeball.
        left_eye_mm: (3,) centre of the left eyeball.
    """

    rotation: Array
    face_center_mm: Array
    right_eye_mm: Array
    left_eye_mm: Array

    @property
    def between_eyes_mm(self) -> Array:
        """(3,) midway between the eyeballs' centres."""
        return (self.right_eye_mm + self.left_eye_mm) / 2


def face_center(eye_corners_mm: ArrayLike, nose_wings_mm: ArrayLike) -> Array:
    """The reference point of face patches: ETH-XGaze's mean of two means, that of the eyes' corners and of the nose.

    Convention: any frame, mm. The Atlas client takes the plain mean of the six points, which lies 7 mm nearer to
    the eyes; ETH-XGaze's own code, its labels, and the synthetic world's `face_origin_mm` are as here.

    Args:
        eye_corners_mm: (4, 3).
        nose_wings_mm: (2, 3).
    """
    corners, wings = np.asarray(eye_corners_mm, np.float64), np.asarray(nose_wings_mm, np.float64)
    return (corners.mean(axis=0) + wings.mean(axis=0)) / 2


FACE_CENTER_MM = face_center(
    [p * m for p in (OUTER_CORNER_MM, INNER_CORNER_MM) for m in (_MIRROR, 1)], [NOSE_WING_MM * _MIRROR, NOSE_WING_MM]
)


def head_pose(face: FaceObservation, camera: Camera) -> HeadPose | None:
    """The pose of a head; None where its landmarks are no picture of a face in front of the camera.

    Args:
        face: one that a front end found; a pose of its own is handed through.
        camera: of the picture, which has no distortion (any more).
    """
    if face.pose is not None:
        return face.pose
    indices, model = rigid_points(face.scheme)
    points = np.ascontiguousarray(face.landmarks_px[indices])
    if not np.isfinite(points).all():
        return None
    try:
        _, start, shift = cv2.solvePnP(model, points, camera.matrix, None, flags=cv2.SOLVEPNP_SQPNP)
        found, rvec, tvec = cv2.solvePnP(
            model, points, camera.matrix, None, start, shift, useExtrinsicGuess=True, flags=cv2.SOLVEPNP_ITERATIVE
        )
    except cv2.error:
        return None
    rotation, translation = np.asarray(cv2.Rodrigues(rvec)[0], np.float64), np.asarray(tvec, np.float64)[:, 0]
    if not found or not np.isfinite(translation).all() or translation[2] <= 0:
        return None
    center, right, left = np.stack([FACE_CENTER_MM, EYEBALL_MM * _MIRROR, EYEBALL_MM]) @ rotation.T + translation
    return HeadPose(rotation, center, right, left)


@lru_cache(maxsize=4)
def rigid_points(scheme: str) -> tuple[NDArray[np.intp], Array]:
    """Which landmarks of a scheme the pose uses (N,), and their places in the head frame (N, 3), mm."""
    if scheme == MEDIAPIPE:
        both = {right: np.multiply(place, _MIRROR) for (right, left), place in _RIGID.items() if right != left}
        places = {**both, **{left: np.asarray(place) for (_, left), place in _RIGID.items()}}
        return np.array(list(places)), np.array(list(places.values()))
    if scheme == YUNET:
        return np.arange(5), np.array(_FIVE_MM)
    raise UserError(f'landmarks must be of the scheme {MEDIAPIPE!r} or {YUNET!r}, or bring a pose, not {scheme!r}')
