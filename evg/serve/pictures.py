"""`POST /v1/gaze`: the two forms of a request."""

from starlette.requests import Request

from evg.serve.refusal import Refusal
from evg.serve.worker import Wanted
from evg.serve.workers import WorkerPool

PICTURES = ('image/jpeg', 'image/png', 'image/webp')
JSON = 'application/json'


def media_type(request: Request) -> str:
    """What the body says it is, without parameters."""
    return request.headers.get('content-type', '').partition(';')[0].strip().lower()


async def gaze_request(request: Request, pool: WorkerPool) -> Wanted:
    """The picture and its circumstances; JSON is read by a worker.

    Raises:
        Refusal: 415 for another type of body, 422 for broken JSON or base64.
    """
    kind, body = media_type(request), await request.body()
    if kind in PICTURES:
        return Wanted(body)
    if kind != JSON:
        raise Refusal(415, f'Content-Type must be {", ".join(PICTURES)} or {JSON}, not {kind[:60] or "missing"}')
    return await pool.run('wanted', body)


async def json_text(request: Request) -> bytes:
    """A body that says it is JSON; it is read by whoever needs it.

    Raises:
        Refusal: 415.
    """
    if media_type(request) != JSON:
        raise Refusal(415, f'Content-Type must be {JSON}')
    return await request.body()
