"""The virtual plane: the window of the camera's z = 0 plane on which a network marks the point of gaze."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class VirtualPlane:
    """A window of the plane frame, centred on the camera (EVG's "VP").

    Convention:
        Plane frame: mm, origin at the camera, u to the user's right (= -x of the camera), v down (= y of the camera).
        VP pixels: px = size_px / 2 + ppm * (u, v), continuous, (0, 0) is the window's upper left corner.

    Attributes:
        size_px: (width, height) in VP pixels.
        ppm: VP pixels per millimetre.
    """

    size_px: tuple[int, int]
    ppm: float

    def __post_init__(self):
        if len(self.size_px) != 2 or min(self.size_px) <= 0:
            raise ValueError(f'a virtual plane needs size_px=(width, height), both positive, not {self.size_px}')
        if not self.ppm > 0:
            raise ValueError(f'a virtual plane needs a positive ppm (VP pixels per mm), not {self.ppm}')
        object.__setattr__(self, 'size_px', tuple(self.size_px))

    @property
    def size_mm(self) -> tuple[float, float]:
        """(width, height) of the window in mm."""
        return self.size_px[0] / self.ppm, self.size_px[1] / self.ppm

    def from_mm(self, plane_mm: ArrayLike) -> NDArray[np.float64]:
        """Plane mm (..., 2) to VP pixels (..., 2). Not clamped."""
        return np.asarray(self.size_px) / 2 + self.ppm * np.asarray(plane_mm, dtype=np.float64)

    def to_mm(self, vp_px: ArrayLike) -> NDArray[np.float64]:
        """VP pixels (..., 2) to plane mm (..., 2), the inverse of `from_mm`."""
        return (np.asarray(vp_px, dtype=np.float64) - np.asarray(self.size_px) / 2) / self.ppm

    def contains(self, vp_px: ArrayLike) -> NDArray[np.bool_]:
        """Whether VP pixels (..., 2) lie in the window, its border included."""
        px = np.asarray(vp_px)
        return np.all((px >= 0) & (px <= np.asarray(self.size_px)), axis=-1)

    def clamp(self, vp_px: ArrayLike) -> NDArray[np.float64]:
        """VP pixels (..., 2) moved to the nearest point of the window."""
        return np.clip(np.asarray(vp_px, dtype=np.float64), 0, self.size_px)
