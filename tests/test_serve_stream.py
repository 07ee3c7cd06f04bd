"""The stream over a real socket: order, newest frame wins, slow clients, bad frames, calibration and filters."""

import base64
import contextlib
import json
import socket
import struct
import threading

import numpy as np
import pytest
import requests
import websockets.sync.client
from serve_fakes import SCREEN, Hold, metric, picture, serving, wait_until
from websockets.exceptions import ConnectionClosed, InvalidStatus

from evg.inference.filters import OneEuro
from evg.serve.settings import Settings

TOKEN = 'correct-horse-battery'


@pytest.fixture(scope='module')
def host():
    with serving() as (address, _):
        yield address


def _connect(host, **options):
    return websockets.sync.client.connect(f'ws://{host}/v1/stream', subprotocols=['evg.v1'], **options)


def _frame(number, data, captured_ms=None):
    return struct.pack('<Id', number, 40.0 * number if captured_ms is None else captured_ms) + data


def _next(stream, kind='result'):
    message = json.loads(stream.recv(timeout=20))
    assert message['type'] == kind, message
    return message


def _px(blue, green):
    return [blue / 255 * 1920, green / 255 * 1080]


def test_ready_tells_what_the_server_is(host):
    with _connect(host) as stream:
        ready = _next(stream, 'ready')
        assert stream.subprotocol == 'evg.v1'
    assert {name: ready[name] for name in ('model', 'identity')} == {'model': 'fake', 'identity': 'fake-1'}
    assert ready['filters'] == ['none', 'average', 'one_euro', 'kalman']


def test_answers_come_in_order_with_their_frame(host):
    with _connect(host) as stream:
        _next(stream, 'ready')
        for number in range(20):
            stream.send(_frame(number, picture(10 * number + 1, 50)))
            result = _next(stream)
            assert (result['id'], result['captured_ms'], result['dropped']) == (number, 40.0 * number, 0)
            np.testing.assert_allclose(result['raw'], _px(10 * number + 1, 50), atol=1e-9)
            assert result['point'] == result['raw'] == result['faces'][0]['screen_px']
            assert result['faces'][0]['timestamp_ms'] == 40.0 * number


def test_the_newest_frame_wins_and_the_others_are_counted(tmp_path):
    hold = Hold(tmp_path)
    with serving(hold=hold) as (host, _), _connect(host) as stream:
        _next(stream, 'ready')
        stream.send(_frame(0, picture(100, 1)))
        hold.begun(100)
        for number in range(1, 10):
            stream.send(_frame(number, picture(100 + number, 1)))
        wait_until(lambda: metric(host, 'evg_stream_frames_dropped_total') == 8)
        hold.release()
        first, second = _next(stream), _next(stream)
        assert (first['id'], second['id'], second['dropped']) == (0, 9, 8)
        stream.send(_frame(10, picture(110, 1)))
        third = _next(stream)
        assert (third['id'], third['dropped']) == (10, 8)


@pytest.mark.parametrize(
    ('message', 'words'),
    [
        (b'', 'Invalid JSON'),
        (b'12345', '12 bytes'),
        (struct.pack('<Id', 1, float('nan')) + b'x', 'capture time'),
        (_frame(1, b''), 'neither'),
        (_frame(1, picture(1, 1)[:-8]), 'cut off'),
        (_frame(1, picture(1, 1, size=(5000, 3000))), '5000 x 3000'),
        ('{', 'Invalid JSON'),
        ('[' * 4000, 'recursion'),
        ('{"type": "configure", "screen": 5}', 'screen'),
        ('{"type": "configure", "filter": "median"}', 'filter'),
        ('{"type": "configure", "calibration": "0123456789012345678901"}', 'no such calibration'),
        (json.dumps({'type': 'configure'} | {f'k{i}': 0 for i in range(400)}), '4,096 characters'),
    ],
)
def test_a_bad_message_is_answered_in_words_and_the_stream_goes_on(host, message, words):
    with _connect(host) as stream:
        _next(stream, 'ready')
        stream.send(message)
        assert words in _next(stream, 'error')['detail']
        stream.send(_frame(2, picture(100, 50)))
        np.testing.assert_allclose(_next(stream)['raw'], _px(100, 50), atol=1e-9)


def test_a_message_that_is_too_large_is_refused():
    with serving(Settings(max_body_bytes=2**16)) as (host, _), _connect(host) as stream:
        _next(stream, 'ready')
        stream.send(_frame(1, bytes(2**16 + 1)))
        assert '65,548 bytes' in _next(stream, 'error')['detail']
        stream.send(_frame(2, picture(100, 50)))
        assert _next(stream)['id'] == 2


def test_no_face_has_no_point(host):
    with _connect(host) as stream:
        _next(stream, 'ready')
        stream.send(_frame(1, picture(0, 0)))
        result = _next(stream)
    assert (result['point'], result['raw'], result['reason']) == (None, None, 'no face')


def test_a_face_with_a_low_score_has_no_point_and_is_no_sample():
    clear, unclear = picture(100, 50, red=51), picture(100, 50, red=204)  # scores of 0.8 and 0.2
    with serving(Settings(min_score=0.5)) as (host, _):
        with _connect(host) as stream:
            _next(stream, 'ready')
            for number, (data, reason) in enumerate([(clear, ''), (unclear, 'low score')]):
                stream.send(_frame(number, data))
                result = _next(stream)
                assert (result['reason'], result['point']) == (reason, None if reason else result['raw'])
                assert result['raw'] == result['faces'][0]['screen_px']
        url = f'http://{host}/v1'
        faces = [
            requests.post(f'{url}/gaze', data, headers={'Content-Type': 'image/png'}).json()['faces'][0]
            for data in (clear, unclear)
        ]
        body = {'method': 'translation', 'points': [{'target_px': [500, 500], 'results': faces}]}
        fitted = requests.post(f'{url}/calibration', json=body).json()
        assert fitted['rejected'] == [{'sample': 1, 'reason': 'low score'}]
        report = requests.post(f'{url}/report?format=json', json={'points': body['points']}).json()
        assert report['points'][0]['lost'] == {'low score': 1}
        assert requests.get(f'{url}/info').json()['limits']['min_score'] == 0.5


def test_screen_and_filter_are_configured(host):
    screen = {'size_px': [1000, 500], 'size_mm': [300, 150], 'camera_mm': [150, -5, 0]}
    expected, levels = OneEuro(), [20, 200, 60, 220]
    with _connect(host) as stream:
        _next(stream, 'ready')
        stream.send(json.dumps({'type': 'configure', 'screen': screen, 'filter': 'one_euro'}))
        configured = _next(stream, 'ready')['configured']
        assert (configured['filter'], configured['screen']['size_px']) == ('one_euro', [1000, 500])
        for number, level in enumerate(levels):
            stream.send(_frame(number, picture(level, level)))
            result = _next(stream)
            raw = [level / 255 * 1000, level / 255 * 500]
            np.testing.assert_allclose(result['raw'], raw, atol=1e-9)
            assert result['faces'][0]['screen_px'] == result['raw']
            np.testing.assert_allclose(result['point'], expected.update(0.04 * number, raw), atol=1e-9)
        assert result['point'] != result['raw']
        stream.send(json.dumps({'type': 'configure', 'screen': screen}))
        _next(stream, 'ready')
        stream.send(_frame(9, picture(20, 20)))
        result = _next(stream)
        assert result['point'] == result['raw']


def _calibration(host, offset):
    points = []
    for blue, green in [(51, 51), (204, 51), (51, 204), (204, 204)]:
        body = {'image': base64.b64encode(picture(blue, green)).decode()}
        faces = requests.post(f'http://{host}/v1/gaze', json=body).json()['faces']
        points.append({'target_px': (np.array(_px(blue, green)) + offset).tolist(), 'results': faces})
    answer = requests.post(f'http://{host}/v1/calibration', json={'method': 'translation', 'points': points})
    return answer.json()['id']


def test_a_calibration_is_used_and_belongs_to_its_screen(host):
    name = _calibration(host, [12.0, 34.0])
    other = {'size_px': [1000, 500], 'size_mm': [300, 150], 'camera_mm': [150, -5, 0]}
    with _connect(host) as stream:
        _next(stream, 'ready')
        stream.send(json.dumps({'type': 'configure', 'calibration': name, 'screen': other}))
        assert 'another screen' in _next(stream, 'error')['detail']
        stream.send(json.dumps({'type': 'configure', 'calibration': name, 'screen': SCREEN.to_json()}))
        _next(stream, 'ready')
        requests.delete(f'http://{host}/v1/calibration/{name}')  # a stream that has it keeps it
        stream.send(_frame(1, picture(100, 50)))
        result = _next(stream)
    assert result['faces'][0]['calibrated']
    np.testing.assert_allclose(result['raw'], np.add(_px(100, 50), [12, 34]), atol=1e-6)


def test_a_client_that_does_not_read_stops_only_itself():
    with serving(Settings(stall_s=1.0, requests_per_s=1e6), send_buffer=4096) as (host, app):
        # Small buffers, so that what it does not read soon has no place any more.
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(('127.0.0.1', int(host.partition(':')[2])))
        stop = threading.Event()

        def flood():
            with contextlib.suppress(ConnectionClosed), _connect(host, sock=deaf, max_queue=1) as stream:
                while not stop.is_set():
                    stream.send(_frame(1, picture(1, 1)))

        flooding = threading.Thread(target=flood)
        flooding.start()
        with _connect(host) as stream:
            _next(stream, 'ready')
            for number in range(100_000):
                stream.send(_frame(number, picture(100, 50)))
                assert _next(stream)['id'] == number
                assert app.state.pool.waiting <= 1
                if number % 50 == 0 and metric(host, 'evg_streams_stalled_total') == 1:
                    break  # the server has given up the other one; this one was answered all the time
            else:
                raise AssertionError('the other one was never given up')
        stop.set()
        deaf.shutdown(socket.SHUT_RDWR)
        flooding.join()


def test_the_frames_of_an_address_count_as_its_requests():
    # 10 at once and 5 a second: 100 frames take all there is for 18 s; without them 6 requests would have a place.
    with serving(Settings(requests_per_s=5)) as (host, _), _connect(host) as stream:
        _next(stream, 'ready')
        for number in range(100):
            stream.send(_frame(number, picture(100, 50)))
        assert _next(stream)['id'] >= 0
        assert 429 in [requests.get(f'http://{host}/healthz').status_code for _ in range(5)]


def test_streams_are_limited():
    with serving(Settings(streams=1)) as (host, _):
        with _connect(host) as stream:
            _next(stream, 'ready')
            with pytest.raises(InvalidStatus) as caught:
                _connect(host)
            assert caught.value.response.status_code == 429
        wait_until(lambda: metric(host, 'evg_streams') == 0)
        with _connect(host) as stream:
            _next(stream, 'ready')


def test_the_token_travels_as_a_subprotocol():
    with serving(Settings(token=TOKEN)) as (host, _):
        address = f'ws://{host}/v1/stream'
        with websockets.sync.client.connect(address, subprotocols=['evg.v1', f'token.{TOKEN}']) as stream:
            assert _next(stream, 'ready')['model'] == 'fake'
            assert stream.subprotocol == 'evg.v1'
