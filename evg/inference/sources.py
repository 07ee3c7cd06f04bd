"""Where frames come from: a picture, a folder of them, a video, a camera, or a prepared data set with its labels."""

import itertools
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from evg.errors import UserError
from evg.geometry import Rig
from evg.inference.camera import Camera
from evg.inference.screen import Screen

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

PICTURES = ('.png', '.jpg', '.jpeg', '.bmp', '.webp', '.tif', '.tiff')
_CAMERA = re.compile(r'camera:(\d+)')


@dataclass(frozen=True, eq=False)
class Shot:
    """One frame and what is known of it.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        name: file or sample; '' for frames of a video or camera.
        time_ms: since the start of the video, or of the camera; None for pictures.
        truth_px: (2,) point of gaze, screen px, of a data set.
        screen: of a data set; None is the declared one.
        camera: of a data set; None is the declared one.
    """

    image: Image
    name: str = ''
    time_ms: float | None = None
    truth_px: Array | None = None
    screen: 'RigScreen | None' = None
    camera: Camera | None = None

    def true_gaze(self, origin_mm: Array | None, screen: Screen) -> Array | None:
        """(3,) unit vector from an origin, camera frame, to the true point of gaze; None where one is not known."""
        if self.truth_px is None or origin_mm is None:
            return None
        towards = screen.px_to_camera(self.truth_px) - origin_mm
        return towards / np.linalg.norm(towards) if np.isfinite(towards).all() else None


@dataclass(frozen=True)
class Source:
    """Frames to come.

    Attributes:
        shots: the frames, once.
        kind: 'picture', 'video', 'camera' or 'dataset'.
        fps: of a video; 0 for the rest.
    """

    shots: Iterator[Shot]
    kind: str
    fps: float = 0.0


class RigScreen(Screen):
    """The screen of a data set, whose pose against the camera is any, with what a predictor asks of a screen.

    What the data set does not declare, leads nowhere: NaN.

    Args:
        rig: of the data set.
    """

    def __init__(self, rig: Rig):
        super().__init__(rig.screen_size_px, rig.screen_size_mm, (rig.screen_size_mm[0] / 2, 0.0, 0.0))
        object.__setattr__(self, '_of_data_set', rig)

    @property
    def _rig(self) -> Rig:  # type: ignore[override]  # all formulas of `Screen` go through it
        return self._of_data_set  # type: ignore[attr-defined]  # set above, past the frozen dataclass

    def rig(self, image_size: tuple[int, int], camera_matrix: ArrayLike | None = None) -> Rig:
        """The data set's own."""
        return self._rig

    def ray_to_px(self, origin_mm: ArrayLike, direction: ArrayLike) -> Array:
        """As `Screen.ray_to_px`."""
        return _nowhere(2) if self._rig.screen_to_camera is None else super().ray_to_px(origin_mm, direction)

    def px_to_camera(self, px: ArrayLike) -> Array:
        """As `Screen.px_to_camera`."""
        return _nowhere(3) if self._rig.screen_to_camera is None else super().px_to_camera(px)

    def plane_mm_to_px(self, plane_mm: ArrayLike, origin_mm: ArrayLike | None = None) -> Array:
        """As `Screen.plane_mm_to_px`."""
        return _nowhere(2) if self._rig.screen_to_camera is None else super().plane_mm_to_px(plane_mm, origin_mm)

    def offset_plane_mm_to_px(self, plane_mm: ArrayLike) -> Array:
        """As `Screen.offset_plane_mm_to_px`."""
        return _nowhere(2) if self._rig.screen_center_plane_mm is None else super().offset_plane_mm_to_px(plane_mm)


def _nowhere(size: int) -> Array:
    return np.full(size, np.nan)


def open_source(source: str, split: str | None = None, count: int | None = None) -> Source:
    """Open whatever a user names.

    Args:
        source: picture, folder of pictures, video, 'camera:N', or folder of a prepared data set.
        split: of a data set; None is all.
        count: of a data set: so many samples, evenly spread; else the first so many frames.

    Raises:
        UserError: there is no such thing, or it cannot be read.
    """
    path = Path(source)
    number = _CAMERA.fullmatch(source)
    if number:
        opened = Source(_camera(int(number[1])), 'camera')
    elif path.name == 'index.parquet' or (path / 'index.parquet').is_file():
        return Source(_dataset(path, split, count), 'dataset')
    elif path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)
        if not files:
            raise UserError(f'{path} holds no pictures ({", ".join(PICTURES)}) and no index.parquet')
        opened = Source(map(_picture, files), 'picture')
    elif not path.exists():
        raise UserError(f'there is no {source}: give a picture, a folder, a video, camera:N or a prepared data set')
    elif path.suffix.lower() in PICTURES:
        opened = Source(map(_picture, [path]), 'picture')
    else:
        opened = _video(path)
    return Source(itertools.islice(opened.shots, count), opened.kind, opened.fps)


def _picture(path: Path) -> Shot:
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(f'cannot read the picture {path}: {error.strerror}') from error
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise UserError(f'{path} is not a picture that OpenCV can read')
    return Shot(np.asarray(image, np.uint8), path.name)


def _video(path: Path) -> Source:
    video = cv2.VideoCapture(str(path))
    if not video.isOpened():
        raise UserError(f'cannot read the video {path}: its format is not known to OpenCV, or it is cut short')
    fps = float(video.get(cv2.CAP_PROP_FPS))
    fps = fps if np.isfinite(fps) and 1 <= fps <= 1000 else 25.0

    def shots() -> Iterator[Shot]:
        count, last = 0, -1.0
        try:
            while True:
                ok, frame = video.read()
                if not ok:
                    break
                # Some formats tell no time, or the same again.
                told = float(video.get(cv2.CAP_PROP_POS_MSEC))
                last = told if told > last else count * 1000 / fps
                count += 1
                yield Shot(np.asarray(frame, np.uint8), time_ms=last)
        finally:
            video.release()
        if not count:
            raise UserError(f'the video {path} has not one frame that can be read')

    return Source(shots(), 'video', fps)


def _camera(number: int) -> Iterator[Shot]:
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        camera = cv2.VideoCapture(number)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if not camera.isOpened():
        raise UserError(f'there is no camera {number}, or another program uses it, or this user may not')
    start = time.monotonic()

    def shots() -> Iterator[Shot]:
        try:
            while True:
                ok, frame = camera.read()
                if not ok:
                    raise UserError(f'camera {number} gives no more frames: was it unplugged?')
                yield Shot(np.asarray(frame, np.uint8), time_ms=(time.monotonic() - start) * 1000)
        finally:
            camera.release()

    return shots()


def _dataset(path: Path, split: str | None, count: int | None) -> Iterator[Shot]:
    try:
        from evg.datasets.index import read_index  # noqa: PLC0415 (pyarrow)
        from evg.datasets.pictures import read_image  # noqa: PLC0415 (h5py)
    except ImportError as error:
        raise UserError(
            f"data sets need more packages ({error}): pip install -e '.[train]' in the clone of evg"
        ) from error
    index = read_index(path, None if split is None else [split])
    columns = index.columns
    spread = np.linspace(0, len(index) - 1, len(index) if count is None else min(count, len(index)))

    @cache
    def known(key: str) -> tuple[RigScreen, Camera | None]:
        rig = index.rigs[key]
        return RigScreen(rig), None if rig.camera_matrix is None else Camera(rig.camera_matrix, rig.image_size)

    def shots() -> Iterator[Shot]:
        for row in spread.round().astype(int).tolist():
            key = columns.text('rig', row)
            if not key:
                raise UserError(
                    f'{path} holds normalised patches, not frames: look at predictions with tools/test.py --show-dir'
                )
            truth = columns['pog_screen_px'][row]
            yield Shot(
                read_image(os.path.join(index.root, columns.text('image', row))),
                columns.text('sample_id', row),
                truth_px=truth if np.isfinite(truth).all() else None,
                screen=known(key)[0],
                camera=known(key)[1],
            )

    return shots()
