"""What a worker process does: it makes its predictor, then answers one job after another."""

import contextlib
import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evg.errors import UserError
from evg.inference.camera import Camera
from evg.inference.screen import Screen
from evg.serve.refusal import as_refusal

READY, OK, REFUSED, FAILED = 'ready', 'ok', 'refused', 'failed'


@dataclass(frozen=True)
class Wanted:
    """A picture file, and what it is to be seen with.

    Attributes:
        picture: the file.
        screen: screen.json as text; None is the server's own.
        calibration: the id of one that the server keeps, or None.
    """

    picture: bytes
    screen: str | None = None
    calibration: str | None = None


@dataclass(frozen=True)
class Seen:
    """What was seen in one picture.

    Attributes:
        faces: JSON list of the results.
        point_px: (x, y) of the first face on the screen, or None.
        reason: why the first face's point is not to be trusted, '' if it is.
        times_ms: of the steps.
    """

    faces: str
    point_px: tuple[float, float] | None
    reason: str
    times_ms: dict[str, float]


def load_predictor(
    model: str,
    screen: Screen,
    camera: Camera | None = None,
    face: str | None = None,
    backend: str = 'auto',
    threads: int | None = None,
    max_faces: int = 1,
) -> Any:
    """A predictor, made where it is used; the arguments are those of `evg.inference.GazePredictor`."""
    from evg.inference.predictor import GazePredictor  # noqa: PLC0415 (OpenCV; the server itself does without)

    return GazePredictor(model, screen, backend=backend, camera=camera, face=face, max_faces=max_faces, threads=threads)


def worker_main(pipe: Any, factory: Callable[[], Any], max_pixels: int, min_score: float) -> None:
    """Run a worker until its pipe closes.

    Args:
        pipe: where jobs (task, arguments) come from and answers (kind, value) go.
        factory: makes the predictor.
        max_pixels, min_score: of a picture and of a face, for `Tasks`.
    """
    # Ctrl-C and a service manager's stop reach the whole group; the server decides when the workers go.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ.setdefault('OPENCV_LOG_LEVEL', 'ERROR')
    from evg.serve.tasks import Tasks  # noqa: PLC0415 (OpenCV; the server itself does without)

    with contextlib.suppress(EOFError, OSError):
        try:
            predictor = factory()
        except UserError as error:
            pipe.send((FAILED, str(error)))
            return
        with contextlib.closing(predictor):
            tasks = Tasks(predictor, max_pixels, min_score)
            pipe.send((READY, tasks.about()))
            while True:
                task, arguments = pipe.recv()
                pipe.send(_answer(getattr(tasks, task), arguments))


def _answer(task: Callable, arguments: tuple) -> tuple[str, Any]:
    try:
        return OK, task(*arguments)
    except UserError as error:
        refusal = as_refusal(error)
        return REFUSED, (refusal.status, refusal.detail)
    except Exception:
        return FAILED, traceback.format_exc()
