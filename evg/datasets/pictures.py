"""Pictures: files and rows of HDF5 files. Imports no torch."""

import os
from collections.abc import Callable
from functools import lru_cache

import cv2
import h5py
import numpy as np
from numpy.typing import NDArray

from evg.errors import UserError

Picture = NDArray[np.uint8]
Size = tuple[int, int]
_HDF5 = ('.h5#', '.hdf5#', '.mat#')
_TAR = '.tar#'
# What libjpeg can reduce by while it decodes, the largest first.
_REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
# Start-of-frame markers: baseline, extended, progressive.
_FRAMES = (0xC0, 0xC1, 0xC2)


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
    return read_reduced(address, lambda size: 1)[0]


def read_reduced(address: str, shrink: Callable[[Size], int]) -> tuple[Picture, Size, int]:
    """A picture for a place where it becomes smaller: a JPEG is decoded at a half, a quarter or an eighth of its size.

    Convention: px x of the stored picture is at (x + 0.5) / n - 0.5 of one that is reduced by n, pixel centres at whole
    numbers. A rest of less than n px at the right and below is left out, as in `evg.geometry.warp.warp_to_input`.

    Args:
        address: see `read_image`.
        shrink: by what a picture of a size (width, height) becomes smaller at least.

    Returns:
        The picture; the stored one's size (width, height); what it is reduced by: 1, 2, 4 or 8, at most `shrink`.

    Raises:
        PictureError: see `read_image`.
    """
    file = picture_file(address)
    if file == address:
        return _decoded(_read_file(address), address, shrink)
    inside = address[len(file) + 1 :]
    if file.endswith('.tar'):
        return _decoded(_read_tar(file, inside), address, shrink)
    image = _read_hdf5(file, inside)
    return image, _size(image), 1


def _size(image: Picture) -> Size:
    return image.shape[1], image.shape[0]


def _read_file(path: str) -> NDArray[np.uint8]:
    try:
        return np.fromfile(path, np.uint8)
    except OSError as error:
        raise PictureError(
            f'cannot read the picture {path}: {error.strerror}; prepare the data again or mend data_root'
        ) from error


def _decoded(data: NDArray[np.uint8], path: str, shrink: Callable[[Size], int]) -> tuple[Picture, Size, int]:
    """See `read_reduced`."""
    flags, size, reduced_by = cv2.IMREAD_COLOR, None, 1
    if data[:2].tobytes() == b'\xff\xd8':
        # A JPEG that was cut short decodes to a picture with a grey rest, without an error. The end marker is searched
        # behind the header, in which a thumbnail may have its own. It is mostly at the end, but cameras append things.
        size, scan = _jpeg_header(data)
        if not any(b'\xff\xd9' in data[first:].tobytes() for first in (max(scan, len(data) - 64), scan)):
            raise PictureError(f'the picture {path} is cut short (no end-of-image marker); prepare the data again')
        if size is not None:
            at_most = min(shrink(size), *size)
            reduced_by, flags = next((item for item in _REDUCED.items() if item[0] <= at_most), (1, flags))
    decoded = cv2.imdecode(data, flags | cv2.IMREAD_IGNORE_ORIENTATION) if data.size else None
    if decoded is None:
        raise PictureError(f'{path} is not a picture that OpenCV can read; prepare the data again')
    image = decoded.astype(np.uint8, copy=False)
    size = size or _size(image)
    return image[: size[1] // reduced_by, : size[0] // reduced_by], size, reduced_by  # libjpeg rounds up


def _jpeg_header(data: NDArray[np.uint8]) -> tuple[Size | None, int]:
    """(width, height) of a JPEG that can be reduced, by its header, None for others; where its first scan begins."""
    bytes_, place, size = data.data, 2, None
    while place + 4 <= len(bytes_) and bytes_[place] == 0xFF and bytes_[place + 1] != 0xDA:
        if bytes_[place + 1] in _FRAMES and place + 9 <= len(bytes_):
            height, width = (bytes_[at] << 8 | bytes_[at + 1] for at in (place + 5, place + 7))
            size = (width, height) if width and height else None
        place += 2 + (bytes_[place + 2] << 8 | bytes_[place + 3])
    return size, place


def _read_tar(path: str, inside: str) -> NDArray[np.uint8]:
    try:
        offset, size = map(int, inside.split('+'))
        # Opened for each read, which takes 3 us: a data set may have more tar files than a process may have open ones.
        opened = os.open(path, os.O_RDONLY)
        try:
            data = np.frombuffer(os.pread(opened, min(size, os.fstat(opened).st_size), offset), np.uint8)
        finally:
            os.close(opened)
    except (OSError, ValueError, OverflowError) as error:
        raise PictureError(f'cannot read picture {inside} of {path}: {error}; pack the data again') from error
    if len(data) != size:
        raise PictureError(f'{path} is cut short: it has no picture {inside}; pack the data again')
    return data


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
