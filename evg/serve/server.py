"""Listening: the socket, TLS, and a stop that lets requests end."""

import asyncio
import logging
import socket
import ssl
import time

import uvicorn
from fastapi import FastAPI

from evg.errors import UserError
from evg.serve.security import check_binding
from evg.serve.settings import Settings
from evg.serve.stream import HEADER

_CONNECTIONS = 512
_LAST_WORDS_S = 3.0  # for what is still on its way to a client at the end


def run(
    app: FastAPI,
    settings: Settings,
    host: str = '127.0.0.1',
    port: int = 8000,
    certfile: str | None = None,
    keyfile: str | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; what was asked before is answered before the end.

    Args:
        app: of `evg.serve.app.create_app`.
        settings: those of the app.
        host: address to listen at; other than loopback only with a token and TLS.
        port: 0 takes a free one.
        certfile, keyfile: TLS, PEM.

    Raises:
        UserError: an address that is not allowed or not free, unusable TLS files, a model that cannot be loaded.
    """
    check_binding(host, settings.token, certfile, keyfile)
    if certfile:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certfile, keyfile)
        except (OSError, ssl.SSLError) as error:
            raise UserError(f'cannot use {certfile} and {keyfile} for TLS: {error}') from None
    logging.getLogger('python_multipart').setLevel(logging.ERROR)  # a client's mistakes are the client's to read
    with _listen(host, port, settings.stall_s) as listening:
        config = uvicorn.Config(
            app,
            ssl_certfile=certfile,
            ssl_keyfile=keyfile,
            log_level='warning',
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nobody else's word for a client's address
            limit_concurrency=_CONNECTIONS,
            ws_max_size=settings.max_body_bytes + HEADER.size,
            ws_per_message_deflate=False,  # pictures are compressed already
            timeout_graceful_shutdown=int(3 * settings.request_s) + 1,
        )
        pool = app.state.pool
        pool.start()
        scheme = 'https' if certfile else 'http'
        name = f'[{host}]' if ':' in host else host
        address = f'{scheme}://{name}:{listening.getsockname()[1]}/'
        print(f'{pool.about["model"]} at {address}', flush=True)
        try:
            _Server(config).run(sockets=[listening])
        finally:
            pool.stop()  # a second Ctrl-C skips the application's own end


class _Server(uvicorn.Server):
    """A server whose stop waits for what was asked, not for connections on which nothing is."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, let requests end, then end the application."""
        cutting = asyncio.create_task(self._cut_idle())
        await super().shutdown(sockets)
        cutting.cancel()

    async def _cut_idle(self) -> None:
        # Closed politely, a TLS connection waits half a minute for a client that does not say goodbye.
        end = time.monotonic() + _LAST_WORDS_S
        while True:
            await asyncio.sleep(0.5)
            if self.server_state.tasks:
                end = time.monotonic() + _LAST_WORDS_S
                continue
            for connection in list(self.server_state.connections):
                if time.monotonic() > end or not connection.transport.get_write_buffer_size():
                    connection.transport.abort()


def _listen(host: str, port: int, stall_s: float) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        raise UserError(f'cannot listen at {host}:{port}: {error}') from None
    if hasattr(socket, 'TCP_USER_TIMEOUT'):
        # A connection whose other end takes nothing is given up by the system, and does not hold up a stop.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(2000 * stall_s))
    return listening
