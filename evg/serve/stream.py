"""The stream: frames in, gaze out. The newest frame wins, and nobody waits for a client that is slow.

A client has one place for a frame. While a worker looks at one frame, a newer one takes that place, and the one that
lay there is counted as dropped. The next frame goes to a worker when the client has taken the last answer: a client
that stops reading stops only itself, and nothing piles up for it here.
"""

import asyncio
import json
import struct
from dataclasses import dataclass
from typing import Any

import anyio
from fastapi import WebSocket, WebSocketDisconnect

from evg.inference.filters import PointFilter, make_filter
from evg.serve.calibrations import Calibrations
from evg.serve.guard import problem
from evg.serve.limits import RateLimit, address_of
from evg.serve.metrics import Metrics
from evg.serve.refusal import Refusal
from evg.serve.schemas import Configure, parse
from evg.serve.security import SUBPROTOCOL, subprotocols
from evg.serve.settings import Settings
from evg.serve.worker import Seen
from evg.serve.workers import WorkerPool

HEADER = struct.Struct('<Id')  # frame id, capture time in ms on the client's clock
_LATEST_MS = 1e15
_TEXT_CHARACTERS = 4096  # read by the server itself: a larger one would hold up everybody
_BYTES_PER_PERMIT = 2**18  # a large message costs more than one permit


@dataclass(frozen=True)
class Frame:
    """A message of the client: id and capture time as it counts them, and a picture file."""

    number: int
    captured_ms: float
    picture: bytes

    @classmethod
    def of(cls, message: bytes) -> 'Frame':
        """Take a binary message apart.

        Raises:
            Refusal: 422.
        """
        if len(message) < HEADER.size:
            raise Refusal(422, f'a frame begins with {HEADER.size} bytes: uint32 id, float64 capture time in ms')
        number, captured_ms = HEADER.unpack_from(message)
        if not abs(captured_ms) <= _LATEST_MS:  # NaN too
            raise Refusal(422, f'the capture time of a frame must lie within {_LATEST_MS:g} ms of 0')
        return cls(number, captured_ms, message[HEADER.size :])


class Streams:
    """All open streams.

    Args:
        pool: the workers.
        calibrations: what `configure` can name.
        settings: limits.
        metrics: where frames are counted.
        rate: how often an address may send, by all its streams and requests together.
    """

    def __init__(
        self, pool: WorkerPool, calibrations: Calibrations, settings: Settings, metrics: Metrics, rate: RateLimit
    ):
        self.pool, self.calibrations, self.settings, self.metrics = pool, calibrations, settings, metrics
        self.rate = rate
        self.open = 0

    async def serve(self, socket: WebSocket, about: dict[str, Any]) -> None:
        """One client, until it goes."""
        if self.open >= self.settings.streams:
            await socket.send_denial_response(problem(429, 'too many streams are open'))
            return
        self.open += 1
        self.metrics.streams.inc()
        try:
            offered = subprotocols(dict(socket.scope['headers']))
            await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
            await _Stream(socket, self, about).run()
        except WebSocketDisconnect:
            pass
        finally:
            self.open -= 1
            self.metrics.streams.dec()


class _Stream:
    """One client's frames and answers."""

    def __init__(self, socket: WebSocket, streams: Streams, about: dict[str, Any]):
        self.socket, self.streams, self.about = socket, streams, about
        self.address = address_of(socket.scope)
        self.screen: str | None = None
        self.calibration: str | None = None
        self.filter: PointFilter | None = None
        self.dropped = 0
        self._place: Frame | None = None
        self._filled = asyncio.Event()

    async def run(self) -> None:
        """Read and answer until the client goes."""
        await self._send({'type': 'ready', **self.about})
        answering = asyncio.create_task(self._answer())
        reading = asyncio.create_task(self._read())
        try:
            done, _ = await asyncio.wait((reading, answering), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            reading.cancel()
            answering.cancel()
            await asyncio.gather(reading, answering, return_exceptions=True)

    async def _read(self) -> None:
        while True:
            message = await self.socket.receive()
            if message['type'] == 'websocket.disconnect':
                return
            content = message.get('bytes') or message.get('text') or ''
            # Who sends too fast is read more slowly: the connection itself holds him back.
            while wait_s := self.streams.rate.wait_s(self.address, 1 + len(content) / _BYTES_PER_PERMIT):
                await asyncio.sleep(wait_s)
            try:
                if isinstance(content, bytes):
                    largest = self.streams.settings.max_body_bytes + HEADER.size
                    if len(content) > largest:
                        raise Refusal(413, f'a message may have {largest:,} bytes')
                    self._put(Frame.of(content))
                else:
                    await self._configure(content)
            except Refusal as refusal:
                await self._send({'type': 'error', 'detail': refusal.detail})

    def _put(self, frame: Frame) -> None:
        if self._place is not None:
            self.dropped += 1
            self.streams.metrics.dropped.inc()
        self._place = frame
        self._filled.set()

    async def _configure(self, text: str) -> None:
        if len(text) > _TEXT_CHARACTERS:
            raise Refusal(413, f'a text message may have {_TEXT_CHARACTERS:,} characters')
        wanted = parse(Configure, text)
        screen = None if wanted.screen is None else wanted.screen.model_dump_json()
        stored = None if wanted.calibration is None else self.streams.calibrations.get(wanted.calibration).file
        await self.streams.pool.run('check', screen, stored)
        self.screen, self.calibration, self.filter = screen, stored, make_filter(wanted.filter)
        await self._send({'type': 'ready', **self.about, 'configured': wanted.model_dump(exclude={'type'})})

    async def _answer(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            frame, self._place = self._place, None
            if frame is None:
                continue
            arguments = frame.picture, self.screen, self.calibration, frame.captured_ms
            smooth = self.filter
            try:
                seen = await self.streams.pool.run('gaze', *arguments)
            except (Refusal, RuntimeError) as error:
                detail = error.detail if isinstance(error, Refusal) else 'an internal error'
                await self._send({'type': 'error', 'id': frame.number, 'detail': detail})
                continue
            self.streams.metrics.frames.inc()
            head = {
                'type': 'result',
                'id': frame.number,
                'captured_ms': frame.captured_ms,
                'dropped': self.dropped,
                'point': _smoothed(seen, frame, smooth),
                'raw': seen.point_px,
                'reason': seen.reason,
                'times_ms': seen.times_ms,
            }
            await self._send_text(f'{json.dumps(head)[:-1]}, "faces": {seen.faces}}}')

    async def _send(self, message: dict[str, Any]) -> None:
        await self._send_text(json.dumps(message))

    async def _send_text(self, text: str) -> None:
        try:
            with anyio.fail_after(self.streams.settings.stall_s):
                await self.socket.send_text(text)
        except TimeoutError:
            self.streams.metrics.stalled.inc()
            raise WebSocketDisconnect(1008, 'takes no answers') from None


def _smoothed(seen: Seen, frame: Frame, smooth: PointFilter | None) -> list[float] | None:
    """The first face's point as it is to be shown; None while it cannot be trusted."""
    if seen.reason or seen.point_px is None:
        return None
    if smooth is None:
        return list(seen.point_px)
    # Whole microseconds: a shorter step between two points would be an endless speed.
    return smooth.update(round(frame.captured_ms, 3) / 1000, seen.point_px).tolist()
