"""tools/serve.py as a user starts it, with a real network; and what it says where it cannot."""

import functools
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import requests
import skimage.data
import websockets.sync.client
from conftest import ROOT, without
from model_folders import model_folder, network
from serve_fakes import patch_predictor, serving

from evg.deploy.runtime import GazeModel
from evg.inference import GazePredictor, Screen
from evg.synthetic import SyntheticWorld

MODELS = Path(os.environ.get('EVG_TEST_MODELS', ROOT.parent / 'shared' / 'models'))
PLANE, PATCH = 'configs/ctdet_gazeface/nano_synth_160.py', 'configs/regression/nano_synth_96.py'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp('model'), *network(PLANE))


@pytest.fixture(scope='module')
def screen(tmp_path_factory):
    path = tmp_path_factory.mktemp('screen') / 'screen.json'
    Screen.from_diagonal(14, (1600, 900)).save(path)
    return path


class Tool:
    """A running tools/serve.py."""

    def __init__(self, *args, env=None):
        command = [sys.executable, ROOT / 'tools' / 'serve.py', *map(str, args), '--port', '0']
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env or {**os.environ, 'EVG_TOKEN': ''},
        )
        line = self.process.stdout.readline()
        found = re.search(r'http://(\S+)/', line)
        if not found:
            raise AssertionError(line + self.process.communicate()[1])
        self.host = found[1]

    def __enter__(self):
        return self.host

    def __exit__(self, *error):
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=60)
        assert 'Traceback' not in said


def _frames(n=3):
    world = SyntheticWorld('close', (320, 180), seed=3)
    return [
        cv2.imencode('.jpg', world.frame(0, i).image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes() for i in range(n)
    ]


def test_the_server_gives_what_the_predictor_gives(folder, screen):
    declared = Screen.load(screen)
    with GazePredictor(str(folder), declared) as predictor:
        frames = _frames()
        expected = [predictor.predict(cv2.imdecode(np.frombuffer(f, np.uint8), cv2.IMREAD_COLOR))[0] for f in frames]
        identity = predictor.identity
    assert np.ptp([e.screen_px for e in expected], axis=0).min() > 1e-3  # the pictures differ
    with Tool(folder, '--screen', screen) as host:
        info = requests.get(f'http://{host}/v1/info').json()
        assert (info['identity'], info['screen']['size_px']) == (identity, [1600, 900])
        with websockets.sync.client.connect(f'ws://{host}/v1/stream', subprotocols=['evg.v1']) as stream:
            assert json.loads(stream.recv())['type'] == 'ready'
            for number, (frame, known) in enumerate(zip(frames, expected, strict=True)):
                answer = requests.post(f'http://{host}/v1/gaze', frame, headers={'Content-Type': 'image/jpeg'})
                by_post = answer.json()['faces'][0]
                stream.send(struct.pack('<Id', number, 0.0) + frame)
                by_stream = json.loads(stream.recv())['faces'][0]
                for face in (by_post, by_stream):
                    np.testing.assert_allclose(face['screen_px'], known.screen_px, atol=1e-6)
                    np.testing.assert_allclose(face['plane_mm'], known.plane_mm, atol=1e-6)
        # A model of whole frames cannot answer the Atlas client, and says so.
        answer = requests.post(f'http://{host}/inferenceByom/', files={'face': frames[0]})
        assert (answer.status_code, 'configs/regression' in answer.json()['detail']) == (422, True)


def test_two_faces_are_answered_the_largest_first():
    face = skimage.data.astronaut()[20:260, 100:340, ::-1]
    image = np.zeros((480, 800, 3), np.uint8)
    image[:260, :260], image[:480, 300:780] = cv2.resize(face, (260, 260)), cv2.resize(face, (480, 480))
    data = cv2.imencode('.png', image)[1].tobytes()
    model = ('landmark', '--face-model', MODELS / 'face_landmarker.task')
    for args, places in (((), [True]), (('--max-faces', 2), [True, False])):
        with Tool(*model, *args) as host:
            answer = requests.post(f'http://{host}/v1/gaze', data, headers={'Content-Type': 'image/png'}).json()
        assert [face['face_box_px'][0] > 300 for face in answer['faces']] == places  # the large one is on the right


def test_a_board_serves_whole_frames_without_torch_and_mediapipe(tmp_path):
    """With a stand-in for pyACL, whose .om is the ONNX file: the answers are those of ONNX Runtime."""
    made = model_folder(tmp_path / 'model', *network(PLANE), om='float32')
    (tmp_path / 'modules').mkdir()
    env = without(tmp_path / 'modules', ['torch', 'mmengine', 'mmcv', 'mediapipe', 'pyarrow', 'h5py', 'scipy', 'av'])
    lines = ['import sys', f'sys.path.append({str(ROOT / "tests")!r})', 'from fake_acl import FakeAcl']
    (tmp_path / 'modules' / 'acl.py').write_text('\n'.join([*lines, 'sys.modules[__name__] = FakeAcl()']))
    frame = _frames(1)[0]
    with GazePredictor(str(made), Screen.from_diagonal(), backend='onnxruntime') as predictor:
        known = predictor.predict(cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_COLOR))[0]
    with Tool(made, '--backend', 'acl', env=env) as host:
        answer = requests.post(f'http://{host}/v1/gaze', frame, headers={'Content-Type': 'image/jpeg'})
    np.testing.assert_allclose(answer.json()['faces'][0]['screen_px'], known.screen_px, atol=1e-3)


def test_the_atlas_client_gets_the_networks_answer(tmp_path):
    """The whole of the sample's exchange: a JPEG of a normalised face in, "pitch yaw" out."""
    made = str(model_folder(tmp_path, *network(PATCH)))
    faces = _frames(2)
    with GazeModel.load(made) as model:
        images = [cv2.imdecode(np.frombuffer(face, np.uint8), cv2.IMREAD_COLOR) for face in faces]
        expected = [answer['pred_pitchyaw_rad'] for answer in model.predict(images)]
    assert abs(expected[0] - expected[1]).max() > 1e-4
    with serving(factory=functools.partial(patch_predictor, made)) as (host, _), requests.session() as session:
        for face, known in zip(faces, expected, strict=True):
            words = session.post(f'http://{host}/inferenceByom/', files={'face': face}).text.split(' ')
            np.testing.assert_allclose([float(word) for word in words], known, atol=1e-6)


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['no/such/folder'], 'there is no model no/such/folder'),
        (['landmark', '--face-model', 'nowhere.task'], 'nowhere.task'),
        (['landmark', '--screen', 'nowhere.json'], 'nowhere.json'),
        (['landmark', '--host', '0.0.0.0'], '--certfile'),
        (['landmark', '--token', 'short'], '16 to 256'),
        (['landmark', '--workers', '0'], 'workers'),
        (['landmark', '--min-score', '2'], 'min_score'),
        (['landmark', '--max-faces', '0'], 'max_faces'),
        (['landmark', '--host', '0.0.0.0', '--token', 'x' * 20, '--certfile', 'a', '--keyfile', 'b'], 'for TLS'),
    ],
)
def test_a_mistake_is_said_in_one_line(args, words):
    done = subprocess.run(
        [sys.executable, 'tools/serve.py', *args, '--port', '0'], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count('\n')) == (2, 1)
    assert words in done.stderr


def test_an_address_in_use_is_said_in_one_line():
    with socket.create_server(('127.0.0.1', 0)) as taken:
        command = [sys.executable, 'tools/serve.py', '--port', str(taken.getsockname()[1])]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith('error: cannot listen at 127.0.0.1')


def test_the_server_process_itself_loads_no_model_library():
    heavy = ('torch', 'cv2', 'onnxruntime', 'mediapipe')
    code = f'import sys, evg.serve.app; print([name for name in {heavy} if name in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ('[]', '')
