"""Workers die, hang and cannot start; the requests of others do not notice."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading

import numpy as np
import pytest
import requests
import websockets.sync.client
from serve_fakes import Hold, metric, picture, serving, started, wait_until

from evg.errors import UserError
from evg.serve.settings import Settings
from evg.serve.workers import WorkerPool

PNG = {'Content-Type': 'image/png'}


def _ask(host, blue, green=1, red=0):
    return requests.post(f'http://{host}/v1/gaze', picture(blue, green, red), headers=PNG)


def test_killing_a_worker_under_load_loses_no_request():
    answers, stop = [], threading.Event()
    with serving(Settings(workers=2, requests_per_s=1e6)) as (host, app):

        def load(blue):
            with requests.Session() as session:
                while not stop.is_set():
                    answer = session.post(f'http://{host}/v1/gaze', picture(blue, 51), headers=PNG)
                    px = answer.json()['faces'][0]['screen_px'] if answer.ok else answer.text
                    answers.append((answer.status_code, px, [blue / 255 * 1920, 216.0]))

        threads = [threading.Thread(target=load, args=(blue,)) for blue in (10, 90, 170, 250)]
        for thread in threads:
            thread.start()
        pool = app.state.pool
        for kills in (1, 2, 3):
            wait_until(lambda: len(pool.pids) == 2)
            before = len(answers)
            os.kill(pool.pids[0], signal.SIGKILL)
            wait_until(lambda n=kills: pool.restarts == n and pool.alive == 2)
            wait_until(lambda n=before: len(answers) > n + 20)
        stop.set()
        for thread in threads:
            thread.join()
        assert metric(host, 'evg_worker_restarts_total') == 3
    assert len(answers) > 60
    for status, px, expected in answers:
        assert status == 200
        np.testing.assert_allclose(px, expected, atol=1e-9)


def test_the_request_of_a_killed_worker_is_answered_by_the_next(tmp_path):
    hold, answers = Hold(tmp_path), []
    with serving(hold=hold) as (host, app):
        thread = threading.Thread(target=lambda: answers.append(_ask(host, 120)))
        thread.start()
        hold.begun(120)
        os.kill(app.state.pool.pids[0], signal.SIGKILL)
        hold.release()
        thread.join()
        assert app.state.pool.restarts == 1
    assert [answer.status_code for answer in answers] == [200]
    assert answers[0].json()['faces'][0]['screen_px'][0] == pytest.approx(120 / 255 * 1920)


def test_a_picture_that_ends_every_worker_is_refused_and_others_are_answered():
    with serving() as (host, app):
        answer = _ask(host, 0, 0, 255)
        assert (answer.status_code, 'twice' in answer.json()['detail']) == (422, True)
        assert _ask(host, 100).status_code == 200
        wait_until(lambda: app.state.pool.restarts == 2)


def test_a_worker_that_hangs_is_replaced(tmp_path):
    hold = Hold(tmp_path)
    with serving(Settings(request_s=0.5), hold) as (host, app):
        answer = _ask(host, 100)
        assert (answer.status_code, 'longer than 0.5 s' in answer.json()['detail']) == (422, True)
        hold.release()
        wait_until(lambda: app.state.pool.restarts == 1 and app.state.pool.alive == 1)
        assert _ask(host, 100).status_code == 200


def test_health_says_when_no_worker_is_there(tmp_path):
    with serving() as (host, app):
        os.kill(app.state.pool.pids[0], signal.SIGKILL)
        wait_until(lambda: requests.get(f'http://{host}/healthz').status_code == 503)
        wait_until(lambda: requests.get(f'http://{host}/healthz').status_code == 200)


def _cannot_load():
    raise UserError('there is no model at nowhere')


def _ends():
    os._exit(3)


def test_a_predictor_that_cannot_be_made_is_said_at_the_start():
    with pytest.raises(UserError, match='no model at nowhere'):
        WorkerPool(_cannot_load).start()
    with pytest.raises(UserError, match='ended while it was starting'):
        WorkerPool(_ends).start()


def test_a_fault_of_the_server_is_a_500_in_json_and_it_goes_on(capfd):
    with serving() as (host, app):
        app.state.pool.about['model'] = {1, 2}  # cannot be written as JSON
        answer = _ask(host, 1)
        assert (answer.status_code, answer.json()) == (500, {'detail': 'an internal error; the log says more'})
        app.state.pool.about['model'] = 'fake'
        assert _ask(host, 1).status_code == 200


@pytest.mark.parametrize('sent', [signal.SIGTERM, signal.SIGINT])
def test_a_stop_answers_what_was_asked_before(tmp_path, sent):
    hold, answers = Hold(tmp_path), []
    process, address = started(tmp_path, str(hold.path))
    host = address.partition('//')[2]
    with websockets.sync.client.connect(f'ws://{host}/v1/stream') as stream:
        assert json.loads(stream.recv())['type'] == 'ready'
        thread = threading.Thread(target=lambda: answers.append(_ask(host, 77)))
        thread.start()
        hold.begun(77)
        process.send_signal(sent)
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            stream.recv(timeout=30)
        assert stream.close_code == 1012  # the server restarts or goes; come again
        hold.release()
        thread.join()
    process.communicate(timeout=30)
    assert answers[0].status_code == 200
    assert process.returncode in (130, -sent, 0)
    with pytest.raises(OSError):
        socket.create_connection(host.split(':'), timeout=5)


def test_workers_end_with_the_server(tmp_path):
    hold = Hold(tmp_path)
    process, address = started(tmp_path, str(hold.path))

    def ask():
        with contextlib.suppress(OSError):  # the server is about to be killed
            _ask(address.partition('//')[2], 5)

    threading.Thread(target=ask).start()
    hold.begun(5)
    process.kill()
    process.wait()  # its pipes stay open as long as the worker lives
    hold.release()
    process.communicate(timeout=30)  # ends when nobody holds them


@pytest.fixture(scope='module')
def certificate(tmp_path_factory):
    path = tmp_path_factory.mktemp('tls') / 'both.pem'
    subprocess.run(
        ['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', path, '-out', path.with_suffix('.crt'),
         '-subj', '/CN=localhost', '-days', '2', '-addext', 'subjectAltName=IP:127.0.0.1'],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + path.with_suffix('.crt').read_text())
    return str(path)


def test_tls(tmp_path, certificate):
    token = 'correct-horse-battery'
    process, address = started(tmp_path, token=token, cert=certificate)
    try:
        assert address.startswith('https')
        headers = {'Authorization': f'Bearer {token}'}
        answer = requests.get(address, headers=headers, auth=None, verify=certificate)
        assert answer.status_code == 200
        page = requests.get(address, auth=('', token), verify=certificate)
        assert '; Secure' in page.headers['Set-Cookie']
        assert requests.get(address, verify=certificate).status_code == 401
    finally:
        process.terminate()
        process.communicate(timeout=30)
