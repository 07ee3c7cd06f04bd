"""Frame after frame: predict, draw, show, write."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2

from evg.errors import UserError
from evg.inference.calibration import Calibration
from evg.inference.draw import NORMALISED, Image, Overlay, view
from evg.inference.filters import Gate
from evg.inference.predictor import GazePredictor
from evg.inference.records import ResultTable, VideoFile
from evg.inference.result import GazeResult
from evg.inference.sources import Source
from evg.visualization import save_image

_WINDOW = 'evg'
_EVERY = 30  # frames between two figures of the speed
_CAMERA_FPS = 15.0  # of the video that is written of a camera


def has_display() -> bool:
    """Whether a window can be opened."""
    if sys.platform.startswith('linux') and not (os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')):
        return False
    try:
        cv2.namedWindow(_WINDOW, cv2.WINDOW_NORMAL)
    except cv2.error:  # OpenCV was built without windows
        return False
    cv2.destroyWindow(_WINDOW)
    return True


def run_demo(
    source: Source,
    predictor: GazePredictor,
    overlay: Overlay,
    out: Path | None = None,
    table: str = 'csv',
    window: bool = False,
    calibration: Calibration | None = None,
    gate: Gate | None = None,
) -> ResultTable:
    """Go through a source until it ends, or 'q' or Ctrl-C.

    Args:
        source: see `open_source`.
        predictor: of the declared screen and camera; a data set brings its own.
        overlay: what is drawn.
        out: folder of results.csv or results.parquet, and of annotated.mp4 or annotated pictures; None writes nothing.
        table: 'csv' or 'parquet'.
        window: show a window, with the keys i, n, v, f and q; any other key goes on to the next picture.
        calibration: applied to every result.
        gate: results whose score it refuses count as not seen: face and score stay, gaze and point go.

    Returns:
        The results.

    Raises:
        UserError: a frame cannot be read, or a file cannot be written.
    """
    results = ResultTable()
    moving = source.kind in ('video', 'camera')
    video = VideoFile(out / 'annotated.mp4', source.fps or _CAMERA_FPS) if out is not None and moving else None
    finished = False
    try:
        for number, (name, draw) in enumerate(_views(source, predictor, overlay, results, calibration, gate)):
            picture = draw()
            if video is not None:
                video.add(picture)
            elif out is not None:
                save_image(out / f'{number:05d}_{_plain(name)}.jpg', picture)
            if window and not _show(picture, draw, overlay, moving):
                break
        finished = True
    except KeyboardInterrupt:  # how a camera without a window is ended
        finished = True
    finally:
        if video is not None:
            video.close(finished)
        if window:
            cv2.destroyAllWindows()
    if out is not None:
        results.write(out / f'results.{table}')
    return results


def _show(picture: Image, draw: Callable[[], Image], overlay: Overlay, moving: bool) -> bool:
    """Show a picture and take its key; one that does not move stays while keys switch the overlay. False ends."""
    while True:
        cv2.imshow(_WINDOW, picture)
        before = replace(overlay)
        if overlay.press(chr(cv2.waitKey(1 if moving else 0) & 0xFF)):
            return False
        if moving or overlay == before:
            return True
        picture = draw()


def _views(
    source: Source,
    predictor: GazePredictor,
    overlay: Overlay,
    table: ResultTable,
    calibration: Calibration | None,
    gate: Gate | None,
) -> Iterator[tuple[str, Callable[[], Image]]]:
    """Of each frame its name, and what draws it as the overlay is then; its results are added to the table."""
    declared, fps, since = predictor.camera, None, time.perf_counter()
    patch = None if predictor.network is None else predictor.network.file.patch
    try:
        for number, shot in enumerate(source.shots):
            predictor.camera = shot.camera or declared
            screen = shot.screen or predictor.screen
            found = predictor.predict(shot.image, shot.time_ms, screen)
            if calibration is not None:
                found = [calibration.apply(result) for result in found]
            if gate is not None:
                found = [_not_seen(result) if gate.reason(result) == 'low score' else result for result in found]
            table.add(shot, found, screen)
            if number % _EVERY == _EVERY - 1:
                now = time.perf_counter()
                fps, since = _EVERY / (now - since), now
            camera = predictor.camera_for(shot.image)
            shown = replace(shot, image=camera.undistort(shot.image))
            normaliser = NORMALISED if patch is None else patch.normaliser
            yield shot.name, partial(view, shown, found, camera, screen, overlay, fps, normaliser)
    finally:
        predictor.camera = declared


def _not_seen(result: GazeResult) -> GazeResult:
    """What is left of a result of a low score."""
    unseen = replace(result, found=False, reason='low score', gaze=None, gaze_normalised=None, gaze_frame='')
    return replace(unseen, plane_mm=None, screen_px=None, on_screen=False)


def _plain(name: str) -> str:
    """A sample's name as part of a file's name."""
    return ''.join(c if c.isalnum() or c in '-_' else '_' for c in Path(name).stem if c)[-80:]


def check_frames(table: ResultTable) -> str:
    """One line that says what was seen.

    Raises:
        UserError: there was no frame at all.
    """
    if not table.rows:
        raise UserError('there was not one frame')
    frames = table.rows[-1]['frame'] + 1
    found = len({row['frame'] for row in table.rows if row['found']})
    text = f'{frames} frames, a gaze in {found} of them'
    errors = [row['error_px'] for row in table.rows if row['error_px'] is not None]
    return text + (f', mean error {sum(errors) / len(errors):.1f} px' if errors else '')
