"""What stands before every route: access, rate, size and time of the body, headers of the answer, counting."""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import anyio
from starlette.responses import JSONResponse

from evg.serve.limits import RateLimit, address_of
from evg.serve.metrics import Metrics
from evg.serve.refusal import Refusal
from evg.serve.security import COOKIE, Access
from evg.serve.settings import Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# The page uses its own scripts and styles only, shows pictures it drew itself, and talks to its own server only.
CONTENT_SECURITY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    b'content-security-policy': CONTENT_SECURITY.encode(),
    b'permissions-policy': b'camera=(self), microphone=(), geolocation=()',
    b'x-content-type-options': b'nosniff',
    b'referrer-policy': b'no-referrer',
    b'cross-origin-opener-policy': b'same-origin',
    b'cross-origin-resource-policy': b'same-origin',
    b'cache-control': b'no-store',
}
_METHODS = ('GET', 'POST', 'PUT', 'DELETE')  # others are counted as one: clients can think of any number
_BODIES = 16  # how many bodies of the largest size are held at once
_WASTE = 4  # how many times the largest size is read of a body that is refused, so that its sender sees the answer


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error as every route answers it."""
    headers = dict(headers or {})
    if status == 429:
        headers.setdefault('Retry-After', '1')
    return JSONResponse({'detail': detail}, status, headers)


class Guard:
    """ASGI middleware.

    Args:
        app: what it guards.
        settings: the limits.
        metrics: where it counts.
        rate: how often an address may come.
    """

    def __init__(self, app: Callable, settings: Settings, metrics: Metrics, rate: RateLimit):
        self.app, self.settings, self.metrics = app, settings, metrics
        self.access = Access(settings.token)
        self.rate = rate
        self._held = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request, one stream, or the server's life."""
        if scope['type'] not in ('http', 'websocket'):
            return await self.app(scope, receive, send)
        headers = dict(scope['headers'])
        try:
            self._let_in(scope, headers)
        except Refusal as refusal:
            if scope['type'] == 'websocket':
                return await _deny(scope, receive, send, refusal)
            return await self._http(scope, headers, receive, send, refusal)
        if scope['type'] == 'websocket':
            return await self.app(scope, receive, send)
        return await self._http(scope, headers, receive, send, None)

    def _let_in(self, scope: Message, headers: dict[bytes, bytes]) -> None:
        if self.rate.wait_s(address_of(scope)):
            raise Refusal(429, 'too many requests')
        if refused := self.access.refusal(headers):
            raise Refusal(*refused)

    async def _http(
        self, scope: Message, headers: dict[bytes, bytes], receive: Receive, send: Send, refusal: Refusal | None
    ) -> None:
        start, status, held = time.perf_counter(), 500, _Held()
        added = dict(_HEADERS)
        if self.access.shown_by_password(headers):
            secure = '; Secure' if scope['scheme'] == 'https' else ''
            cookie = f'{COOKIE}={self.access.cookie}; Path=/; HttpOnly; SameSite=Strict{secure}'
            added[b'set-cookie'] = cookie.encode()

        async def sent(message: Message) -> None:
            nonlocal status
            if message['type'] == 'http.response.start':
                status = message['status']
                own = {name for name, _ in message['headers']}
                message['headers'] = [*message['headers'], *((n, v) for n, v in added.items() if n not in own)]
            await send(message)

        try:
            if refusal is None:
                body = await self._body(headers, receive, held)
                await self.app(scope, _replay(body, receive), sent)
            else:
                raise refusal
        except Refusal as refused:
            response = problem(refused.status, refused.detail, {'Connection': 'close'})
            if refused.status == 401:
                # A browser asks for a password where it shows a page.
                page = b'text/html' in headers.get(b'accept', b'')
                response.headers['WWW-Authenticate'] = 'Basic realm="evg: the token"' if page else 'Bearer'
            await self._waste(receive)
            await response(scope, receive, sent)
        except _Gone:
            status = 499
        finally:
            self._held -= held.size
            route = getattr(scope.get('route'), 'path', 'other')
            method = scope['method'] if scope['method'] in _METHODS else 'other'
            self.metrics.requests.labels(route, method, status).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - start)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive, held: '_Held') -> bytes:
        """The whole body, if it is small and comes in time; what has come is counted in `held` at once."""
        largest = self.settings.max_body_bytes
        too_large = Refusal(413, f'a body may have {largest:,} bytes')
        declared = headers.get(b'content-length', b'')
        if declared.isdigit() and (len(declared) > 18 or int(declared) > largest):
            raise too_large
        chunks = []
        try:
            with anyio.fail_after(self.settings.request_s):
                while True:
                    message = await receive()
                    if message['type'] == 'http.disconnect':
                        raise _Gone
                    chunks.append(message.get('body', b''))
                    held.size += len(chunks[-1])
                    self._held += len(chunks[-1])
                    if held.size > largest:
                        raise too_large
                    if self._held > _BODIES * largest:
                        raise Refusal(429, 'the server is busy')
                    if not message.get('more_body', False):
                        return b''.join(chunks)
        except TimeoutError:
            raise Refusal(408, f'the body did not arrive within {self.settings.request_s:g} s') from None

    async def _waste(self, receive: Receive) -> None:
        """Read what still comes of a refused body, within limits; a client that is cut off does not see the answer."""
        left = _WASTE * self.settings.max_body_bytes
        with anyio.move_on_after(1.0):
            while left > 0:
                message = await receive()
                left -= len(message.get('body', b''))
                if not message.get('more_body', False):
                    return


@dataclass
class _Held:
    """How many bytes are held for a request, whole or not."""

    size: int = 0


class _Gone(Exception):
    """The client went away while it was sending."""


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body as one message, then whatever comes."""
    messages: list[Message] = [{'type': 'http.request', 'body': body, 'more_body': False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


async def _deny(scope: Message, receive: Receive, send: Send, refusal: Refusal) -> None:
    """Refuse a stream before it is opened, in words where the server can."""
    await receive()
    if 'websocket.http.response' not in scope.get('extensions', {}):
        await send({'type': 'websocket.close', 'code': 1008, 'reason': refusal.detail})
        return
    response = problem(refusal.status, refusal.detail)
    await send({'type': 'websocket.http.response.start', 'status': refusal.status, 'headers': response.raw_headers})
    await send({'type': 'websocket.http.response.body', 'body': response.body})
