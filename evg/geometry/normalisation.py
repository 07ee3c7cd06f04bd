"""Data normalisation: the virtual camera that looks straight at the face, without roll (Zhang et al., ETRA 2018)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .angles import vector_to_pitchyaw

Array = NDArray[np.float64]
GAZE_FRAME = {'r': 'normalised_r', 'sr': 'normalised_sr'}


@dataclass(frozen=True)
class Normaliser:
    """The virtual camera that a data set's patches are taken with; its constants stand in configs and readers.

    Convention:
        Camera frame (OpenCV axes), mm. The virtual camera stands where the real one does, looks at the reference point
        and is turned about its own axis until the head's x axis is level (R, see `normalisation_rotation`). The scaling
        S = diag(1, 1, distance / |c|) brings the reference point c to `distance_mm`, and W = Cn S R K^-1 maps px of the
        picture to px of the patch. Gaze and head pose turn by R alone (scaling 'r': Zhang et al. 2018, ETH-XGaze, EVE)
        or by S R (scaling 'sr': Sugano et al. 2014, MPIIGaze's .mat files, GazeHub's MPIIFaceGaze), which is not a
        rotation: labels of the two kinds differ by degrees and are never mixed. The principal point is at size / 2,
        as in the published code: px (size / 2), pixel centres at whole numbers.

    Attributes:
        focal_px: focal length of the virtual camera, px.
        distance_mm: distance that the reference point is brought to, mm.
        size_px: (width, height) of the patch.
        scaling: 'r' or 'sr', what gaze and head pose are multiplied by.
    """

    focal_px: float
    distance_mm: float
    size_px: tuple[int, int]
    scaling: str = 'r'

    def __post_init__(self):
        if self.scaling not in GAZE_FRAME:
            raise ValueError(f"Normaliser.scaling must be 'r' (Zhang 2018) or 'sr' (older), not {self.scaling!r}")
        if len(self.size_px) != 2 or min(*self.size_px, self.focal_px, self.distance_mm) <= 0:
            raise ValueError(
                f'Normaliser needs positive focal_px, distance_mm and size_px=(width, height), not {self.focal_px}, '
                f'{self.distance_mm} and {self.size_px}'
            )
        object.__setattr__(self, 'size_px', (int(self.size_px[0]), int(self.size_px[1])))

    @property
    def gaze_frame(self) -> str:
        """The frame of the labels that it makes: 'normalised_r' or 'normalised_sr'."""
        return GAZE_FRAME[self.scaling]

    @property
    def camera_matrix(self) -> Array:
        """(3, 3) intrinsics Cn of the virtual camera, px of the patch."""
        width, height = self.size_px
        return np.array([[self.focal_px, 0, width / 2], [0, self.focal_px, height / 2], [0, 0, 1]], np.float64)

    def apply(self, face_center_mm: ArrayLike, head_rotation: ArrayLike, camera_matrix: ArrayLike) -> 'Normalisation':
        """The normalisation of one picture.

        Convention: camera frame (OpenCV axes), mm; the picture is undistorted, or its distortion is ignored.

        Args:
            face_center_mm: (3,) the reference point: face centre for a face patch, eye centre for an eye patch.
            head_rotation: (3, 3) head to camera, see `normalisation_rotation`.
            camera_matrix: (3, 3) intrinsics of the picture, px.

        Raises:
            ValueError: wrong shapes, or a head whose x axis points along the line of sight.
        """
        center, matrix = np.asarray(face_center_mm, np.float64), np.asarray(camera_matrix, np.float64)
        if center.shape != (3,) or matrix.shape != (3, 3):
            raise ValueError(f'a (3,) centre and a (3, 3) camera matrix are needed, not {center.shape}, {matrix.shape}')
        rotation = normalisation_rotation(center, head_rotation)
        scale = np.diag([1.0, 1.0, self.distance_mm / np.linalg.norm(center)])
        warp = self.camera_matrix @ scale @ rotation @ np.linalg.inv(matrix)
        return Normalisation(rotation, scale, warp, self.scaling)


@dataclass(frozen=True, eq=False)
class Normalisation:
    """The normalisation of one picture: labels to the virtual camera and back, each the exact inverse of the other.

    Convention:
        'To' is from the camera frame (px: the picture) to the normalised frame (px: the patch). Vectors are directions,
        eye to target; they come back with length 1.

    Attributes:
        rotation: (3, 3) R, its rows are the axes of the virtual camera.
        scale: (3, 3) S, diagonal.
        warp: (3, 3) W, px of the picture to px of the patch, for `cv2.warpPerspective`.
        scaling: 'r' or 'sr', see `Normaliser`.
    """

    rotation: Array
    scale: Array
    warp: Array
    scaling: str

    @property
    def matrix(self) -> Array:
        """(3, 3) what gaze and head are multiplied by: R, or S R."""
        return self.rotation if self.scaling == 'r' else self.scale @ self.rotation

    def gaze_to(self, vector: ArrayLike) -> Array:
        """Directions (..., 3) of the camera frame to unit vectors of the normalised frame."""
        return _unit_vectors(np.asarray(vector, np.float64) @ self.matrix.T)

    def gaze_from(self, vector: ArrayLike) -> Array:
        """Directions (..., 3) of the normalised frame to unit vectors of the camera frame."""
        return _unit_vectors(np.asarray(vector, np.float64) @ _inverse(self.matrix).T)

    def head_to(self, head_rotation: ArrayLike) -> Array:
        """Head axes (3, 3), columns, to the normalised frame. With scaling 'sr' they are not orthogonal any more."""
        return self.matrix @ np.asarray(head_rotation, np.float64)

    def head_from(self, head_axes: ArrayLike) -> Array:
        """The inverse of `head_to`."""
        return _inverse(self.matrix) @ np.asarray(head_axes, np.float64)

    def points_to(self, points_px: ArrayLike) -> Array:
        """Points (..., 2) of the picture to the patch, px."""
        return _project(self.warp, points_px)

    def points_from(self, points_px: ArrayLike) -> Array:
        """Points (..., 2) of the patch to the picture, px."""
        return _project(_inverse(self.warp), points_px)


def head_pitchyaw(head_axes: ArrayLike) -> Array:
    """(pitch, yaw) of the direction that a face points to.

    Convention: (pitch, yaw) in radians, up and the user's right positive, the frame of the axes. The head's z axis
    points into the head, so it is negated; looking straight along the nose gives gaze and head equal angles.

    Args:
        head_axes: (..., 3, 3), the columns are the head's axes.
    """
    return vector_to_pitchyaw(-np.asarray(head_axes, np.float64)[..., :, 2])


def normalisation_rotation(face_center_mm: ArrayLike, head_rotation: ArrayLike) -> NDArray[np.float64]:
    """Rotation R from the camera to the normalised camera.

    Convention: camera frame (OpenCV axes). The normalised camera stands in the same place, its z axis goes through the
    face centre, and the head's x axis is horizontal in its picture. Its axes are the rows of R, so `R @ v` turns a
    direction of the camera frame into the normalised frame ('normalised_r') and `R.T @ n` turns it back. Only R rotates
    gaze labels of the 2018 kind (ETH-XGaze, EVE); the distance scaling S of older labels is not part of it.

    Args:
        face_center_mm: (..., 3) the point that the virtual camera looks at, camera frame, mm.
        head_rotation: (..., 3, 3) head to camera; its columns are the head's axes, x to the image's right when the
            face looks into the camera.

    Returns:
        (..., 3, 3) rotation, determinant 1.

    Raises:
        ValueError: wrong shapes, or a head whose x axis points along the line of sight.
    """
    center = np.asarray(face_center_mm, np.float64)
    head = np.asarray(head_rotation, np.float64)
    if center.shape[-1:] != (3,) or head.shape[-2:] != (3, 3):
        raise ValueError(
            f'face_center_mm must be (..., 3) and head_rotation (..., 3, 3), not {center.shape} and {head.shape}'
        )
    forward = _unit(center)
    down = _unit(np.cross(forward, head[..., :, 0]))
    return np.stack([np.cross(down, forward), down, forward], axis=-2)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(vector, axis=-1, keepdims=True)
    if np.any(length < 1e-9):
        raise ValueError("the face centre lies in the camera, or the head's x axis points along the line of sight")
    return vector / length


def _unit_vectors(vector: Array) -> Array:
    return vector / np.linalg.norm(vector, axis=-1, keepdims=True)


def _inverse(matrix: Array) -> Array:
    return np.asarray(np.linalg.inv(matrix), np.float64)


def _project(matrix: Array, points_px: ArrayLike) -> Array:
    """Points (..., 2) by a 3x3 homography."""
    points = np.asarray(points_px, np.float64)
    mapped = points @ matrix[:, :2].T + matrix[:, 2]
    return mapped[..., :2] / mapped[..., 2:]
