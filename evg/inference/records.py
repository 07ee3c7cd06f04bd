"""What a run over frames leaves behind: a table of results, a video, pictures. Files appear when they are whole."""

import csv
import io
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from evg.errors import UserError
from evg.files import atomic_write
from evg.geometry import angle_between_deg
from evg.inference.result import GazeResult
from evg.inference.screen import Screen
from evg.inference.sources import Shot

Image = NDArray[np.uint8]

TABLES = ('csv', 'parquet')
# Column: the result's field, and which of its values.
_VECTORS = {
    'plane_u_mm': ('plane_mm', 0), 'plane_v_mm': ('plane_mm', 1),
    'screen_x_px': ('screen_px', 0), 'screen_y_px': ('screen_px', 1),
    'pitch_rad': ('pitchyaw_rad', 0), 'yaw_rad': ('pitchyaw_rad', 1),
    'gaze_x': ('gaze', 0), 'gaze_y': ('gaze', 1), 'gaze_z': ('gaze', 2),
    'origin_x_mm': ('origin_mm', 0), 'origin_y_mm': ('origin_mm', 1), 'origin_z_mm': ('origin_mm', 2),
    'face_x_px': ('face_center_px', 0), 'face_y_px': ('face_center_px', 1),
    'box_x1_px': ('face_box_px', 0), 'box_y1_px': ('face_box_px', 1),
    'box_x2_px': ('face_box_px', 2), 'box_y2_px': ('face_box_px', 3),
}  # fmt: skip
_STEPS = ('detect', 'prepare', 'network', 'decode', 'total')
COLUMNS = (
    'frame', 'name', 'time_ms', 'face', 'found', 'reason', 'on_screen', 'calibrated', 'score', 'eyes_open',
    *_VECTORS, 'gt_screen_x_px', 'gt_screen_y_px', 'error_px', 'error_deg', *(f'{step}_ms' for step in _STEPS),
)  # fmt: skip


class ResultTable:
    """One row per face and frame; names carry units, frames and signs are those of `GazeResult`."""

    def __init__(self):
        self.rows: list[dict[str, Any]] = []
        self._frames = 0

    def add(self, shot: Shot, results: list[GazeResult], screen: Screen) -> None:
        """The results of the next frame, on a screen."""
        for face, result in enumerate(results):
            row: dict[str, Any] = dict.fromkeys(COLUMNS)
            row.update(frame=self._frames, name=shot.name, time_ms=shot.time_ms, face=face)
            for name in ('found', 'reason', 'on_screen', 'calibrated', 'score', 'eyes_open'):
                row[name] = getattr(result, name)
            for name, (field, i) in _VECTORS.items():
                values = getattr(result, field)
                row[name] = None if values is None else float(values[i])
            row.update({f'{step}_ms': result.times_ms.get(step) for step in _STEPS})
            if face == 0:  # a data set's labels are of its one person
                row.update(_errors(shot, result, screen))
            self.rows.append(row)
        self._frames += 1

    def write(self, path: str | os.PathLike) -> None:
        """Write .csv or .parquet, by the name's end.

        Raises:
            UserError: another ending, pyarrow is missing, or the file cannot be written.
        """
        path = Path(path)
        data = {'.csv': self._csv, '.parquet': self._parquet}.get(path.suffix)
        if data is None:
            raise UserError(f'{path}: a table of results is written as .csv or .parquet')
        content = data()
        try:
            with atomic_write(path) as file:
                file.write(content)
        except OSError as error:
            raise UserError(f'cannot write {path}: {error.strerror}') from error

    def _csv(self) -> bytes:
        text = io.StringIO(newline='')
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue().encode()

    def _parquet(self) -> bytes:
        try:
            import pyarrow as pa  # noqa: PLC0415 (an extra)
            import pyarrow.parquet as pq  # noqa: PLC0415
        except ImportError as error:
            raise UserError('.parquet needs pyarrow: pip install pyarrow, or write .csv') from error
        kinds = {'frame': pa.int64(), 'face': pa.int64(), 'name': pa.string(), 'reason': pa.string()}
        kinds.update(dict.fromkeys(('found', 'on_screen', 'calibrated'), pa.bool_()))
        schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in COLUMNS])
        stream = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(self.rows, schema=schema), stream)
        return stream.getvalue()


def _errors(shot: Shot, result: GazeResult, screen: Screen) -> dict[str, float]:
    found: dict[str, float] = {}
    if shot.truth_px is not None:
        found['gt_screen_x_px'], found['gt_screen_y_px'] = map(float, shot.truth_px)
        if result.screen_px is not None:
            found['error_px'] = float(np.linalg.norm(result.screen_px - shot.truth_px))
    truth = shot.true_gaze(result.origin_mm, screen)
    if truth is not None and result.gaze is not None:
        found['error_deg'] = float(angle_between_deg(result.gaze, truth))
    return found


class VideoFile:
    """An MP4 file of pictures of one size; it takes its name when it is closed.

    Args:
        path: ends with .mp4.
        fps: frames per second.
    """

    def __init__(self, path: str | os.PathLike, fps: float):
        self.path, self.fps = Path(path), fps
        self._partial = self.path.with_name(f'.{self.path.stem}.{os.getpid()}.partial.mp4')
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def add(self, image: Image) -> None:
        """The next picture; one of another size is scaled to the first one's.

        Raises:
            UserError: OpenCV cannot write such a file there.
        """
        if self._writer is None:
            # The codec takes even sizes only.
            self._size = image.shape[1] // 2 * 2, image.shape[0] // 2 * 2
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f'cannot make the folder of {self.path}: {error.strerror}') from error
            self._writer = cv2.VideoWriter(str(self._partial), cv2.VideoWriter.fourcc(*'mp4v'), self.fps, self._size)
            if not self._writer.isOpened():
                raise UserError(f'cannot write the video {self.path}: no right to write there, or no such codec')
        if image.shape[1::-1] != self._size:
            image = np.asarray(cv2.resize(image, self._size, interpolation=cv2.INTER_AREA), np.uint8)
        self._writer.write(image)

    def close(self, keep: bool = True) -> None:
        """Finish the file, or throw it away."""
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        if keep:
            os.replace(self._partial, self.path)
        else:
            self._partial.unlink(missing_ok=True)
