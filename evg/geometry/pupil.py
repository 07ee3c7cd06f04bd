"""Gaze from the rim of a pupil: an eyeball that turns about its centre, seen by the camera of a normalised patch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .angles import pitchyaw_to_vector, vector_to_pitchyaw
from .normalisation import Normaliser

Array = NDArray[np.float64]
# The correction below is some 0.01 px; each round leaves less than a hundredth of what was left.
_ROUNDS = 4


@dataclass(frozen=True)
class EyeModel:
    """What the read-out of the gaze from pupil landmarks has to know of eye and patch.

    The eye is a ball whose centre is the patch's reference point. The pupil is a circle at `pupil_depth_mm` from that
    centre, at right angles to the optical axis, so its centre lies on a sphere about the eye's. Where the line of sight
    of the pupil's centre meets the sphere, the pupil is; from the eye's centre to it leads the optical axis. The
    visual axis, which is the gaze, is turned against it by kappa, which differs from person to person by about 1.2 deg
    in each axis; only a calibration tells it. Refraction by the cornea is ignored.

    Convention:
        Px of the patch, pixel centres at whole numbers; gaze and axes in the normaliser's frame, unit vectors out of
        the eye. Kappa is (pitch, yaw) of the visual axis in the eye's own frame, whose -z is the optical axis and
        whose x is level: nasal is a negative yaw in the right eye and a positive one in the left.

    Attributes:
        normaliser: the patch's `Normaliser`, an object or its arguments.
        pupil_depth_mm: centre of the eye to centre of the pupil.
        kappa_deg: (pitch, yaw) of the visual axis, degrees; the mean of the population for the eye at hand.
    """

    normaliser: Normaliser
    pupil_depth_mm: float = 10.45
    kappa_deg: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self):
        if not isinstance(self.normaliser, Normaliser):
            object.__setattr__(self, 'normaliser', Normaliser(**self.normaliser))
        if not 0 < self.pupil_depth_mm < self.normaliser.distance_mm:
            raise ValueError(f'pupil_depth_mm must be positive and less than the distance, not {self.pupil_depth_mm}')

    def optical_axis(self, rim_px: ArrayLike, scale: float = 1.0) -> Array:
        """The optical axis by points on the pupil's rim.

        The mean of the points is not quite where the pupil's centre is seen. The difference is that of a model circle
        of the same place, tilt and size, and is taken off, so that points without error give the axis without error.

        Args:
            rim_px: (..., K, 2), K >= 3 points at equal steps around the rim.
            scale: `norm_scale` of the patch: S squeezes the eye, too, by some 0.1 deg where it is 1.2; 1 ignores that.

        Returns:
            (..., 3); NaN where a point is. A pupil seen beyond the ball's edge is put on the edge.
        """
        # S R X seen by Cn is R X, which is not squeezed, seen by a camera of focal length f / scale.
        focal, distance = self.normaliser.focal_px / scale, self.normaliser.distance_mm / scale
        rim = (np.asarray(rim_px, np.float64) - np.divide(self.normaliser.size_px, 2)) / focal
        mean, spread = rim.mean(axis=-2), _spread(rim)
        center, radius = mean, spread * distance
        for _ in range(_ROUNDS):
            middle, circle = self._circle(self._axis(center, distance), radius, distance, rim.shape[-2])
            model = _spread(circle)
            center = mean - (circle.mean(axis=-2) - middle)
            radius = radius * np.divide(spread, model, out=np.ones_like(spread), where=model > 0)
        return self._axis(center, distance)

    def gaze(self, rim_px: ArrayLike, scale: float = 1.0) -> Array:
        """The visual axis (..., 3) by points on the pupil's rim; see `optical_axis`."""
        return np.einsum('...ij,j', _eye_axes(self.optical_axis(rim_px, scale)), self._kappa)

    @property
    def _kappa(self) -> Array:
        return pitchyaw_to_vector(np.radians(self.kappa_deg))

    def _axis(self, center: Array, distance: float) -> Array:
        """Optical axis (..., 3) for the pupil's centre (..., 2) on the camera's plane z = 1."""
        ray = np.concatenate([center, np.ones_like(center[..., :1])], axis=-1)
        squared = (ray**2).sum(axis=-1)
        # |t ray - (0, 0, d)| = depth; the smaller t is the side that the camera sees.
        root = distance**2 - squared * (distance**2 - self.pupil_depth_mm**2)
        along = (distance - np.sqrt(np.maximum(root, 0))) / squared
        axis = along[..., None] * ray - np.array([0, 0, distance])
        return axis / np.linalg.norm(axis, axis=-1, keepdims=True)

    def _circle(self, axis: Array, radius: Array, distance: float, count: int) -> tuple[Array, Array]:
        """Centre (..., 2) and rim (..., count, 2) of a pupil of `radius` (...) mm on the camera's plane z = 1."""
        x, y = np.moveaxis(_eye_axes(axis), -1, 0)[:2]
        angle = np.arange(count) * (2 * np.pi / count)
        around = np.cos(angle)[:, None] * x[..., None, :] + np.sin(angle)[:, None] * y[..., None, :]
        middle = self.pupil_depth_mm * axis + np.array([0, 0, distance])
        points = middle[..., None, :] + radius[..., None, None] * around
        return middle[..., :2] / middle[..., 2:], points[..., :2] / points[..., 2:]


def _eye_axes(optical_axis: Array) -> Array:
    """(..., 3, 3) x level, y and z of the eye as columns; minus z is the optical axis (Fick's order, no torsion)."""
    pitch, yaw = np.moveaxis(vector_to_pitchyaw(optical_axis), -1, 0)
    zero = np.zeros_like(yaw)
    x = np.stack([np.cos(yaw), zero, -np.sin(yaw)], axis=-1)
    y = np.stack([-np.sin(yaw) * np.sin(pitch), np.cos(pitch), -np.cos(yaw) * np.sin(pitch)], axis=-1)
    return np.stack([x, y, -optical_axis], axis=-1)


def _spread(points: Array) -> Array:
    """Root mean square distance (...) of points (..., K, 2) to their mean."""
    around = points - points.mean(axis=-2, keepdims=True)
    return np.sqrt((around**2).sum(axis=-1).mean(axis=-1))
