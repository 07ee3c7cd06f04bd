"""Image-plane affine maps and the frame that a network sees.

Convention of this module (all functions):
    Image px: pixel centres at integers (OpenCV), x right, y down. A 2x3 float64 matrix maps a source point to a
    destination point, `dst = M[:, :2] @ src + M[:, 2]`. Sizes are (width, height).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class InputFrame:
    """How a picture of any size becomes the network's input: scaled to `size`, then padded with zeros around.

    Convention: see the module. The scaling is that of cv2.resize (outer edges map onto outer edges), the padding is
    centred. EVG: `keep_res` is `pad=31` (127 for hourglass) with `keep_aspect=False`; the letterbox of 512 x 512 is
    `size=(512, 512), pad=0, keep_aspect=True`.

    Attributes:
        size: (width, height) that the picture is scaled to.
        pad: the input is (x | pad) + 1 in each direction, CenterNet's rule (512 becomes 544); 0 for no padding.
        keep_aspect: scale equally in x and y, so that the picture fits into `size`.
    """

    size: tuple[int, int]
    pad: int = 31
    keep_aspect: bool = False

    def __post_init__(self):
        if len(self.size) != 2 or min(self.size) <= 0:
            raise ValueError(f'InputFrame needs size=(width, height), both positive, not {self.size}')
        if self.pad < 0 or (self.pad & (self.pad + 1)):
            raise ValueError(f'InputFrame.pad must be 0 or 2^n - 1 (31, 127), not {self.pad}')
        object.__setattr__(self, 'size', (int(self.size[0]), int(self.size[1])))

    @property
    def input_size(self) -> tuple[int, int]:
        """(width, height) of the network's input."""
        if not self.pad:
            return self.size
        return (self.size[0] | self.pad) + 1, (self.size[1] | self.pad) + 1

    def matrix(self, image_size: tuple[int, int]) -> NDArray[np.float64]:
        """2x3 matrix from px of a picture of `image_size` (width, height) to px of the input."""
        scale = np.divide(self.size, image_size)
        if self.keep_aspect:
            scale = np.full(2, scale.min())
        margin = (np.asarray(self.input_size) - scale * image_size) / 2
        # x' + 0.5 = scale * (x + 0.5) + margin: edges onto edges, not centres onto centres.
        shift = margin + 0.5 * scale - 0.5
        return np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]], dtype=np.float64)


def flip_matrix(width: int) -> NDArray[np.float64]:
    """2x3 matrix that mirrors a picture of `width` px about its vertical axis: x' = width - 1 - x."""
    return np.array([[-1, 0, width - 1], [0, 1, 0]], dtype=np.float64)


def apply_affine(matrix: NDArray[np.float64], points_px: ArrayLike) -> NDArray[np.float64]:
    """Map points (..., 2) by a 2x3 matrix."""
    return np.asarray(points_px, np.float64) @ matrix[:, :2].T + matrix[:, 2]


def compose_affine(second: NDArray[np.float64], first: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 2x3 matrix of `first`, then `second`."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])


def invert_affine(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 2x3 matrix of the way back."""
    inverse = np.linalg.inv(matrix[:, :2])
    return np.column_stack([inverse, -inverse @ matrix[:, 2]])
