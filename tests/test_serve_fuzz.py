"""10,000 malformed bodies: none gives a 5xx, ends a worker, or leaves memory behind."""

import contextlib
import http.client
import json
import random
import struct
import zlib
from collections import Counter

import pytest
import websockets.sync.client
from serve_fakes import metric, picture, started

BODIES = 10_000
# The same bodies once more need no more memory; if they were kept, they would take 7 MB, and their pictures more.
AGAIN, GROWTH_BYTES = 5_000, 3 * 2**20

SETTINGS = {'requests_per_s': 1e6, 'max_body_bytes': 2**17, 'max_pixels': 10**6}
PICTURES = [picture(90, 50, kind=kind, size=(64, 48)) for kind in ('.png', '.jpg', '.webp')]
TYPES = [
    'image/png',
    'image/jpeg',
    'image/webp',
    'application/json',
    'text/plain',
    'multipart/form-data',
    '',
    'x' * 300,
]
RESULT = {
    'found': True,
    'score': 1.0,
    'screen_px': [90, 60],
    'gaze': [0, 0, -1],
    'origin_mm': [0, 0, 600],
    'times_ms': {'a': 1},
}
SCREEN = {'size_px': [1920, 1080], 'size_mm': [340, 190], 'camera_mm': [170, -8, 0], 'tilt_deg': 1.5}
POINTS = [{'target_px': [x, y], 'results': [RESULT, RESULT]} for x, y in ((9, 9), (900, 9), (9, 900))]
ERROR = {'x_px': 3.0, 'y_px': 4.0, 'x_mm': 0.6, 'y_mm': 0.8, 'px': 5.0, 'mm': 1.0, 'cm': 0.1, 'deg': None}
LEFT_OUT = {'target_px': [9.0, 9.0], 'n': 2, 'before': ERROR | {'deg': 0.1}, 'after': ERROR}
FILE = {
    'format': 'evg-calibration', 'version': 1, 'method': 'translation', 'parameters': {'offset_px': [3.0, 4.0]},
    'screen': SCREEN, 'model': 'fake-1', 'camera': 'camera-1', 'rejected': [[1, 'x']],
    'leave_one_out': {'per_point': [LEFT_OUT, LEFT_OUT | {'before': None}]},
}  # fmt: skip
DOCUMENTS = [
    ('POST', '/v1/gaze', {'image': 'iVBORw0KGgo=', 'screen': SCREEN, 'calibration': '0' * 22}),
    ('POST', '/v1/calibration', {'screen': SCREEN, 'method': 'affine', 'points': POINTS}),
    ('PUT', '/v1/calibration', FILE),
    ('POST', '/v1/report', {'screen': SCREEN, 'points': POINTS, 'facts': {'a': 'b'}}),
    ('POST', '/v1/report?format=json', {'points': POINTS}),
    ('STREAM', '', {'type': 'configure', 'screen': SCREEN, 'calibration': None, 'filter': 'kalman'}),
]
ODD = [
    None, True, -1, 0, 1e308, -1e308, 5e-324, 10**400, float('nan'), float('inf'), '', 'x' * 5000, '\ud800', '\x00', [],
    {}, [[]], [1, 2], [1e308, 1e308], [None, None], {'a': {'b': {}}}, 'NaN', '1', 2**63, -0.0, ['a'] * 700, [0] * 3,
]  # fmt: skip


def _damaged(data: bytes, rng: random.Random) -> bytes:
    """Bytes cut, turned over, put in, taken out, repeated."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at, length = rng.randrange(len(data) + 1), rng.choice([1, 2, 4, 30, 400])
        kind = rng.randrange(6)
        if kind == 0:
            del data[at:]
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = rng.randbytes(length)
        elif kind == 3 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 4:
            data[at : at + length] = rng.choice([b'\0', b'\xff', b'[', b'9', b'\r\n']) * length
        else:
            data[at:at] = data[at : at + length] * rng.choice([1, 3])
    return bytes(data)


def _huge(data: bytes, rng: random.Random) -> bytes:
    """A picture whose header declares another size."""
    size = rng.choice([0, 1, 1000, 1001, 16383, 65535])
    if data[:4] == b'\x89PNG':
        header = b'IHDR' + struct.pack('>II', size * rng.choice([1, 2**15]) % 2**32, size) + data[24:29]
        return data[:12] + header + struct.pack('>I', zlib.crc32(header)) + data[33:]
    if data[:2] == b'\xff\xd8':
        at = data.index(b'\xff\xc0') + 5
        return data[:at] + struct.pack('>HH', size, rng.choice([size, 64])) + data[at + 4 :]
    return data[:26] + struct.pack('<HH', size % 2**14, rng.randrange(2**14)) + data[30:]


def _odd(document, rng: random.Random):
    """A JSON value with one part replaced, removed or added."""
    if not isinstance(document, (dict, list)) or not document or rng.random() < 0.15:
        return rng.choice(ODD)
    copy = dict(document) if isinstance(document, dict) else list(document)
    key = rng.choice(list(copy) if isinstance(copy, dict) else range(len(copy)))
    kind = rng.random()
    if kind < 0.1:
        del copy[key]
    elif kind < 0.2 and isinstance(copy, dict):
        copy[rng.choice(['', 'x', key + 'x', '__class__'])] = rng.choice(ODD)
    else:
        copy[key] = _odd(copy[key], rng)
    return copy


def _multipart(rng: random.Random) -> tuple[bytes, str]:
    data = rng.choice(PICTURES)
    data = rng.choice([data, _damaged(data, rng), _huge(data, rng), b''])
    name = rng.choice(['face', 'face', 'face', 'x', '', 'f' * 500])
    end = b'\r\n--b--\r\n'
    body = f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="f"\r\n\r\n'.encode() + data + end
    return rng.choice([body, body, _damaged(body, rng), body * 30]), rng.choice(
        ['multipart/form-data; boundary=b'] * 4 + TYPES
    )


def _request(rng: random.Random) -> tuple[str, str, bytes, str]:
    """(method, path, body, content type)"""
    kind = rng.random()
    if kind < 0.35:
        data = rng.choice(PICTURES)
        body = rng.choice([_damaged, _huge])(data, rng) if rng.random() < 0.9 else rng.randbytes(rng.randrange(3000))
        return rng.choice(['POST', 'POST', 'STREAM']), '/v1/gaze', body, rng.choice(TYPES[:3] * 3 + TYPES)
    if kind < 0.8:
        method, path, document = rng.choice(DOCUMENTS)
        text = json.dumps(_odd(document, rng)).encode()
        if rng.random() < 0.25:
            text = _damaged(text, rng)
        return method, path, text, rng.choice(['application/json'] * 9 + TYPES)
    if kind < 0.97:
        return 'POST', '/inferenceByom/', *_multipart(rng)
    if kind < 0.985:
        deep = rng.choice([b'[', b'{"a":', b'{"points":[{"results":']) * 20_000
        method, path, _ = rng.choice(DOCUMENTS[:5])
        return method, path, deep, 'application/json'
    return 'POST', rng.choice(['/v1/gaze', '/v1/report', '/inferenceByom/']), bytes(2**17 + 1), rng.choice(TYPES)


def _resident(host: str) -> float:
    return metric(host, 'process_resident_memory_bytes') + metric(host, 'evg_workers_resident_bytes')


def _send(rng: random.Random, count: int, connection, stream) -> Counter:
    """Send bodies and look at the answers; how often each status came."""
    statuses: Counter = Counter()
    for number in range(count):
        method, path, body, kind = _request(rng)
        if method == 'STREAM':
            frame = struct.pack('<Id', number, rng.choice([number, 0.0, -1e300, float('inf'), 1e14])) + body
            stream.send(body.decode('latin-1') if path == '' else rng.choice([frame, frame, body]))
            answer = json.loads(stream.recv(timeout=60))
            assert answer['type'] in ('ready', 'result', 'error')
            assert 'internal' not in answer.get('detail', ''), (body, answer)
            continue
        connection.request(method, path, body, {'Content-Type': kind})
        answer = connection.getresponse()
        text = answer.read()
        statuses[answer.status] += 1
        assert answer.status < 500, (method, path, body[:2000], kind, text)
        if answer.status >= 400:
            assert json.loads(text)['detail']
    return statuses


@pytest.mark.slow
def test_malformed_bodies_do_no_harm(tmp_path):
    process, address = started(tmp_path, **SETTINGS)
    host = address.partition('//')[2]
    with (
        contextlib.closing(http.client.HTTPConnection(host, timeout=60)) as connection,
        websockets.sync.client.connect(f'ws://{host}/v1/stream') as stream,
    ):
        assert json.loads(stream.recv())['type'] == 'ready'
        statuses = _send(random.Random(1), BODIES, connection, stream)
        before = _resident(host)
        _send(random.Random(1), AGAIN, connection, stream)
        assert _resident(host) - before < GROWTH_BYTES
        assert metric(host, 'evg_worker_restarts_total') == 0
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert 'Traceback' not in said
    # The bodies are of all kinds: some are still good, and every reason to refuse one occurs.
    assert {200, 400, 413, 415, 422} <= set(statuses), statuses
