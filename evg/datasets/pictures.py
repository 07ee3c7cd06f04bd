"""Pictures: files, rows of HDF5 files, and the warp of a normalised patch. Imports no torch."""

import os
from functools import lru_cache

import cv2
import h5py
import numpy as np
from numpy.typing import NDArray

from evg.errors import UserError

Picture = NDArray[np.uint8]
_HDF5 = ('.h5#', '.hdf5#', '.mat#')


def picture_file(address: str) -> str:
    """The file that a picture is in: 'a/b.jpg' is one itself, 'a/b.h5#face_patch/12' is in a/b.h5."""
    return address.rpartition('#')[0] if any(suffix in address for suffix in _HDF5) else address


def read_image(address: str) -> Picture:
    """A picture as (H, W, 3) uint8 BGR.

    Args:
        address: a file, or FILE.h5#DATASET/ROW: row ROW of an HDF5 data set (N, H, W, 3) or (N, 3, H, W), BGR, 0..255.

    Raises:
        UserError: the file is missing, cut short or not a picture; no such data set or row.
    """
    file = picture_file(address)
    return _read_file(address) if file == address else _read_hdf5(file, address[len(file) + 1 :])


def warp_patch(image: Picture, warp: NDArray[np.float64], size_px: tuple[int, int]) -> Picture:
    """The patch of a normalisation; what lies outside the picture is black.

    A picture that shrinks by two or more is first reduced by a whole factor with area averaging: bilinear sampling
    alone, which the published code uses, would skip pixels.

    Convention: px with centres at whole numbers; `warp` (3, 3) maps px of the picture to px of the patch.

    Args:
        image: (H, W, 3) uint8.
        warp: W of `evg.geometry.Normalisation`.
        size_px: (width, height) of the patch.
    """
    width, height = size_px
    corners = np.array([[0, 0, 1], [width - 1, 0, 1], [0, height - 1, 1], [width - 1, height - 1, 1]], np.float64)
    back = corners @ np.linalg.inv(warp).T
    source = back[:, :2] / back[:, 2:]
    factor = int(min(np.linalg.norm(source[1] - source[0]) / width, np.linalg.norm(source[2] - source[0]) / height))
    factor = min(factor, *image.shape[:2])
    if factor > 1:
        reduced = (image.shape[1] // factor, image.shape[0] // factor)
        image = cv2.resize(
            image[: reduced[1] * factor, : reduced[0] * factor], reduced, interpolation=cv2.INTER_AREA
        ).astype(np.uint8, copy=False)
        # x = factor * x_reduced + (factor - 1) / 2, pixel centres at whole numbers.
        shift = (factor - 1) / 2
        warp = warp @ np.array([[factor, 0, shift], [0, factor, shift], [0, 0, 1]])
    return cv2.warpPerspective(image, warp, size_px, flags=cv2.INTER_LINEAR).astype(np.uint8, copy=False)


def _read_file(path: str) -> Picture:
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(
            f'cannot read the picture {path}: {error.strerror}; prepare the data again or mend data_root'
        ) from error
    # A JPEG that was cut short decodes to a picture with a grey rest, without an error.
    if data[:2].tobytes() == b'\xff\xd8' and b'\xff\xd9' not in data[-64:].tobytes():
        raise UserError(f'the picture {path} is cut short (no end-of-image marker); prepare the data again')
    image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if data.size else None
    if image is None:
        raise UserError(f'{path} is not a picture that OpenCV can read; prepare the data again')
    return image.astype(np.uint8, copy=False)


@lru_cache(maxsize=128)
def _opened(path: str, process: int) -> h5py.File:
    """An open file for each process: one that was opened before a fork is not used after it."""
    # Whole chunks are read once each, in random order: a cache would only cost memory. Nobody writes these files.
    return h5py.File(path, 'r', rdcc_nbytes=0, locking=False)


def _read_hdf5(path: str, inside: str) -> Picture:
    name, _, row = inside.rpartition('/')
    try:
        stored = np.asarray(_opened(path, os.getpid())[name][int(row)])
    except (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise UserError(
            f'cannot read picture {inside} of {path}: {error}; prepare the data again or mend data_root'
        ) from error
    if stored.ndim == 3 and stored.shape[0] == 3 != stored.shape[2]:
        stored = stored.transpose(1, 2, 0)
    image = stored.astype(np.uint8)
    if image.ndim != 3 or image.shape[2] != 3 or not np.array_equal(image, stored):
        raise UserError(
            f'{path}#{inside} is not a picture (H, W, 3) of values 0..255 but {stored.dtype} {stored.shape}'
        )
    return np.ascontiguousarray(image)
