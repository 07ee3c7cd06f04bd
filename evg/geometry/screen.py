"""Camera and screen: where a screen pixel lies in the camera frame and on the plane of the camera, and back."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Rig:
    """One camera and one screen that do not move against each other.

    Convention:
        Camera frame: OpenCV, mm. Screen frame: mm, origin at the screen's upper left corner as the user sees it, x to
        the user's right, y down, z = 0 on the screen. Plane frame: mm, u = -x_cam, v = y_cam, on the camera's z = 0.
        Two rules put a screen point on the plane. `offset` (EVG's): the screen lies in the plane, unrotated, its centre
        at `screen_center_plane_mm`. `pose`: the calibrated `screen_to_camera` is used.

    Attributes:
        image_size: (width, height) of the stored image, px.
        screen_size_px: (width, height) of the screen, px.
        screen_size_mm: (width, height) of the screen, mm.
        screen_center_plane_mm: (u, v) of the screen's centre under the offset rule, or None where it is unknown.
        camera_matrix: (3, 3) intrinsics of the stored image, px, or None.
        screen_to_camera: (4, 4) rigid transform, mm, or None.
    """

    image_size: tuple[int, int]
    screen_size_px: tuple[float, float]
    screen_size_mm: tuple[float, float]
    screen_center_plane_mm: tuple[float, float] | None = None
    camera_matrix: NDArray[np.float64] | None = None
    screen_to_camera: NDArray[np.float64] | None = None

    def __post_init__(self):
        for name, shape in (('camera_matrix', (3, 3)), ('screen_to_camera', (4, 4))):
            value = getattr(self, name)
            if value is None:
                continue
            value = np.array(value, dtype=np.float64)
            if value.shape != shape or not np.isfinite(value).all():
                raise ValueError(f'Rig.{name} must be a finite {shape} matrix, not shape {value.shape}')
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        for name in ('image_size', 'screen_size_px', 'screen_size_mm', 'screen_center_plane_mm'):
            value = getattr(self, name)
            if value is None:
                continue
            if len(value) != 2 or not np.isfinite(value).all():
                raise ValueError(f'Rig.{name} must be two finite numbers, not {value}')
            object.__setattr__(self, name, tuple(int(v) if name == 'image_size' else float(v) for v in value))
        if min(self.image_size) <= 0 or min(self.screen_size_px) <= 0 or min(self.screen_size_mm) <= 0:
            sizes = f'{self.image_size}, {self.screen_size_px}, {self.screen_size_mm}'
            raise ValueError(f'Rig sizes must be positive: {sizes}')

    # Screen pixels <-> screen mm.
    def px_to_screen_mm(self, screen_px: ArrayLike) -> NDArray[np.float64]:
        """Screen px (..., 2) to mm in the screen frame (..., 2)."""
        return np.asarray(screen_px, np.float64) * np.divide(self.screen_size_mm, self.screen_size_px)

    def screen_mm_to_px(self, screen_mm: ArrayLike) -> NDArray[np.float64]:
        """mm in the screen frame (..., 2) to screen px (..., 2)."""
        return np.asarray(screen_mm, np.float64) * np.divide(self.screen_size_px, self.screen_size_mm)

    # Rule `offset`.
    def offset_screen_px_to_plane(self, screen_px: ArrayLike) -> NDArray[np.float64]:
        """Screen px (..., 2) to plane mm (..., 2) by the offset rule."""
        center = self._need('screen_center_plane_mm')
        return self.px_to_screen_mm(screen_px) - np.divide(self.screen_size_mm, 2) + center

    def offset_plane_to_screen_px(self, plane_mm: ArrayLike) -> NDArray[np.float64]:
        """Plane mm (..., 2) to screen px (..., 2) by the offset rule."""
        center = self._need('screen_center_plane_mm')
        return self.screen_mm_to_px(np.asarray(plane_mm, np.float64) - center + np.divide(self.screen_size_mm, 2))

    # Rule `pose`.
    def screen_px_to_camera(self, screen_px: ArrayLike) -> NDArray[np.float64]:
        """Screen px (..., 2) to a point in the camera frame (..., 3), mm."""
        transform = self._need('screen_to_camera')
        return self.px_to_screen_mm(screen_px) @ transform[:3, :2].T + transform[:3, 3]

    def projected_plane_to_screen_px(self, plane_mm: ArrayLike) -> NDArray[np.float64]:
        """Plane mm (..., 2) to screen px (..., 2) by the rule `projection`: the screen's point with that x and y."""
        transform = self._need('screen_to_camera')
        xy = np.asarray(plane_mm, np.float64) * (-1, 1) - transform[:2, 3]
        return self.screen_mm_to_px(xy @ np.linalg.inv(transform[:2, :2]).T)

    def ray_to_screen_px(self, origin_mm: ArrayLike, direction: ArrayLike) -> NDArray[np.float64]:
        """Where a ray meets the screen.

        Convention: see the class; the ray is given in the camera frame.

        Args:
            origin_mm: (..., 3).
            direction: (..., 3), any length.

        Returns:
            (..., 2) screen px; NaN where the ray runs along the screen or away from it.
        """
        transform = self._need('screen_to_camera')
        rotation, translation = transform[:3, :3], transform[:3, 3]
        origin_s = (np.asarray(origin_mm, np.float64) - translation) @ rotation
        direction_s = np.asarray(direction, np.float64) @ rotation
        return self.screen_mm_to_px(intersect_plane(origin_s, direction_s)[..., :2])

    def _need(self, name: str):
        value = getattr(self, name)
        if value is None:
            raise ValueError(
                f'this rig does not declare {name}; the other placement rule (offset or pose) may be possible'
            )
        return value


def intersect_plane(origin: ArrayLike, direction: ArrayLike) -> NDArray[np.float64]:
    """Where a ray meets the plane z = 0 of its own frame.

    Convention: any right-handed frame, mm; origin and direction in the same frame.

    Args:
        origin: (..., 3).
        direction: (..., 3), any length.

    Returns:
        (..., 3) points with z = 0; NaN where the ray is parallel to the plane or points away from it.
    """
    origin, direction = np.broadcast_arrays(np.asarray(origin, np.float64), np.asarray(direction, np.float64))
    with np.errstate(divide='ignore', invalid='ignore'):
        t = -origin[..., 2] / direction[..., 2]
    t = np.where(np.isfinite(t) & (t >= 0), t, np.nan)
    return origin + t[..., None] * direction


def plane_point_by_pose(target_cam_mm: ArrayLike) -> NDArray[np.float64]:
    """Plane point of a 3-D target by dropping its z (rule `projection`).

    Convention: camera frame mm (..., 3) to plane frame mm (..., 2): (u, v) = (-x, y). Needs no eye; ignores parallax.
    """
    target = np.asarray(target_cam_mm, np.float64)
    return np.stack([-target[..., 0], target[..., 1]], axis=-1)


def plane_point_by_ray(origin_cam_mm: ArrayLike, target_cam_mm: ArrayLike) -> NDArray[np.float64]:
    """Plane point where the line from the eye through a 3-D target meets the camera's plane (rule `ray`).

    Convention: camera frame mm (..., 3) twice, to plane frame mm (..., 2): (u, v) = (-x, y). NaN where the line does
    not meet the plane.
    """
    origin, target = np.asarray(origin_cam_mm, np.float64), np.asarray(target_cam_mm, np.float64)
    return plane_point_by_pose(intersect_plane(origin, target - origin))
