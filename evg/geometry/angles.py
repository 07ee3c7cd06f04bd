"""Gaze angles and unit vectors.

Convention of this module (all functions):
    Vectors point from the eye to the target, in a camera frame (OpenCV axes: x right in the stored image, y down,
    z into the scene). Angles are (pitch, yaw) in radians: pitch = asin(-n_y), positive up; yaw = atan2(-n_x, -n_z),
    positive towards the image's left, which is the user's right. This is ETH-XGaze's and EVE's sign and order.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def pitchyaw_to_vector(pitchyaw_rad: ArrayLike) -> NDArray[np.float64]:
    """Unit gaze vector of (pitch, yaw).

    Convention: see the module. n = -(cos p sin y, sin p, cos p cos y), Zhang et al., ETRA 2018.

    Args:
        pitchyaw_rad: (..., 2), radians.

    Returns:
        (..., 3) unit vectors, eye to target.
    """
    angles = _last_axis(pitchyaw_rad, 2, 'pitchyaw_rad')
    pitch, yaw = angles[..., 0], angles[..., 1]
    return -np.stack([np.cos(pitch) * np.sin(yaw), np.sin(pitch), np.cos(pitch) * np.cos(yaw)], axis=-1)


def vector_to_pitchyaw(vector: ArrayLike) -> NDArray[np.float64]:
    """(pitch, yaw) of a gaze vector; the inverse of `pitchyaw_to_vector`.

    Convention: see the module. The vector need not have unit length.

    Args:
        vector: (..., 3), eye to target.

    Returns:
        (..., 2) radians, pitch in [-pi/2, pi/2], yaw in (-pi, pi].

    Raises:
        ValueError: a vector has no length.
    """
    v = _last_axis(vector, 3, 'vector')
    length = np.linalg.norm(v, axis=-1)
    if np.any(length == 0):
        raise ValueError('a gaze vector of length zero has no direction')
    # atan2 keeps full precision near the poles, where asin does not.
    pitch = np.arctan2(-v[..., 1], np.hypot(v[..., 0], v[..., 2]))
    return np.stack([pitch, np.arctan2(-v[..., 0], -v[..., 2])], axis=-1)


def angle_between_deg(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Angle between vectors of the same frame, in degrees.

    Convention: frame-free; both arguments must be in one frame. atan2(|a x b|, a . b) is exact near 0 and 180 degrees,
    where arccos loses half the digits.

    Args:
        a: (..., 3).
        b: (..., 3), broadcast against `a`.

    Returns:
        (...) degrees in [0, 180].
    """
    a, b = _last_axis(a, 3, 'a'), _last_axis(b, 3, 'b')
    cross = np.linalg.norm(np.cross(a, b), axis=-1)
    return np.degrees(np.arctan2(cross, np.sum(a * b, axis=-1)))


def _last_axis(values: ArrayLike, size: int, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] != size:
        raise ValueError(f'{name} must have {size} values on its last axis, not shape {array.shape}')
    return array
