"""Who may talk to the server: the token, the loopback rule, and pages of other sites."""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Mapping

from evg.errors import UserError

COOKIE = 'evg_session'
SUBPROTOCOL = 'evg.v1'
TOKEN_SUBPROTOCOL = 'token.'


def check_token(token: str | None) -> None:
    """Refuse a token that cannot travel in a header or that can be guessed."""
    if token is not None and not re.fullmatch(r'[A-Za-z0-9._~-]{16,256}', token):
        raise UserError(
            'a token needs 16 to 256 letters, digits or . _ ~ -; make one: '
            'python -c "import secrets; print(secrets.token_urlsafe(24))"'
        )


def check_binding(host: str, token: str | None, certfile: str | None, keyfile: str | None) -> None:
    """Refuse to listen where others can reach the server without a token and TLS."""
    if (certfile is None) != (keyfile is None):
        raise UserError('--certfile and --keyfile belong together')
    if not is_loopback(host) and not (token and certfile):
        raise UserError(
            f'{host!r} can be reached from other machines: that needs --token, --certfile and --keyfile '
            '(or bind to 127.0.0.1)'
        )


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


class Access:
    """Who is let in.

    Args:
        token: the secret, or None.
    """

    def __init__(self, token: str | None):
        check_token(token)
        self.token = token
        # What a browser holds after it has shown the token once: no use for finding the token.
        self.cookie = '' if token is None else hmac.new(token.encode(), b'evg page', hashlib.sha256).hexdigest()

    def refusal(self, headers: Mapping[bytes, bytes]) -> tuple[int, str] | None:
        """(status, detail) for a request that may not come in; None for one that may.

        Args:
            headers: of the request, names in lower case.
        """
        host, origin = _text(headers, b'host').lower(), _text(headers, b'origin').lower()
        # A page of another site can make a browser send requests here. It cannot hide where it comes from.
        if origin and origin.partition('://')[2] != host:
            return 403, 'requests from pages of other sites are refused'
        if self.token is None:
            # Without a token the address is the protection; a foreign name for it (DNS rebinding) would undo that.
            if not is_loopback(_host_name(host)):
                return 403, 'this server answers only as localhost'
            return None
        return None if self._knows_token(headers) else (401, 'the token is missing or wrong')

    def shown_by_password(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a browser's password prompt gave the token, so that it gets the cookie."""
        return self.token is not None and self._same(_password(headers), self.token)

    def _knows_token(self, headers: Mapping[bytes, bytes]) -> bool:
        given = [_password(headers), *_bearer(headers), *_subprotocol_tokens(headers)]
        # All are compared, so that the time does not depend on which one holds.
        known = [self._same(value, self.token or '') for value in given]
        return any([*known, self._same(_cookie(headers), self.cookie)])

    @staticmethod
    def _same(given: str, secret: str) -> bool:
        return bool(secret) and hmac.compare_digest(given.encode(), secret.encode())


def subprotocols(headers: Mapping[bytes, bytes]) -> list[str]:
    """What a stream's client offers."""
    return [name.strip() for name in _text(headers, b'sec-websocket-protocol').split(',')]


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str:
    return headers.get(name, b'').decode('latin-1')


def _host_name(host: str) -> str:
    """'[::1]:8000' is '::1', 'localhost:8000' is 'localhost'."""
    return host[1:].partition(']')[0] if host.startswith('[') else host.partition(':')[0]


def _bearer(headers: Mapping[bytes, bytes]) -> list[str]:
    kind, _, value = _text(headers, b'authorization').partition(' ')
    return [value.strip()] if kind.lower() == 'bearer' else []


def _password(headers: Mapping[bytes, bytes]) -> str:
    kind, _, value = _text(headers, b'authorization').partition(' ')
    if kind.lower() != 'basic':
        return ''
    try:
        return base64.b64decode(value.strip(), validate=True).decode('latin-1').partition(':')[2]
    except (binascii.Error, ValueError):
        return ''


def _subprotocol_tokens(headers: Mapping[bytes, bytes]) -> list[str]:
    named = [name for name in subprotocols(headers) if name.startswith(TOKEN_SUBPROTOCOL)]
    return [name[len(TOKEN_SUBPROTOCOL) :] for name in named]


def _cookie(headers: Mapping[bytes, bytes]) -> str:
    for part in _text(headers, b'cookie').split(';'):
        name, _, value = part.strip().partition('=')
        if name == COOKIE:
            return value
    return ''
