"""The camera of a set-up: focal length, principal point and distortion: camera.json."""

import hashlib
import json
import os
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evg.errors import UserError
from evg.inference.json_files import checked_json, numbers, read_json, write_json

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

FIELD_OF_VIEW_DEG = 60.0  # horizontal; most laptop cameras have 55 to 70
_DISTORTIONS = (4, 5, 8)


class Camera:
    """A pinhole camera with OpenCV's distortion, for pictures of one shape.

    Convention: px with pixel centres at whole numbers; camera frame of OpenCV. Without a calibration the principal
    point is the middle of the picture and the horizontal field of view `FIELD_OF_VIEW_DEG`: a wrong one scales all
    distances, and gaze points with the head's place in the picture.

    Args:
        matrix: (3, 3) intrinsics, px.
        image_size: (width, height) of the pictures that the intrinsics are for.
        distortion: OpenCV's 4, 5 or 8 coefficients (k1, k2, p1, p2, k3, ...); None for none.
    """

    def __init__(self, matrix: ArrayLike, image_size: tuple[int, int], distortion: ArrayLike | None = None):
        rows = np.asarray(matrix, np.float64)
        if rows.shape != (3, 3) or not np.isfinite(rows).all() or rows[0, 0] <= 0 or rows[1, 1] <= 0:
            raise UserError('Camera.matrix must be (3, 3), finite, with positive focal lengths')
        if rows[1, 0] or rows[2].tolist() != [0, 0, 1]:
            raise UserError('Camera.matrix must have the form [[fx, s, cx], [0, fy, cy], [0, 0, 1]]')
        width, height = numbers('Camera.image_size', image_size, 2)
        if min(width, height) < 1 or width % 1 or height % 1:
            raise UserError(f'Camera.image_size must be (width, height) in whole px, not {image_size}')
        values = [] if distortion is None else np.asarray(distortion, np.float64).reshape(-1).tolist()
        if values and len(values) not in _DISTORTIONS:
            raise UserError(f'Camera.distortion must be 4, 5 or 8 coefficients of OpenCV, not {len(values)}')
        self.matrix = rows.copy()
        self.matrix.flags.writeable = False
        self.image_size = int(width), int(height)
        self.distortion = np.array(numbers('Camera.distortion', values, len(values)), np.float64)

    @classmethod
    def from_focal(cls, focal_px: float, image_size: tuple[int, int]) -> 'Camera':
        """A camera with square pixels and the principal point in the middle."""
        (focal,) = numbers('focal_px', [focal_px], 1)
        middle = (np.asarray(numbers('image_size', image_size, 2)) - 1) / 2
        return cls([[focal, 0, middle[0]], [0, focal, middle[1]], [0, 0, 1]], image_size)

    @classmethod
    def from_field_of_view(cls, image_size: tuple[int, int], horizontal_deg: float = FIELD_OF_VIEW_DEG) -> 'Camera':
        """A camera by its horizontal field of view; the outer edges of the picture are its borders."""
        if not 1 <= horizontal_deg < 179:
            raise UserError(f'a horizontal field of view lies between 1 and 179 degrees, not {horizontal_deg}')
        return cls.from_focal(image_size[0] / 2 / np.tan(np.radians(horizontal_deg) / 2), image_size)

    def for_size(self, image_size: tuple[int, int]) -> 'Camera':
        """The same camera for pictures scaled to another size (width, height) of the same shape.

        Raises:
            UserError: the shape differs, so that the pictures were cropped and the intrinsics are unknown.
        """
        if tuple(image_size) == self.image_size:
            return self
        scale = np.divide(image_size, self.image_size)
        if abs(scale[0] / scale[1] - 1) > 0.01:
            raise UserError(
                f'the camera is described for pictures of {self.image_size[0]} x {self.image_size[1]} px, not for '
                f'{image_size[0]} x {image_size[1]}: these have another shape; describe the camera at this size'
            )
        # Outer edges onto outer edges: x' + 0.5 = scale * (x + 0.5).
        matrix = np.diag([*scale, 1.0]) @ self.matrix
        matrix[:2, 2] += 0.5 * scale - 0.5
        return Camera(matrix, image_size, self.distortion)

    def undistort(self, image: Image) -> Image:
        """The picture that a camera of this matrix without distortion takes; the picture itself without distortion."""
        if not self.distortion.any():
            return image
        import cv2  # noqa: PLC0415 (a camera is only numbers until here)

        return cv2.remap(image, *self._maps, cv2.INTER_LINEAR).astype(np.uint8, copy=False)

    @cached_property
    def _maps(self) -> tuple[Any, Any]:
        import cv2  # noqa: PLC0415

        identity = np.eye(3)
        return cv2.initUndistortRectifyMap(
            self.matrix, self.distortion, identity, self.matrix, self.image_size, cv2.CV_16SC2
        )

    def project(self, points_mm: ArrayLike) -> Array:
        """Points (..., 3) of the camera frame to px (..., 2) of an undistorted picture; NaN behind the camera."""
        points = np.asarray(points_mm, np.float64)
        depth = np.where(points[..., 2:] > 0, points[..., 2:], np.nan)
        return ((points @ self.matrix.T)[..., :2]) / depth

    def rays(self, points_px: ArrayLike) -> Array:
        """px (..., 2) of an undistorted picture to directions (..., 3) of the camera frame with z = 1."""
        points = np.asarray(points_px, np.float64)
        ones = np.ones((*points.shape[:-1], 1))
        return np.concatenate([points, ones], axis=-1) @ np.linalg.inv(self.matrix).T

    def to_json(self) -> dict[str, Any]:
        """What stands in camera.json."""
        return {
            'format': 'evg-camera',
            'version': 1,
            'image_size': list(self.image_size),
            'matrix': self.matrix.tolist(),
            'distortion': self.distortion.tolist(),
        }

    @classmethod
    def from_json(cls, values: Any, where: str = 'the camera') -> 'Camera':
        """The inverse of `to_json`.

        Raises:
            UserError: not such an object; the message begins with `where`.
        """
        fields = checked_json(values, 'evg-camera', ('image_size', 'matrix'), ('distortion',), where)
        try:
            return cls(fields['matrix'], fields['image_size'], fields.get('distortion'))
        except UserError as error:
            raise UserError(f'{where}: {error}') from None
        except (TypeError, ValueError):
            raise UserError(f'{where}: matrix must be 3 rows of 3 numbers, distortion a list of numbers') from None

    def save(self, path: str | os.PathLike) -> None:
        """Write camera.json, whole or not at all."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike) -> 'Camera':
        """Read camera.json.

        Raises:
            UserError: missing, not JSON, or not a camera.
        """
        return cls.from_json(read_json(path, 'evg.inference.Camera.save'), str(path))

    def identity(self) -> str:
        """Short hash of all numbers: a calibration belongs to one camera."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
