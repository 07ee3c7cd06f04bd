"""The server's routes over a real socket, with a predictor whose answer can be read off the picture."""

import base64
import contextlib
import dataclasses
import json
import select
import socket
import struct
import tempfile
import threading
import time

import cv2
import numpy as np
import pytest
import requests
import websockets.sync.client
from serve_fakes import ORIGIN_MM, SCREEN, Hold, picture, serving, wait_until
from websockets.exceptions import InvalidStatus

import evg
from evg.inference import GazeResult
from evg.inference.calibration import Calibration
from evg.serve.schemas import Result
from evg.serve.settings import Settings

PNG = {'Content-Type': 'image/png'}
TOKEN = 'correct-horse-battery'


@pytest.fixture(scope='module')
def server():
    with serving(Settings(max_body_bytes=2**20, max_pixels=100_000)) as (host, app):
        yield f'http://{host}', app


@pytest.fixture
def url(server):
    return server[0]


def _expected_px(blue, green, size=(1920, 1080)):
    return [blue / 255 * size[0], green / 255 * size[1]]


def test_health_and_info(url):
    assert requests.get(f'{url}/healthz').json() == {'status': 'ok', 'workers': 1}
    info = requests.get(f'{url}/v1/info').json()
    assert {name: info[name] for name in ('version', 'model', 'identity', 'camera')} == {
        'version': evg.__version__,
        'model': 'fake',
        'identity': 'fake-1',
        'camera': 'camera-1',
    }
    assert info['screen'] == SCREEN.to_json()
    assert info['limits']['max_pixels'] == 100_000
    assert 'token' not in json.dumps(info)


@pytest.mark.parametrize(('kind', 'media'), [('.jpg', 'jpeg'), ('.png', 'png'), ('.webp', 'webp')])
def test_gaze_of_a_picture_file(url, kind, media):
    answer = requests.post(f'{url}/v1/gaze', picture(100, 50, kind=kind), headers={'Content-Type': f'image/{media}'})
    assert answer.status_code == 200
    content = answer.json()
    (face,) = content['faces']
    levels = 0 if kind == '.png' else 3  # lossy colours
    np.testing.assert_allclose(face['screen_px'], _expected_px(100, 50), atol=levels * 1920 / 255 + 1e-9)
    assert (content['model'], face['calibrated'], face['on_screen']) == ('fake', False, True)
    assert {'decode', 'predict', 'worker'} <= set(content['times_ms'])


def test_gaze_with_another_screen_by_json(url):
    screen = {'size_px': [1000, 500], 'size_mm': [300, 150], 'camera_mm': [150, -5, 0]}
    body = {'image': base64.b64encode(picture(51, 102)).decode(), 'screen': screen}
    face = requests.post(f'{url}/v1/gaze', json=body).json()['faces'][0]
    np.testing.assert_allclose(face['screen_px'], [200, 200], atol=1e-9)
    # By hand: 60 mm from the left and 60 mm down; the camera is at (150, -5): 90 mm to its left, 65 mm below it.
    np.testing.assert_allclose(face['plane_mm'], [-90, 65], atol=1e-9)


def test_a_picture_is_turned_as_its_exif_data_say(url):
    halves = np.zeros((16, 32, 3), np.uint8)
    halves[:, :16, 0], halves[:, 16:, 0] = 50, 200
    jpeg = cv2.imencode('.jpg', halves, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    # TIFF header, one entry: tag 0x112 (orientation), type SHORT, count 1, value 3: upside down.
    exif = b'Exif\0\0MM\0*\0\0\0\x08\0\x01' + struct.pack('>HHIHH', 0x112, 3, 1, 3, 0) + bytes(4)
    turned = jpeg[:2] + b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif + jpeg[2:]
    for data, level in ((jpeg, 50), (turned, 200)):
        answer = requests.post(f'{url}/v1/gaze', data, headers={'Content-Type': 'image/jpeg'})
        assert answer.json()['faces'][0]['screen_px'][0] == pytest.approx(level / 255 * 1920, abs=3 * 1920 / 255)


def test_no_face_is_an_answer(url):
    answer = requests.post(f'{url}/v1/gaze', picture(0, 0), headers=PNG)
    assert answer.status_code == 200
    assert [(f['found'], f['reason'], f['screen_px']) for f in answer.json()['faces']] == [(False, 'no face', None)]


def test_the_schema_of_a_result_is_the_results():
    empty = GazeResult(False).to_json()
    assert set(Result.model_fields) == set(empty)
    full = GazeResult(True, gaze=np.array([0.0, 0.0, -1.0]), landmarks_px=np.zeros((3, 2)), head_rotation=np.eye(3))
    for values in (empty, full.to_json()):
        assert Result.model_validate_json(json.dumps(values)).model_dump() == values
    fields = {field.name for field in dataclasses.fields(GazeResult)}
    assert fields <= set(empty)


def _samples(url, wrong_px, levels):
    """Answers of the server while somebody looks at points; the model is off by `wrong_px`."""
    points = []
    for blue, green in levels:
        faces = [requests.post(f'{url}/v1/gaze', picture(blue, green), headers=PNG).json()['faces'][0]] * 3
        target = np.array(_expected_px(blue, green)) - wrong_px
        points.append({'target_px': target.tolist(), 'results': faces})
    return points


CORNERS = [(51, 51), (204, 51), (51, 204), (204, 204)]


def test_calibration_from_fit_to_file_and_back(url):
    points = _samples(url, [30.0, -20.0], CORNERS)
    answer = requests.post(f'{url}/v1/calibration', json={'method': 'translation', 'points': points})
    assert answer.status_code == 201
    fitted = answer.json()
    assert (fitted['method'], fitted['n_points'], fitted['n_samples'], fitted['rejected']) == ('translation', 4, 12, [])
    assert fitted['leave_one_out']['mean_px'] == pytest.approx(0, abs=1e-6)
    assert fitted['leave_one_out']['before_mean_px'] == pytest.approx(np.hypot(30, 20))
    one = f'{url}/v1/calibration/{fitted["id"]}'
    assert requests.get(one).json() == fitted

    body = {'image': base64.b64encode(picture(100, 50)).decode(), 'calibration': fitted['id']}
    face = requests.post(f'{url}/v1/gaze', json=body).json()['faces'][0]
    assert face['calibrated']
    np.testing.assert_allclose(face['screen_px'], np.subtract(_expected_px(100, 50), [30, -20]), atol=1e-6)
    gaze = SCREEN.px_to_camera(face['screen_px']) - ORIGIN_MM
    np.testing.assert_allclose(face['gaze'], gaze / np.linalg.norm(gaze), atol=1e-9)

    file = requests.get(f'{one}/file')
    assert 'attachment' in file.headers['Content-Disposition']
    assert Calibration.from_json(file.json()).method == 'translation'
    assert requests.delete(one).status_code == 204
    assert [requests.request(verb, one).status_code for verb in ('GET', 'DELETE')] == [404, 404]
    assert requests.post(f'{url}/v1/gaze', json=body).status_code == 404

    again = requests.put(f'{url}/v1/calibration', json=file.json())
    assert again.status_code == 201
    body['calibration'] = again.json()['id']
    assert requests.post(f'{url}/v1/gaze', json=body).json()['faces'][0]['screen_px'] == face['screen_px']


def test_a_calibration_for_something_else_is_refused(url):
    points = _samples(url, [0.0, 0.0], CORNERS)
    fitted = requests.post(f'{url}/v1/calibration', json={'method': 'affine', 'points': points}).json()
    file = requests.get(f'{url}/v1/calibration/{fitted["id"]}/file').json()
    for name in ('model', 'camera'):
        answer = requests.put(f'{url}/v1/calibration', json=file | {name: 'another'})
        assert (answer.status_code, f'another {name}' in answer.json()['detail']) == (409, True)
    other = {'size_px': [1920, 1080], 'size_mm': [600, 340], 'camera_mm': [300, -5, 0]}
    body = {'image': base64.b64encode(picture(9, 9)).decode(), 'calibration': fitted['id'], 'screen': other}
    answer = requests.post(f'{url}/v1/gaze', json=body)
    assert (answer.status_code, 'another screen' in answer.json()['detail']) == (409, True)


def _file(url):
    """The file of a calibration that the server made."""
    points = _samples(url, [3.0, 4.0], CORNERS)
    fitted = requests.post(f'{url}/v1/calibration', json={'method': 'affine', 'points': points}).json()
    return requests.get(f'{url}/v1/calibration/{fitted["id"]}/file').json()


@pytest.mark.parametrize('value', ['"a"', '{}', 'NaN', '1e308', '9' * 400, 'null'])
@pytest.mark.parametrize('name', ['target_px', 'n', 'before', 'px', 'x_px'])
def test_a_damaged_report_in_a_file_is_no_fault_of_the_server(url, name, value):
    file = _file(url)
    for point in file['leave_one_out']['per_point']:
        place = point if name in point else point['after']
        place[name] = 'HERE'
    text = json.dumps(file).replace('"HERE"', value)
    answer = requests.put(f'{url}/v1/calibration', text, headers={'Content-Type': 'application/json'})
    if (name, value) == ('before', 'null'):  # that is how a file says that it is not known
        assert answer.status_code == 201
    else:
        assert (answer.status_code, 'damaged' in answer.json()['detail']) == (422, True)


LONG = [
    ({'message': 'x' * 10_001}, 422, 'message: '),
    ({'rejected': [[1, 'x']] * 19_201}, 422, 'rejected: '),  # 32 points with 600 results are allowed
    ({'rejected': [[1, 'x' * 20]] * 19_200}, 201, ''),
    ({'rejected': [[1, 'x' * 210]] * 10_000}, 413, '2,097,152 bytes'),
    ({'n_points': 33}, 422, 'n_points: '),
    ({'n_samples': -1}, 422, 'n_samples: '),
]


def test_the_file_of_a_calibration_is_limited_in_size():
    with serving() as (host, _):
        file = _file(f'http://{host}')
        for change, status, words in LONG:
            answer = requests.put(f'http://{host}/v1/calibration', json=file | change)
            assert (answer.status_code, words in answer.json().get('detail', '')) == (status, True), words


def test_a_calibration_has_so_many_points_and_an_accuracy_test_more(url):
    def ask(route, n):
        result = {'found': True, 'score': 1.0, 'screen_px': [500.0, 500.0], 'gaze': [0, 0, -1]}
        points = [{'target_px': [10.0 * i, 7.0 * i % 110], 'results': [result]} for i in range(n)]
        answer = requests.post(f'{url}/v1/{route}', json={'points': points})
        return answer.status_code, answer.json()['detail'] if answer.status_code == 422 else ''

    assert ask('calibration', 32)[0] == 201
    assert ask('calibration', 33) == (422, 'points: List should have at most 32 items after validation, not 33')
    assert ask('report', 64)[0] == 200
    assert ask('report', 65)[0] == 422


def test_calibrated_results_do_not_make_a_calibration(url):
    points = _samples(url, [0.0, 0.0], CORNERS)
    points[1]['results'][0]['calibrated'] = True
    answer = requests.post(f'{url}/v1/calibration', json={'points': points})
    assert (answer.status_code, 'already' in answer.json()['detail']) == (422, True)


def test_report_of_an_accuracy_test(url):
    points = _samples(url, [30.0, -20.0], CORNERS)
    answer = requests.post(f'{url}/v1/report', json={'points': points})
    assert answer.status_code == 200
    assert answer.headers['Content-Type'] == 'text/html; charset=utf-8'
    assert '<svg' in answer.text
    report = requests.post(
        f'{url}/v1/report', json={'points': points, 'facts': {'who': 'A'}}, params={'format': 'json'}
    )
    assert report.json()['mean']['px'] == pytest.approx(np.hypot(30, 20))
    assert report.json()['facts'] == {'who': 'A', 'model': 'fake-1'}


def test_atlas_client(url):
    """As the sample's client: one session, the file field `face` without a name or type, a split at the blank."""
    session = requests.session()
    address = f'{url}/inferenceByom/'
    answer = session.post(address, files={'face': picture(138, 108, kind='.png', size=(224, 224))})
    pitch, yaw = (float(word) for word in answer.text.split(' '))
    assert (pitch, yaw) == pytest.approx((0.010, -0.020))
    jpeg = session.post(address, files={'face': picture(138, 108, kind='.jpg', size=(224, 224))})
    assert [float(word) for word in jpeg.text.split(' ')] == pytest.approx([0.010, -0.020], abs=0.003)
    assert session.get(address).text == '24.3413 2.3532'


def test_a_large_picture_of_the_atlas_client_does_not_touch_the_disk(monkeypatch):
    rolled = []
    rollover = tempfile.SpooledTemporaryFile.rollover

    def counted(file):
        rolled.append(file)
        rollover(file)

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, 'rollover', counted)
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1100, 3), np.uint8)
    data = cv2.imencode('.png', noise)[1].tobytes()
    assert len(data) > 3 * 2**20
    with serving() as (host, _):
        assert requests.post(f'http://{host}/inferenceByom/', files={'face': data}).status_code == 200
    assert rolled == []


@pytest.mark.parametrize(
    ('files', 'data', 'status'),
    [
        (None, None, 422),
        ({'hand': b'x'}, None, 422),
        ({'face': b'no picture'}, None, 415),
        ({'face': b''}, None, 415),
        (None, {'face': 'text'}, 422),
    ],
)
def test_atlas_route_refuses_in_words(url, files, data, status):
    answer = requests.post(f'{url}/inferenceByom/', files=files, data=data)
    assert answer.status_code == status
    assert isinstance(answer.json()['detail'], str)


def _json(body, **more):
    return {'data': body, 'headers': {'Content-Type': 'application/json'}} | more


BAD = {
    'empty': (dict(data=b'', headers=PNG), 415),
    'no type': (dict(data=picture(1, 1)), 415),
    'another type': (dict(data=picture(1, 1), headers={'Content-Type': 'image/gif'}), 415),
    'cut jpeg': (dict(data=picture(1, 1, kind='.jpg')[:-9], headers={'Content-Type': 'image/jpeg'}), 422),
    'noise in a png': (dict(data=picture(1, 1)[:40] + b'\x00' * 30 + picture(1, 1)[40:], headers=PNG), 422),
    'too many pixels': (dict(data=picture(1, 1, size=(400, 300)), headers=PNG), 413),
    'too many bytes': (dict(data=bytes(2**20 + 1), headers=PNG), 413),
    'endless': (dict(data=(bytes(2**16) for _ in range(40)), headers=PNG), 413),
    'no json': (_json(b'{'), 422),
    'list': (_json(b'[]'), 422),
    'nan': (_json(b'{"image": NaN}'), 422),
    'no image': (_json(b'{}'), 422),
    'number': (_json(b'{"image": 5}'), 422),
    'unknown name': (_json(b'{"image": "", "imag": ""}'), 422),
    'long name': (_json(b'{"image": "", "' + b'x' * 5000 + b'": 1}'), 422),
    'no base64': (_json('{"image": "äöü"}'.encode()), 422),
    'no utf-8': (_json(b'{"image": "\xff"}'), 422),
    'deep': (_json(b'{"image": ' + b'[' * 10**5 + b']' * 10**5 + b'}'), 422),
    'huge number': (_json(b'{"image": "", "screen": ' + b'9' * 10**5 + b'}'), 422),
    'screen of nothing': (
        _json(b'{"image": "", "screen": {"size_px": [0, 0], "size_mm": [1, 1], "camera_mm": [0, 0, 0]}}'),
        422,
    ),
    'infinite screen': (
        _json(b'{"image": "", "screen": {"size_px": [1e999, 1], "size_mm": [1, 1], "camera_mm": [0, 0, 0]}}'),
        422,
    ),
    'unknown calibration': (_json(b'{"image": "", "calibration": "0123456789012345678901"}'), 404),
    'bad calibration': (_json(b'{"image": "", "calibration": "../../etc/passwd"}'), 422),
}


@pytest.mark.parametrize('name', BAD)
def test_a_bad_request_is_refused_in_words(url, name):
    request, status = BAD[name]
    answer = requests.post(f'{url}/v1/gaze', **request)
    assert answer.status_code == status
    assert 0 < len(answer.json()['detail']) < 300


@pytest.mark.parametrize('route', ['calibration', 'report'])
@pytest.mark.parametrize(
    'body',
    [
        b'',
        b'null',
        b'{"points": []}',
        b'{"points": [{"target_px": [1, 2], "results": []}]}',
        b'{"points": [{"target_px": [1, NaN], "results": [{"found": true}]}]}',
        b'{"points": [{"target_px": [1, 2], "results": [{"found": 1}]}]}',
        b'{"points": [{"target_px": [1, 2], "results": [{"found": true, "gaze": [5, 5, 5]}]}]}',
        b'{"points": [{"target_px": [1e300, 2], "results": [{"found": true, "screen_px": [1, 1e300]}]}]}',
        b'{"points": ' + b'[' * 5000 + b']' * 5000 + b'}',
        b'{"points": [{"target_px": [1, 2], "results": [' + b','.join([b'{"found": false}'] * 601) + b']}]}',
    ],
)
def test_bad_samples_are_refused_in_words(url, route, body):
    answer = requests.post(f'{url}/v1/{route}', body, headers={'Content-Type': 'application/json'})
    assert answer.status_code == 422
    assert answer.json()['detail']


def test_the_page_is_served_with_a_strict_policy(url):
    answer = requests.get(f'{url}/')
    assert answer.headers['Content-Type'] == 'text/html; charset=utf-8'
    assert "script-src 'self'" in answer.headers['Content-Security-Policy']
    assert 'unsafe' not in answer.headers['Content-Security-Policy']
    assert answer.headers['X-Content-Type-Options'] == 'nosniff'
    assert answer.headers['Cache-Control'] == 'no-cache'
    assert requests.get(f'{url}/static/index.html').text == answer.text
    for name in ('..%2fapp.py', '../app.py', '%2e%2e/app.py', 'app.py', '.', '%00'):
        assert requests.get(f'{url}/static/{name}').status_code == 404


def test_the_list_of_routes_needs_nothing_from_elsewhere(url):
    answer = requests.get(f'{url}/docs')
    assert answer.status_code == 200
    assert 'POST /v1/gaze' in answer.text
    assert '//' not in answer.text.replace('<!doctype', '')
    assert '<script' not in answer.text


def test_metrics_count(url):
    def count():
        lines = requests.get(f'{url}/metrics').text.splitlines()
        return {line.rpartition(' ')[0]: float(line.rpartition(' ')[2]) for line in lines if line[0] != '#'}

    before = count()
    requests.post(f'{url}/v1/gaze', picture(1, 1), headers=PNG)
    requests.get(f'{url}/no/such/place/{time.time()}')
    after = count()
    for labels in ('method="POST",route="/v1/gaze",status="200"', 'method="GET",route="other",status="404"'):
        name = f'evg_requests_total{{{labels}}}'
        assert after[name] - before.get(name, 0) == 1
    assert after['evg_workers'] == 1
    assert after['evg_workers_resident_bytes'] > 10**6


def test_pages_of_other_sites_are_refused(url):
    answer = requests.post(f'{url}/v1/gaze', picture(1, 1), headers=PNG | {'Origin': 'http://evil.example'})
    assert answer.status_code == 403
    host = url.removeprefix('http://')
    with pytest.raises(InvalidStatus) as caught:
        websockets.sync.client.connect(f'ws://{host}/v1/stream', origin='http://evil.example')
    assert caught.value.response.status_code == 403
    assert requests.get(f'{url}/healthz', headers={'Host': 'evil.example'}).status_code == 403


def test_without_the_token_nothing_answers():
    with serving(Settings(token=TOKEN)) as (host, app):
        routes = {route.path for route in app.routes}
        assert {'/', '/docs', '/openapi.json', '/healthz', '/metrics', '/v1/gaze', '/inferenceByom/'} <= routes
        wrong = [{}, {'Authorization': 'Bearer wrong-wrong-wrong-wrong'}, {'Cookie': f'evg_session={TOKEN}'}]
        for route in app.routes:
            path = route.path.format(name='index.html', calibration='0' * 22)
            if route.path == '/v1/stream':
                for protocols in (['evg.v1'], ['evg.v1', 'token.wrong-wrong-wrong-wrong']):
                    with pytest.raises(InvalidStatus) as caught:
                        websockets.sync.client.connect(f'ws://{host}{path}', subprotocols=protocols)
                    assert caught.value.response.status_code == 401
                continue
            for method in route.methods:
                for headers in wrong:
                    assert requests.request(method, f'http://{host}{path}', headers=headers).status_code == 401
        for path in ('/no/such/route', '/static/index.html'):
            assert requests.get(f'http://{host}{path}').status_code == 401

        bearer = {'Authorization': f'Bearer {TOKEN}'}
        assert requests.get(f'http://{host}/healthz', headers=bearer).status_code == 200
        # A browser asks for a password where it shows a page, and needs it once.
        asked = requests.get(f'http://{host}/', headers={'Accept': 'text/html'})
        assert asked.headers['WWW-Authenticate'].startswith('Basic ')
        session = requests.Session()
        assert session.get(f'http://{host}/', auth=('any', TOKEN)).status_code == 200
        assert session.get(f'http://{host}/v1/info').status_code == 200
        cookie = '; '.join(f'{c.name}={c.value}' for c in session.cookies)
        headers = {'Cookie': cookie}
        with websockets.sync.client.connect(f'ws://{host}/v1/stream', additional_headers=headers) as stream:
            assert json.loads(stream.recv())['type'] == 'ready'


def test_too_many_requests_are_told_to_come_back():
    with serving(Settings(requests_per_s=1)) as (host, _):
        answers = [requests.get(f'http://{host}/healthz') for _ in range(4)]
    assert [answer.status_code for answer in answers][:3] == [200, 200, 429]
    assert answers[2].headers['Retry-After'] == '1'


def test_a_slow_body_is_given_up():
    def slowly():
        for _ in range(8):
            yield b'x'
            time.sleep(0.1)

    with serving(Settings(request_s=0.3)) as (host, _):
        answer = requests.post(f'http://{host}/v1/gaze', slowly(), headers=PNG)
    assert answer.status_code == 408


def test_more_than_the_queue_holds_is_told_to_come_back(tmp_path):
    hold, codes = Hold(tmp_path), {}
    with serving(Settings(queue=1), hold) as (host, app):

        def ask(blue):
            codes[blue] = requests.post(f'http://{host}/v1/gaze', picture(blue, 1), headers=PNG).status_code

        threads = [threading.Thread(target=ask, args=(blue,)) for blue in (10, 20, 30)]
        threads[0].start()
        hold.begun(10)
        threads[1].start()
        wait_until(lambda: app.state.pool.waiting == 1)
        threads[2].start()
        threads[2].join()
        hold.release()
        for thread in threads:
            thread.join()
    assert codes == {10: 200, 20: 200, 30: 429}


def test_json_is_read_by_a_worker_and_not_by_the_server(tmp_path):
    """A body of many unknown names takes seconds to read; while one is read, the server goes on."""
    hold, answers = Hold(tmp_path), []
    with serving(hold=hold) as (host, app):

        def ask(body):
            answers.append(requests.post(f'http://{host}/v1/gaze', **body))

        threads = [threading.Thread(target=ask, args=(b,)) for b in (dict(data=picture(9, 9), headers=PNG), _json('{'))]
        threads[0].start()
        hold.begun(9)
        threads[1].start()
        wait_until(lambda: app.state.pool.waiting == 1)  # it waits for the only worker
        hold.release()
        for thread in threads:
            thread.join()
    assert [answer.status_code for answer in answers] == [200, 422]


def test_bodies_that_are_only_half_there_count_as_held():
    """16 bodies of the largest size have a place, whole or not: 40 halves of 1 KiB do not fit into 16 KiB."""
    head = b'POST /v1/gaze HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 1024\r\n\r\n'
    with serving(Settings(max_body_bytes=1024)) as (host, _), contextlib.ExitStack() as stack:
        address = ('127.0.0.1', int(host.rpartition(':')[2]))
        slow = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(40)]
        for connection in slow:
            connection.sendall(head + bytes(512))
        # 32 halves fill the place; the other 8 are answered at once.
        wait_until(lambda: len(select.select(slow, [], [], 0)[0]) == 8)
        refused = select.select(slow, [], [], 0)[0]
        assert all(connection.recv(4096).startswith(b'HTTP/1.1 429 ') for connection in refused)
        for connection in slow:
            connection.close()
        # What was held for them is given back.
        wait_until(lambda: requests.post(f'http://{host}/v1/gaze', bytes(900), headers=PNG).status_code == 415)
