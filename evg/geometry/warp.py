"""Pixels: a picture into the network's input, the same for training and for the runtime. Needs OpenCV.

`evg.geometry` does not import this module, so that formulas alone need numpy only.

Convention of this module (all functions):
    Px with centres at whole numbers, x right, y down. Pictures are (H, W, 3) uint8 BGR as OpenCV reads them, sizes are
    (width, height). What lies outside a picture is black.
"""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from .affine import compose_affine

Picture = NDArray[np.uint8]
_EDGE_PX = 1e-4  # what rounding may move an edge by


def warp_to_input(
    image: Picture, matrix: NDArray[np.float64], size: tuple[int, int], antialias: bool = True
) -> Picture:
    """Sample a picture by an affine map.

    A picture that shrinks by two or more is first reduced by whole factors with area averaging: bilinear sampling alone
    would skip pixels, and the iris is a few pixels wide.

    Args:
        image: (H, W, 3) uint8.
        matrix: (2, 3) px of the picture to px of the input.
        size: (width, height) of the input.
        antialias: average first; False is plain bilinear sampling.

    Returns:
        (height, width, 3) uint8.
    """
    factor = min(whole_shrink(matrix), *image.shape[:2]) if antialias else 1
    if factor > 1:
        image = _reduced(image, factor)
        # x = factor * x_reduced + (factor - 1) / 2, pixel centres at whole numbers.
        matrix = compose_affine(matrix, np.array([[factor, 0, (factor - 1) / 2], [0, factor, (factor - 1) / 2]]))
    pasted = _pasted(image, matrix, size)
    if pasted is not None:
        return pasted
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR).astype(np.uint8, copy=False)


def whole_shrink(matrix: NDArray[np.float64]) -> int:
    """The whole number by which an affine map (2, 3) makes pictures smaller at least, in x and y; 0 if it enlarges."""
    (a, b, _), (c, d, _) = matrix.tolist()
    return int(1 / max(abs(a) + abs(b), abs(c) + abs(d)))


def warp_patch(image: Picture, warp: NDArray[np.float64], size_px: tuple[int, int]) -> Picture:
    """The patch of a normalisation.

    A picture that shrinks by two or more is first averaged, as in `warp_to_input`; the published code samples only.

    Args:
        image: (H, W, 3) uint8.
        warp: (3, 3) W of `evg.geometry.Normalisation`, px of the picture to px of the patch.
        size_px: (width, height) of the patch.
    """
    width, height = size_px
    corners = np.array([[0, 0, 1], [width - 1, 0, 1], [0, height - 1, 1], [width - 1, height - 1, 1]], np.float64)
    back = corners @ np.linalg.inv(warp).T
    source = back[:, :2] / back[:, 2:]
    factor = int(min(np.linalg.norm(source[1] - source[0]) / width, np.linalg.norm(source[2] - source[0]) / height))
    factor = min(factor, *image.shape[:2])
    if factor > 1:
        image = _reduced(image, factor)
        shift = (factor - 1) / 2
        warp = warp @ np.array([[factor, 0, shift], [0, factor, shift], [0, 0, 1]])
    return cv2.warpPerspective(image, warp, size_px, flags=cv2.INTER_LINEAR).astype(np.uint8, copy=False)


def normalise_input(
    image: Picture, channel_order: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> NDArray[np.float32]:
    """A picture as the network takes it: (pixel / 255 - mean) / std, as `evg.models.GazePreprocessor` computes it.

    Args:
        image: (H, W, 3) uint8 BGR.
        channel_order: 'rgb' or 'bgr', what the network gets.
        mean: three values in 0..1, in that order.
        std: three values in 0..1, in that order.

    Returns:
        (3, H, W) float32.
    """
    channels = cv2.split(image)
    planes = channels[::-1] if channel_order == 'rgb' else channels
    values = np.empty((3, *image.shape[:2]), np.float32)
    for plane, table, value in zip(planes, _tables(tuple(mean), tuple(std)), values, strict=True):
        cv2.LUT(plane, table, value)
    return values


@lru_cache(maxsize=8)
def _tables(mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """(3, 256) the value of every grey level, in the order of operations of the preprocessor."""
    scale = 1 / (255 * np.asarray(std, np.float32))
    shift = -np.asarray(mean, np.float32) / np.asarray(std, np.float32)
    return np.asarray(np.arange(256, dtype=np.float32) * scale[:, None] + shift[:, None], np.float32)


def _pasted(image: Picture, matrix: NDArray[np.float64], size: tuple[int, int]) -> Picture | None:
    """A picture whose edges the map puts onto edges of px of the input: scaled by cv2.resize, or copied as it is.

    Sampling by `cv2.warpAffine` gives the same, many times slower, but for the border of an enlarged picture, into
    which it mixes what lies outside. None for other maps.
    """
    (a, b, x), (c, d, y) = matrix.tolist()
    height, width = image.shape[:2]
    # Edges lie half a px beside centres.
    first, top = x + (1 - a) / 2, y + (1 - d) / 2
    edges = (min(first, first + a * width), top, max(first, first + a * width), top + d * height)
    left, top, right, bottom = whole = [round(edge) for edge in edges]
    if b or c or d < 0 or min(left, top) < 0 or right > size[0] or bottom > size[1]:
        return None
    if max(abs(edge - near) for edge, near in zip(edges, whole, strict=True)) > _EDGE_PX:
        return None
    if (width, height) != (right - left, bottom - top):
        scaled = cv2.resize(image, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
        image = scaled.astype(np.uint8, copy=False)
    picture = np.zeros((size[1], size[0], *image.shape[2:]), np.uint8)
    inside = picture[top:bottom, left:right]
    if a < 0:
        cv2.flip(image, 1, inside)
    else:
        inside[:] = image
    return picture


def _reduced(image: Picture, factor: int) -> Picture:
    """A picture averaged over squares of `factor` px; the rest at the right and below is left out."""
    width, height = image.shape[1] // factor, image.shape[0] // factor
    whole = image[: height * factor, : width * factor]
    return cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
