"""The screen that somebody looks at, and where the camera stands to it: screen.json."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evg.errors import UserError
from evg.geometry import Rig, plane_point_by_pose, plane_point_by_ray
from evg.inference.json_files import checked_json, numbers, read_json, write_json

Array = NDArray[np.float64]

CAMERA_ABOVE_MM = 8.0  # a laptop's lens above the upper edge of the picture area, where nobody measured


@dataclass(frozen=True)
class Screen:
    """A flat screen and the place of the camera.

    Convention:
        Screen frame, mm: the origin is the upper left corner of the picture area as the user sees it, x runs to the
        user's right, y down, z away from the user, into the screen. So a camera above the screen has a negative y, and
        one that stands in front of the glass a negative z. The camera is level and looks out of the screen along its
        normal, turned by `tilt_deg` about its own x axis: positive looks up, negative looks down.

    Attributes:
        size_px: (width, height), px.
        size_mm: (width, height) of the picture area, mm.
        camera_mm: (x, y, z) of the camera's lens in the screen frame.
        tilt_deg: how far the camera looks up from the screen's normal.
    """

    size_px: tuple[float, float]
    size_mm: tuple[float, float]
    camera_mm: tuple[float, float, float]
    tilt_deg: float = 0.0

    def __post_init__(self):
        for name, length in (('size_px', 2), ('size_mm', 2), ('camera_mm', 3)):
            object.__setattr__(self, name, numbers(f'Screen.{name}', getattr(self, name), length))
        object.__setattr__(self, 'tilt_deg', numbers('Screen.tilt_deg', [self.tilt_deg], 1)[0])
        for name in ('size_px', 'size_mm'):
            if min(getattr(self, name)) <= 0:
                raise UserError(f'Screen.{name} must be (width, height), both positive, not {getattr(self, name)}')
        if max(self.size_px) > 1e5 or max(map(abs, (*self.size_mm, *self.camera_mm))) > 1e5:
            raise UserError('Screen: sizes and places of more than 100,000 px or mm are no screen; units are px and mm')
        if abs(self.tilt_deg) >= 90:
            raise UserError(f'Screen.tilt_deg must lie between -90 and 90, not {self.tilt_deg}')

    @classmethod
    def from_diagonal(
        cls,
        inches: float = 15.6,
        size_px: tuple[float, float] = (1920, 1080),
        camera_above_mm: float = CAMERA_ABOVE_MM,
    ) -> 'Screen':
        """A screen of square pixels with the camera above the middle of its upper edge; by default a usual laptop."""
        width, height = numbers('size_px', size_px, 2)
        if not (width > 0 and height > 0 and inches > 0):
            raise UserError(f'a screen needs a positive diagonal and size in px, not {inches} inches and {size_px}')
        per_px = inches * 25.4 / float(np.hypot(width, height))
        return cls.with_camera_above((width * per_px, height * per_px), (width, height), camera_above_mm)

    @classmethod
    def with_camera_above(
        cls,
        size_mm: tuple[float, float],
        size_px: tuple[float, float],
        camera_above_mm: float = CAMERA_ABOVE_MM,
    ) -> 'Screen':
        """A screen with the camera above the middle of its upper edge, not tilted."""
        width, _ = numbers('size_mm', size_mm, 2)
        return cls(size_px, size_mm, (width / 2, -camera_above_mm, 0.0))

    @classmethod
    def from_display(cls) -> 'Screen':
        """This computer's main screen, as far as it tells; the camera is taken to be above its middle.

        Raises:
            UserError: there is no display, or it does not tell its size in mm.
        """
        from evg.inference.display import main_display  # noqa: PLC0415 (asks the system; few need it)

        return cls.with_camera_above(*main_display())

    def rig(self, image_size: tuple[int, int], camera_matrix: ArrayLike | None = None) -> Rig:
        """This screen with a camera: `evg.geometry.Rig` with both placement rules (offset and pose).

        Args:
            image_size: (width, height) of the picture, px.
            camera_matrix: (3, 3) intrinsics of the picture, px.
        """
        center = (self.size_mm[0] / 2 - self.camera_mm[0], self.size_mm[1] / 2 - self.camera_mm[1])
        matrix = None if camera_matrix is None else np.asarray(camera_matrix, np.float64)
        return Rig(image_size, self.size_px, self.size_mm, center, matrix, self.to_camera)

    @cached_property
    def to_camera(self) -> Array:
        """(4, 4) screen frame to camera frame, mm."""
        tilt = np.radians(self.tilt_deg)
        # A camera that looks up sees a point straight ahead lower: y grows with z.
        turn = np.array([[1, 0, 0], [0, np.cos(tilt), np.sin(tilt)], [0, -np.sin(tilt), np.cos(tilt)]])
        transform = np.eye(4)
        transform[:3, :3] = turn @ np.diag([-1.0, 1.0, -1.0])
        transform[:3, 3] = -transform[:3, :3] @ self.camera_mm
        return transform

    @cached_property
    def _rig(self) -> Rig:
        return self.rig((1, 1))  # no formula below knows the picture

    def px_to_mm(self, px: ArrayLike) -> Array:
        """Screen px (..., 2) to mm of the screen frame (..., 2)."""
        return self._rig.px_to_screen_mm(px)

    def mm_to_px(self, mm: ArrayLike) -> Array:
        """mm of the screen frame (..., 2) to screen px (..., 2)."""
        return self._rig.screen_mm_to_px(mm)

    def px_to_camera(self, px: ArrayLike) -> Array:
        """Screen px (..., 2) to points of the camera frame (..., 3), mm."""
        return self._rig.screen_px_to_camera(px)

    def ray_to_px(self, origin_mm: ArrayLike, direction: ArrayLike) -> Array:
        """Where rays meet the screen: (..., 3) twice, camera frame, to screen px (..., 2); NaN where they do not."""
        return self._rig.ray_to_screen_px(origin_mm, direction)

    def px_to_plane_mm(self, px: ArrayLike, origin_mm: ArrayLike | None = None) -> Array:
        """Screen px (..., 2) to the camera's plane, plane frame mm (..., 2).

        Convention: with an origin (..., 3), camera frame mm, along the line of gaze from there; without one by dropping
        z, which is the offset rule for a camera in the screen's plane that is not tilted.
        """
        target = self.px_to_camera(px)
        return plane_point_by_pose(target) if origin_mm is None else plane_point_by_ray(origin_mm, target)

    def plane_mm_to_px(self, plane_mm: ArrayLike, origin_mm: ArrayLike | None = None) -> Array:
        """The inverse of `px_to_plane_mm`."""
        if origin_mm is None:
            return self._rig.projected_plane_to_screen_px(plane_mm)
        plane, origin = np.asarray(plane_mm, np.float64), np.asarray(origin_mm, np.float64)
        on_plane = np.concatenate([plane * (-1, 1), np.zeros((*plane.shape[:-1], 1))], axis=-1)
        return self.ray_to_px(origin, on_plane - origin)

    def offset_plane_mm_to_px(self, plane_mm: ArrayLike) -> Array:
        """Plane mm (..., 2) to screen px (..., 2) by EVG's offset rule: the screen laid into the camera's plane."""
        return self._rig.offset_plane_to_screen_px(plane_mm)

    def contains(self, px: ArrayLike) -> NDArray[np.bool_]:
        """Whether screen px (..., 2) lie on the screen, its border included; NaN does not."""
        px = np.asarray(px, np.float64)
        return np.all((px >= 0) & (px <= np.asarray(self.size_px)), axis=-1)

    def to_json(self) -> dict[str, Any]:
        """What stands in screen.json."""
        values = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}
        return {'format': 'evg-screen', 'version': 1, **values}

    @classmethod
    def from_json(cls, values: Any, where: str = 'the screen') -> 'Screen':
        """The inverse of `to_json`.

        Raises:
            UserError: not such an object; the message begins with `where`.
        """
        fields = checked_json(values, 'evg-screen', ('size_px', 'size_mm', 'camera_mm'), ('tilt_deg',), where)
        try:
            return cls(**fields)
        except UserError as error:
            raise UserError(f'{where}: {error}') from None

    def save(self, path: str | os.PathLike) -> None:
        """Write screen.json, whole or not at all."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike) -> 'Screen':
        """Read screen.json.

        Raises:
            UserError: missing, not JSON, or not a screen.
        """
        return cls.from_json(read_json(path, 'python tools/make_screen.py'), str(path))

    def identity(self) -> str:
        """Short hash of all numbers: a calibration belongs to one screen."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
