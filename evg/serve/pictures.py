"""`POST /v1/gaze`: the two forms of a request."""

import base64
import binascii
from dataclasses import dataclass

from starlette.requests import Request

from evg.serve.refusal import Refusal
from evg.serve.schemas import GazeRequest, parse

PICTURES = ('image/jpeg', 'image/png', 'image/webp')
JSON = 'application/json'


@dataclass(frozen=True)
class Wanted:
    """A picture file, and what it is to be seen with."""

    picture: bytes
    screen: str | None = None
    calibration: str | None = None


def media_type(request: Request) -> str:
    """What the body says it is, without parameters."""
    return request.headers.get('content-type', '').partition(';')[0].strip().lower()


async def gaze_request(request: Request) -> Wanted:
    """The picture and its circumstances.

    Raises:
        Refusal: 415 for another type of body, 422 for broken JSON or base64.
    """
    kind, body = media_type(request), await request.body()
    if kind in PICTURES:
        return Wanted(body)
    if kind != JSON:
        raise Refusal(415, f'Content-Type must be {", ".join(PICTURES)} or {JSON}, not {kind[:60] or "missing"}')
    wanted = parse(GazeRequest, body)
    try:
        picture = base64.b64decode(wanted.image, validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(422, 'image: is not base64') from None
    return Wanted(picture, None if wanted.screen is None else wanted.screen.model_dump_json(), wanted.calibration)


async def json_text(request: Request) -> bytes:
    """A body that says it is JSON; it is read by whoever needs it.

    Raises:
        Refusal: 415.
    """
    if media_type(request) != JSON:
        raise Refusal(415, f'Content-Type must be {JSON}')
    return await request.body()
