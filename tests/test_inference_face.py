"""The real front ends on a real photograph and on synthetic faces. Their model files are in EVG_TEST_MODELS."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from conftest import ROOT
from model_folders import model_folder, network

from evg.errors import UserError
from evg.inference import Camera, GazePredictor, Screen
from evg.inference.face import MEDIAPIPE, SOURCES, YUNET, MediaPipeFace, YuNetFace, load_front_end, model_file
from evg.inference.head_pose import head_pose
from evg.synthetic import SyntheticWorld

MODELS = Path(os.environ.get('EVG_TEST_MODELS', ROOT.parent / 'shared' / 'models'))
FILES = {MEDIAPIPE: MODELS / 'face_landmarker.task', YUNET: MODELS / 'face_detection_yunet.onnx'}
SCREEN = Screen.from_diagonal()
# Points of the photograph, read off by eye: the person's right and left pupil, tip of the nose.
PUPILS, NOSE = np.array([[204.2, 101.2], [246.4, 103.2]]), np.array([223.6, 127])


@pytest.fixture(scope='module')
def photograph():
    """NASA's portrait of an astronaut (public domain), who looks into the camera; 512 x 512."""
    return np.ascontiguousarray(skimage.data.astronaut()[..., ::-1])


@pytest.fixture(scope='module')
def mediapipe():
    front_end = MediaPipeFace(FILES[MEDIAPIPE], max_faces=2)
    yield front_end
    front_end.close()


@pytest.fixture(scope='module')
def yunet():
    return YuNetFace(FILES[YUNET], max_faces=2)


def test_both_find_the_face(photograph, mediapipe, yunet):
    (mesh,), (five,) = mediapipe.detect(photograph), yunet.detect(photograph)
    assert (mesh.scheme, mesh.landmarks_px.shape) == (MEDIAPIPE, (478, 2))
    assert (five.scheme, five.landmarks_px.shape) == (YUNET, (5, 2))
    np.testing.assert_allclose(mesh.landmarks_px[[468, 473]], PUPILS, atol=2)
    np.testing.assert_allclose(five.landmarks_px[:2], PUPILS, atol=5)
    np.testing.assert_allclose(mesh.landmarks_px[4], NOSE, atol=3)
    for face in (mesh, five):
        assert (face.box_px[:2] < PUPILS.min(axis=0)).all() and (face.box_px[2:] > PUPILS.max(axis=0)).all()
    assert 0.6 < five.score <= 1


def test_both_put_the_head_into_the_same_place(photograph, mediapipe, yunet):
    camera = Camera.from_field_of_view((512, 512))
    by_mesh, by_five = (head_pose(front.detect(photograph)[0], camera) for front in (mediapipe, yunet))
    apart = cv2.Rodrigues(by_mesh.rotation @ by_five.rotation.T)[0]
    assert np.degrees(np.linalg.norm(apart)) < 10
    assert np.linalg.norm(by_mesh.face_center_mm - by_five.face_center_mm) < 0.1 * by_mesh.face_center_mm[2]


def test_points_scale_with_the_picture(photograph, mediapipe, yunet):
    # 1700 px is more than YuNet is shown.
    large = cv2.resize(photograph, (1700, 1700), interpolation=cv2.INTER_CUBIC)
    for front, tolerance in ((mediapipe, 1.5), (yunet, 7)):
        small, big = front.detect(photograph)[0].landmarks_px, front.detect(large)[0].landmarks_px
        # Outer edges onto outer edges.
        assert np.abs((big + 0.5) * 512 / 1700 - 0.5 - small).max() < tolerance


def test_the_landmark_model_sees_where_the_photograph_looks(photograph):
    with GazePredictor('landmark', SCREEN, face=FILES[MEDIAPIPE]) as predictor:
        assert predictor.identity == 'landmark-1-mediapipe'
        (result,) = predictor.predict(photograph)
        (mirrored,) = predictor.predict(np.ascontiguousarray(photograph[:, ::-1]))
        (nothing,) = predictor.predict(np.full((240, 320, 3), 90, np.uint8))
    assert result.found and result.eyes_open == 1 and result.score > 0.5
    to_camera = -result.origin_mm / np.linalg.norm(result.origin_mm)
    # An iris has 8 px here: 1 px is 8 degrees.
    assert np.degrees(np.arccos(result.gaze @ to_camera)) < 12
    assert np.degrees(np.arccos(mirrored.gaze @ (result.gaze * (-1, 1, 1)))) < 9
    np.testing.assert_allclose(mirrored.origin_mm, result.origin_mm * (-1, 1, 1), atol=15)
    assert (nothing.found, nothing.reason) == (False, 'no face')


def test_yunet_gives_a_network_of_face_patches_the_face_of_the_photograph(photograph, yunet, tmp_path):
    folder = model_folder(tmp_path, *network('configs/regression/nano_synth_96.py'))  # random weights
    with GazePredictor(folder, SCREEN, face=yunet) as predictor:
        assert predictor.identity.endswith('-yunet')
        (result,) = predictor.predict(photograph)
    assert result.found and (result.landmarks_px.shape, result.eyes_open) == ((5, 2), None)
    for points in (result.landmarks_px, [*PUPILS, NOSE], [result.face_center_px]):
        assert (points > result.face_box_px[:2]).all() and (points < result.face_box_px[2:]).all()
    # The gaze is the network's own, turned back from the patch by hand: its z axis leads to the face, its x axis is as
    # level as the head's (Zhang et al. 2018).
    z = result.origin_mm / np.linalg.norm(result.origin_mm)
    y = np.cross(z, result.head_rotation[:, 0])
    y /= np.linalg.norm(y)
    own = np.stack([np.cross(y, z), y, z]).T @ result.gaze_normalised
    np.testing.assert_allclose(result.gaze, own, atol=1e-9)
    assert np.linalg.norm(result.gaze) == pytest.approx(1)
    # The face is upright, nearly from the front, left of the middle and above it. Pupils that are 63 mm apart in truth
    # and 42 px in the picture, at a focal length of 256 / tan 30 degrees = 443 px, are 660 mm away.
    assert np.degrees(np.arccos(result.head_rotation.diagonal())).max() < 25
    assert (result.origin_mm[:2] < 0).all() and result.origin_mm[2] == pytest.approx(660, rel=0.15)


def test_the_landmark_model_on_synthetic_faces():
    world = SyntheticWorld('close', (640, 480))
    angles, blinks = [], []
    with GazePredictor(
        'landmark', SCREEN, camera=Camera(world.rig.camera_matrix, (640, 480)), face=FILES[MEDIAPIPE]
    ) as p:
        for person in range(12):
            frame = world.frame(person, 3)
            (result,) = p.predict(frame.image)
            assert result.found
            truth = frame.target_cam_mm - (frame.left_eye_mm + frame.right_eye_mm) / 2
            angles.append(np.degrees(np.arccos(result.gaze @ truth / np.linalg.norm(truth))))
            blinks.append((frame.eye_openness, result.eyes_open))
    # docs/predictor.md has the figures: about 4 degrees without a calibration; looking at the camera only would be 15.
    assert np.median(angles) < 6
    assert all((opened > 0.5) == (seen > 0.5) for opened, seen in blinks)


def test_several_faces_come_largest_first(photograph, mediapipe, yunet):
    face = photograph[20:260, 100:340]
    picture = np.zeros((480, 800, 3), np.uint8)
    picture[:260, :260] = cv2.resize(face, (260, 260))
    picture[:480, 300:780] = cv2.resize(face, (480, 480))
    for front in (mediapipe, yunet):
        first, second = front.detect(picture)
        assert first.box_px[0] > 300 and second.box_px[2] < 260
    assert len(YuNetFace(FILES[YUNET]).detect(picture)) == 1


@pytest.mark.parametrize('scheme', [MEDIAPIPE, YUNET])
def test_a_missing_model_tells_how_to_get_it(scheme, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('EVG_FACE_MODELS', str(tmp_path / 'mine'))
    with pytest.raises(UserError) as caught:
        model_file(scheme)
    told, source = str(caught.value), SOURCES[scheme]
    assert all(part in told for part in (source.file, source.url, source.sha256, str(tmp_path / 'mine')))
    # The command does what it says, here with a file in place of the server's.
    (tmp_path / 'fake').write_bytes(b'x')
    path = tmp_path / '.cache' / 'evg' / source.file
    command = re.search(r'by: (mkdir.*)$', told)[1].replace(source.url, (tmp_path / 'fake').as_uri())
    done = subprocess.run(['bash', '-c', command], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and 'FAILED' in done.stdout  # not the file of that sha256
    assert not path.exists()
    with pytest.raises(UserError, match='is not in'):
        model_file(scheme)
    right = command.replace(source.sha256, hashlib.sha256(b'x').hexdigest())
    subprocess.run(['bash', '-c', right], capture_output=True, check=True)
    assert path.read_bytes() == b'x' and list(path.parent.iterdir()) == [path]
    assert model_file(scheme) == path
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / source.file).write_bytes(b'y')
    assert model_file(scheme) == tmp_path / 'mine' / source.file


def test_the_test_models_are_the_published_files():
    for scheme, path in FILES.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == SOURCES[scheme].sha256


@pytest.mark.parametrize('suffix', ['.task', '.onnx'])
def test_what_is_no_model_is_refused(suffix, tmp_path):
    path = tmp_path / f'broken{suffix}'
    with pytest.raises(UserError, match='there is no face model'):
        load_front_end(path)
    path.write_bytes(b'not a model')
    with pytest.raises(UserError, match=r'is no .* model: get it'):
        load_front_end(path)
    with pytest.raises(UserError, match=r'face_landmarker\.task \(MediaPipe\)'):
        load_front_end(tmp_path / 'model.pt')


def test_mediapipe_starts_and_ends_in_silence():
    code = (
        'import sys; from evg.inference.face import MediaPipeFace; import numpy as np;'
        f'front = MediaPipeFace({str(FILES[MEDIAPIPE])!r}); print(front.detect(np.zeros((90, 120, 3), np.uint8)))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ('[]', '')
