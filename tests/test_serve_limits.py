"""Limits and access, each by itself: picture headers, rates, calibrations that expire, tokens, binding."""

import base64
import dataclasses
import json
import struct
import zlib

import cv2
import numpy as np
import pytest

from evg.errors import UserError
from evg.serve.calibrations import Calibrations
from evg.serve.limits import RateLimit, check_picture, picture_size
from evg.serve.refusal import Refusal
from evg.serve.security import COOKIE, Access, check_binding
from evg.serve.settings import Settings

TOKEN = 'correct-horse-battery'


class Clock:
    """Seconds that pass when told."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def _encoded(kind, size=(37, 23), options=()):
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    return cv2.imencode(kind, noise, list(options))[1].tobytes()


def _png(width, height):
    def chunk(name, data):
        return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return (
        b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(bytes(99))) + chunk(b'IEND', b'')
    )


ENCODED = {
    'jpeg': _encoded('.jpg'),
    'progressive': _encoded('.jpg', options=(cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2)),
    'png': _encoded('.png'),
    'webp lossy': _encoded('.webp', options=(cv2.IMWRITE_WEBP_QUALITY, 50)),
    'webp lossless': _encoded('.webp', options=(cv2.IMWRITE_WEBP_QUALITY, 101)),
    # VP8X, no flags, canvas 37 x 23: bytes by the container's description.
    'webp extended': b'RIFF' + struct.pack('<I', 22) + b'WEBPVP8X' + struct.pack('<IB3x', 10, 0) + b'\x24\0\0\x16\0\0',
}


@pytest.mark.parametrize('name', ENCODED)
def test_size_is_read_from_the_header(name):
    assert picture_size(ENCODED[name]) == (37, 23)


@pytest.mark.parametrize('name', ENCODED)
def test_every_cut_picture_is_refused(name):
    data = ENCODED[name]
    for length in {*range(0, len(data), 7), len(data) - 1}:
        with pytest.raises(Refusal) as caught:
            picture_size(data[:length])
        assert caught.value.status in (415, 422)


def test_a_thumbnail_does_not_hide_that_a_jpeg_is_cut_off():
    # An APP1 segment that holds a whole JPEG, end marker included, as EXIF thumbnails do.
    inner = ENCODED['jpeg']
    with_thumbnail = inner[:2] + b'\xff\xe1' + struct.pack('>H', len(inner) + 2) + inner + inner[2:]
    assert picture_size(with_thumbnail) == (37, 23)
    with pytest.raises(Refusal, match='cut off'):
        picture_size(with_thumbnail[:-2])


@pytest.mark.parametrize(
    ('data', 'status', 'words'),
    [
        (b'', 415, 'neither'),
        (b'GIF89a' + bytes(50), 415, 'neither'),
        (b'\xff\xd8' + b'\xff\xe0\x00\x02' * 10**6, 422, 'too many segments'),
        (b'\xff\xd8' + b'\xff' * 10**6, 422, 'too many segments'),
        (b'\xff\xd8\xff\xc3\x00\x11\x08' + struct.pack('>HH', 9, 9) + bytes(60), 422, 'lossless'),
        (ENCODED['jpeg'][:-2] + b'\xff\xda\x00\x02' * 101 + b'\xff\xd9', 422, 'scans'),
        (_png(0, 5), 422, 'no pixels'),
        (ENCODED['webp extended'][:20] + b'\x02' + ENCODED['webp extended'][21:], 422, 'animated'),
    ],
)
def test_what_is_no_picture_is_refused(data, status, words):
    with pytest.raises(Refusal, match=words) as caught:
        picture_size(data)
    assert caught.value.status == status


def test_a_bomb_is_refused_by_its_header():
    bomb = _png(10_000, 10_000)
    assert len(bomb) < 200
    with pytest.raises(Refusal, match='10000 x 10000') as caught:
        check_picture(bomb, 12_000_000)
    assert caught.value.status == 413
    check_picture(_png(4000, 3000), 12_000_000)  # exactly as many as allowed


def test_rate_limit_gives_a_burst_and_then_the_steady_rate():
    clock = Clock()
    rate = RateLimit(per_s=2, burst=3, clock=clock)
    assert [rate.wait_s('a') for _ in range(4)] == [0, 0, 0, 0.5]
    assert rate.wait_s('b') == 0
    clock.now += 0.5
    assert [rate.wait_s('a'), rate.wait_s('a')] == [0, 0.5]
    clock.now += 100
    assert [rate.wait_s('a', cost=2), rate.wait_s('a', cost=2)] == [0, 0.5]
    clock.now += 100
    assert rate.wait_s('a', cost=50) == 0  # never more than a full bucket, or it could not be had at all


def test_rate_limit_remembers_so_many_clients_and_no_more():
    rate = RateLimit(per_s=1, burst=1, clients=2, clock=Clock())
    assert [rate.wait_s(name) for name in 'aab'] == [0, 1, 0]
    assert rate.wait_s('c') == 0  # 'a' is forgotten
    assert len(rate._buckets) == 2
    assert rate.wait_s('b') == 1


def test_calibrations_expire_after_their_last_use_and_are_capped():
    clock = Clock()
    kept = Calibrations(capacity=2, lifetime_s=10, clock=clock)
    first, second = kept.add('1', '{"method": "a"}'), kept.add('2', '{"method": "b"}')
    assert json.loads(first.summary) == {'id': first.name, 'method': 'a'}
    assert len(first.name) == 22
    clock.now += 6
    assert kept.get(first.name).file == '1'
    clock.now += 6  # the second is 12 s old and unused, the first was used 6 s ago
    with pytest.raises(Refusal, match='no such') as caught:
        kept.get(second.name)
    assert caught.value.status == 404
    third, fourth = kept.add('3', '{"n": 3}'), kept.add('4', '{"n": 4}')
    assert len(kept) == 2
    with pytest.raises(Refusal):
        kept.get(first.name)
    kept.remove(third.name)
    assert [kept.get(fourth.name).file, len(kept)] == ['4', 1]


def _basic(text):
    return b'Basic ' + base64.b64encode(text.encode())


COOKIE_VALUE = Access(TOKEN).cookie


@pytest.mark.parametrize(
    ('headers', 'status'),
    [
        ({}, 401),
        ({b'authorization': b'Bearer correct-horse-battery'}, None),
        ({b'authorization': b'bearer correct-horse-battery'}, None),
        ({b'authorization': b'Bearer correct-horse-batterx'}, 401),
        ({b'authorization': b'Bearer '}, 401),
        ({b'authorization': b'Bearer correct-horse-battery-'}, 401),
        ({b'authorization': b'correct-horse-battery'}, 401),
        ({b'authorization': b'Bearer \xff\xfe'}, 401),
        ({b'authorization': _basic(f'anybody:{TOKEN}')}, None),
        ({b'authorization': _basic(f'{TOKEN}:')}, 401),
        ({b'authorization': b'Basic ????'}, 401),
        ({b'sec-websocket-protocol': b'evg.v1, token.correct-horse-battery'}, None),
        ({b'sec-websocket-protocol': b'evg.v1, token.wrong'}, 401),
        ({b'sec-websocket-protocol': b'correct-horse-battery'}, 401),
        ({b'cookie': f'a=b; {COOKIE}={COOKIE_VALUE}'.encode()}, None),
        ({b'cookie': f'{COOKIE}={TOKEN}'.encode()}, 401),
        ({b'cookie': f'{COOKIE}='.encode()}, 401),
        ({b'authorization': b'Bearer correct-horse-battery', b'origin': b'https://evil.example'}, 403),
        ({b'authorization': b'Bearer correct-horse-battery', b'origin': b'https://gaze.example:8000'}, None),
        ({b'authorization': b'Bearer correct-horse-battery', b'origin': b'null'}, 403),
    ],
)
def test_token(headers, status):
    refusal = Access(TOKEN).refusal({b'host': b'gaze.example:8000', **headers})
    assert (refusal and refusal[0]) == status


@pytest.mark.parametrize(
    ('host', 'origin', 'status'),
    [
        (b'localhost:8000', b'', None),
        (b'127.0.0.1:8000', b'http://127.0.0.1:8000', None),
        (b'[::1]:8000', b'', None),
        (b'localhost:8000', b'http://localhost:9000', 403),
        (b'localhost:8000', b'http://evil.example', 403),
        (b'evil.example:8000', b'', 403),
        (b'evil.example:8000', b'http://evil.example:8000', 403),  # its name now leads here: DNS rebinding
        (b'127.0.0.1.evil.example', b'', 403),
        (b'', b'', 403),
    ],
)
def test_without_a_token_only_this_machine_is_let_in(host, origin, status):
    headers = {b'host': host} | ({b'origin': origin} if origin else {})
    refusal = Access(None).refusal(headers)
    assert (refusal and refusal[0]) == status


@pytest.mark.parametrize(
    ('host', 'token', 'cert', 'key', 'allowed'),
    [
        ('127.0.0.1', None, None, None, True),
        ('localhost', None, None, None, True),
        ('::1', None, None, None, True),
        ('0.0.0.0', None, None, None, False),
        ('::', TOKEN, None, None, False),
        ('192.168.1.2', None, 'c', 'k', False),
        ('gaze.example', TOKEN, 'c', 'k', True),
        ('127.0.0.1', None, 'c', None, False),
    ],
)
def test_binding_elsewhere_needs_a_token_and_tls(host, token, cert, key, allowed):
    if allowed:
        check_binding(host, token, cert, key)
    else:
        with pytest.raises(UserError):
            check_binding(host, token, cert, key)


@pytest.mark.parametrize('token', ['', 'short', 'with blank in the middle', 'umlaut-ä-0123456789', 'x' * 257])
def test_a_weak_token_is_refused(token):
    with pytest.raises(UserError, match='16 to 256'):
        Settings(token=token)


def test_settings_must_be_positive_and_do_not_tell_the_token():
    for field in dataclasses.fields(Settings):
        if field.name not in ('token', 'min_score'):
            with pytest.raises(UserError, match=field.name):
                Settings(**{field.name: 0})
    for score in (-0.1, 1.1, float('nan')):
        with pytest.raises(UserError, match='min_score'):
            Settings(min_score=score)
    assert TOKEN not in str(Settings(token=TOKEN).limits())
