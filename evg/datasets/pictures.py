"""Pictures: files and rows of HDF5 files. Imports no torch."""

import os
from functools import lru_cache

import cv2
import h5py
import numpy as np
from numpy.typing import NDArray

from evg.errors import UserError

Picture = NDArray[np.uint8]
_HDF5 = ('.h5#', '.hdf5#', '.mat#')
_TAR = '.tar#'


class PictureError(UserError):
    """A picture that cannot be read."""


def picture_file(address: str) -> str:
    """The file that a picture is in: 'a/b.jpg' is one itself, 'a/b.h5#face_patch/12' is in a/b.h5."""
    return address.rpartition('#')[0] if any(suffix in address for suffix in (*_HDF5, _TAR)) else address


def read_image(address: str) -> Picture:
    """A picture as (H, W, 3) uint8 BGR.

    Args:
        address: a file; or FILE.h5#DATASET/ROW: row ROW of an HDF5 data set (N, H, W, 3) or (N, 3, H, W), BGR, 0..255;
            or FILE.tar#OFFSET+SIZE: a picture's bytes in a tar file, see `evg.datasets.pack`.

    Raises:
        PictureError: the file is missing, cut short or not a picture; no such data set or row.
    """
    file = picture_file(address)
    if file == address:
        return _read_file(address)
    inside = address[len(file) + 1 :]
    return _read_tar(file, inside) if file.endswith('.tar') else _read_hdf5(file, inside)


def _read_file(path: str) -> Picture:
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise PictureError(
            f'cannot read the picture {path}: {error.strerror}; prepare the data again or mend data_root'
        ) from error
    return _decoded(data, path)


def _decoded(data: NDArray[np.uint8], path: str) -> Picture:
    # A JPEG that was cut short decodes to a picture with a grey rest, without an error.
    if data[:2].tobytes() == b'\xff\xd8' and b'\xff\xd9' not in data[-64:].tobytes():
        raise PictureError(f'the picture {path} is cut short (no end-of-image marker); prepare the data again')
    image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if data.size else None
    if image is None:
        raise PictureError(f'{path} is not a picture that OpenCV can read; prepare the data again')
    return image.astype(np.uint8, copy=False)


@lru_cache(maxsize=128)
def _opened_tar(path: str) -> int:
    """An open file; its descriptor has no place of its own (pread), so forked processes may share it."""
    return os.open(path, os.O_RDONLY)


def _read_tar(path: str, inside: str) -> Picture:
    try:
        offset, size = map(int, inside.split('+'))
        data = np.frombuffer(os.pread(_opened_tar(path), size, offset), np.uint8)
    except (OSError, ValueError, OverflowError) as error:
        raise PictureError(f'cannot read picture {inside} of {path}: {error}; pack the data again') from error
    if len(data) != size:
        raise PictureError(f'{path} is cut short: it has no picture {inside}; pack the data again')
    return _decoded(data, f'{path}#{inside}')


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
        raise PictureError(
            f'cannot read picture {inside} of {path}: {error}; prepare the data again or mend data_root'
        ) from error
    if stored.ndim == 3 and stored.shape[0] == 3 != stored.shape[2]:
        stored = stored.transpose(1, 2, 0)
    image = stored.astype(np.uint8)
    if image.ndim != 3 or image.shape[2] != 3 or not np.array_equal(image, stored):
        raise PictureError(
            f'{path}#{inside} is not a picture (H, W, 3) of values 0..255 but {stored.dtype} {stored.shape}'
        )
    return np.ascontiguousarray(image)
