"""A predictor whose answer can be read off the picture, and a server of it over a real socket."""

import contextlib
import functools
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import uvicorn
from fastapi import FastAPI

from evg.inference import GazeResult, Screen
from evg.serve.app import create_app
from evg.serve.settings import Settings

SCREEN = Screen.with_camera_above((340.0, 190.0), (1920, 1080), 10.0)
ORIGIN_MM = np.array([0.0, 0.0, 600.0])
POISON = (0, 0, 255)
PATIENCE_S = 60.0


class FakePredictor:
    """Blue is the gaze's x, green its y, each 0..255 over the screen; red lowers the score; black is no face; pure
    red kills the process.

    Args:
        hold: while a file of this name is there, a prediction does not end; that it has begun is written beside it.
    """

    name, identity, camera_identity = 'fake', 'fake-1', 'camera-1'

    def __init__(self, hold: str | None = None):
        self.screen, self.hold = SCREEN, hold

    def predict(
        self, frame: np.ndarray, timestamp_ms: float | None = None, screen: Screen | None = None
    ) -> list[GazeResult]:
        """One face."""
        blue, green, red = frame[0, 0]
        if self.hold:
            Path(f'{self.hold}.{os.getpid()}.{blue}').touch()
            while os.path.exists(self.hold):
                time.sleep(0.005)
        if (blue, green, red) == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        if not frame.any():
            return [GazeResult(False, 'no face', timestamp_ms=timestamp_ms)]
        screen = screen or self.screen
        px = np.array([blue, green]) / 255 * screen.size_px
        gaze = screen.px_to_camera(px) - ORIGIN_MM
        return [
            GazeResult(
                True,
                screen_px=px,
                plane_mm=screen.px_to_plane_mm(px, ORIGIN_MM),
                on_screen=bool(screen.contains(px)),
                gaze=gaze / np.linalg.norm(gaze),
                origin_mm=ORIGIN_MM,
                score=1 - red / 255,
                eyes_open=1.0,
                timestamp_ms=timestamp_ms,
            )
        ]

    def predict_patch(self, patch: np.ndarray) -> tuple[float, float]:
        """Blue and green as (pitch, yaw): 128 is 0, one level is 0.001 rad."""
        blue, green = patch.reshape(-1, 3).astype(float).mean(axis=0)[:2]
        return (blue - 128) / 1000, (green - 128) / 1000

    def close(self) -> None:
        """Nothing to close."""


class NoFaces:
    """A front end for a model that is only asked for normalised faces."""

    name, scheme = 'none', 'none'

    def detect(self, image: np.ndarray) -> list:
        """None."""
        return []

    def close(self) -> None:
        """Nothing to close."""


def patch_predictor(folder: str) -> object:
    """A real network that takes normalised faces."""
    from evg.inference import GazePredictor  # noqa: PLC0415 (the fake does without)

    return GazePredictor(folder, SCREEN, face=NoFaces())


class Hold:
    """Keeps the fake predictors of a test at work for as long as it takes."""

    def __init__(self, folder: Path):
        self.path = folder / 'hold'
        self.path.touch()

    def begun(self, blue: int) -> None:
        """Wait until a worker has begun with the picture of this blue."""
        wait_until(lambda: list(self.path.parent.glob(f'hold.*.{blue}')))

    def release(self) -> None:
        """Let them end."""
        self.path.unlink()


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for something that must happen."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise AssertionError('this did not happen in time')
        time.sleep(0.01)


def picture(blue: int, green: int, red: int = 0, kind: str = '.png', size: tuple[int, int] = (32, 24)) -> bytes:
    """A picture file of one colour."""
    image = np.full((size[1], size[0], 3), (blue, green, red), np.uint8)
    return cv2.imencode(kind, image)[1].tobytes()


@contextlib.contextmanager
def serving(
    settings: Settings | None = None,
    hold: Hold | None = None,
    send_buffer: int | None = None,
    factory: Callable[[], object] | None = None,
    port: int = 0,
) -> Iterator[tuple[str, FastAPI]]:
    """A server in a thread: (its address 'localhost:port', the app)."""
    factory = factory or functools.partial(FakePredictor, str(hold.path) if hold else None)
    app = create_app(factory, settings or Settings())
    with socket.create_server(('127.0.0.1', port)) as listening:
        if send_buffer:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        server = uvicorn.Server(
            uvicorn.Config(app, log_level='warning', access_log=False, ws_per_message_deflate=False)
        )
        thread = threading.Thread(target=server.run, kwargs={'sockets': [listening]})
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive())
            yield f'localhost:{listening.getsockname()[1]}', app
        finally:
            server.should_exit = True
            thread.join()


SERVER = """
import functools, sys
sys.path.insert(0, {tests!r})
from serve_fakes import FakePredictor
from evg.errors import run_tool
from evg.serve.app import create_app
from evg.serve.server import run
from evg.serve.settings import Settings

@run_tool
def main():
    settings = Settings(**{settings!r})
    app = create_app(functools.partial(FakePredictor, {hold!r}), settings)
    run(app, settings, port=0, certfile={cert!r}, keyfile={cert!r})

if __name__ == '__main__':
    main()
"""


def started(
    folder: Path, hold: str | None = None, cert: str | None = None, **settings: object
) -> tuple[subprocess.Popen, str]:
    """A server in a process of its own: (the process, its address 'scheme://127.0.0.1:port')."""
    script = folder / 'server.py'
    script.write_text(SERVER.format(tests=str(Path(__file__).parent), hold=hold, cert=cert, settings=settings))
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    found = re.search(r'https?://127.0.0.1:\d+', process.stdout.readline())
    if not found:
        raise AssertionError(process.communicate()[1])
    return process, found[0]


def metric(host: str, name: str) -> float:
    """A figure of /metrics."""
    import requests  # noqa: PLC0415 (the workers import this file too)

    lines = requests.get(f'http://{host}/metrics', timeout=PATIENCE_S).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f'{name} '))
