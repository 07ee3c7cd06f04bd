"""Data normalisation: the virtual camera that looks straight at the face, without roll (Zhang et al., ETRA 2018)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
