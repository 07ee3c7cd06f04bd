"""The accuracy test on a recorded video: a script says when the person looked where."""

import csv
import math
import os
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from evg.errors import UserError
from evg.inference.accuracy import AccuracyTest
from evg.inference.calibration import Calibration
from evg.inference.json_files import read_json
from evg.inference.result import GazeResult
from evg.inference.screen import Screen

Image = NDArray[np.uint8]


class Predictor(Protocol):
    """What the test needs of a `GazePredictor`."""

    def predict(self, image: Image, timestamp_ms: float | None = None) -> list[GazeResult]:
        """The faces of a frame, the largest first."""


@dataclass(frozen=True)
class Look:
    """A stretch of the video in which the person looks at one point.

    Attributes:
        t_start_ms, t_end_ms: from and until, on the video's clock. The first should leave the eye time to arrive.
        x_px, y_px: the point, screen px.
    """

    t_start_ms: float
    t_end_ms: float
    x_px: float
    y_px: float


_NAMES = [field.name for field in fields(Look)]


def read_script(path: str | os.PathLike) -> list[Look]:
    """Read a script: CSV with the header t_start_ms,t_end_ms,x_px,y_px, or JSON with a list of such objects.

    Raises:
        UserError: unreadable, a name or number missing, stretches that are empty or overlap.
    """
    rows = _csv_rows(Path(path)) if Path(path).suffix.lower() == '.csv' else read_json(path, 'docs/calibration.md')
    if not isinstance(rows, list) or not rows:
        raise UserError(f'{path}: a script is a list of stretches with {", ".join(_NAMES)}')
    script = [_look(row, f'{path}: stretch {number}') for number, row in enumerate(rows, 1)]
    script.sort(key=lambda look: look.t_start_ms)
    for before, after in pairwise(script):
        if after.t_start_ms < before.t_end_ms:
            raise UserError(f'{path}: the stretches at {before.t_start_ms:g} and {after.t_start_ms:g} ms overlap')
    return script


def video_frames(path: str | os.PathLike) -> Iterator[tuple[float, Image]]:
    """(time in ms, BGR frame) of a video file, in order.

    Raises:
        UserError: the file is missing or OpenCV cannot read it.
    """
    video = cv2.VideoCapture(str(path)) if Path(path).is_file() else None
    try:
        if video is None or not video.isOpened():
            raise UserError(f'cannot read the video {path}: {"no such file" if video is None else "unknown format"}')
        while True:
            ok, frame = video.read()
            if not ok:
                return
            yield float(video.get(cv2.CAP_PROP_POS_MSEC)), np.asarray(frame, np.uint8)
    finally:
        if video is not None:
            video.release()


def run_script(
    predictor: Predictor,
    frames: Iterator[tuple[float, Image]],
    script: list[Look],
    screen: Screen,
    calibration: Calibration | None = None,
) -> AccuracyTest:
    """Predict every frame of every stretch.

    Args:
        predictor: of the same screen.
        frames: (time in ms, BGR frame) in the order of time.
        script: of `read_script`.
        screen: the declared screen.
        calibration: applied to every result; already checked.

    Raises:
        UserError: a stretch has no frame.
    """
    results: list[list[GazeResult]] = [[] for _ in script]
    last = 0.0
    for time_ms, frame in frames:
        last = time_ms
        number = next((i for i, look in enumerate(script) if look.t_start_ms <= time_ms < look.t_end_ms), None)
        if number is not None:
            result = predictor.predict(frame, time_ms)[0]
            results[number].append(calibration.apply(result) if calibration else result)
    test = AccuracyTest(screen)
    for look, found in zip(script, results, strict=True):
        if not found:
            stretch = f'{look.t_start_ms:g} to {look.t_end_ms:g} ms'
            raise UserError(f'the video has no frame from {stretch}; its last one is at {last:g} ms')
        test.add((look.x_px, look.y_px), found)
    return test


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    try:
        with open(path, newline='', encoding='utf-8-sig') as file:
            return list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f'cannot read the script {path}: {error}') from error


def _look(row: Any, where: str) -> Look:
    if not isinstance(row, dict) or not set(_NAMES) <= set(row):
        raise UserError(f'{where}: needs {", ".join(_NAMES)}')
    try:
        look = Look(*(float(row[name]) for name in _NAMES))
    except (TypeError, ValueError):
        look = Look(*[math.nan] * 4)
    if not all(map(math.isfinite, astuple(look))) or look.t_end_ms <= look.t_start_ms:
        raise UserError(f'{where}: {", ".join(_NAMES)} must be numbers with t_start_ms before t_end_ms')
    return look
