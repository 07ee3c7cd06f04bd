"""From frame to result: the chain of geometry is exact with exact parts, and every kind of model is served."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from model_folders import model_folder, network

from evg.datasets.transforms import NormaliseFace
from evg.deploy.model_file import InputSpec, ModelFile, OutputSpec, Patch
from evg.deploy.runtime import GazeModel
from evg.engine.meaning import decoding
from evg.errors import UserError
from evg.geometry import InputFrame, Normaliser
from evg.geometry.warp import normalise_input
from evg.inference import Camera, GazePredictor, Screen, predictor
from evg.inference.checkpoint import parse_config
from evg.inference.face import MEDIAPIPE, YUNET, FaceObservation
from evg.inference.head_pose import HeadPose
from evg.synthetic import SyntheticWorld

WORLD = SyntheticWorld('close', (320, 240))
CAMERA = Camera(WORLD.rig.camera_matrix, (320, 240))
SCREEN = Screen((1920, 1080), (553, 311), (279.5, -15, -3), -3)
TARGETS = np.array([[960, 540], [100, 60], [1850, 1000], [1700, -200]], float)
IMAGENET = dict(channel_order='rgb', mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class LabelledFaces:
    """A front end that knows the labels of synthetic frames."""

    name, scheme = 'labels', MEDIAPIPE

    def __init__(self, *frames):
        self.frames = list(frames)

    def detect(self, image):
        faces = []
        for frame in self.frames:
            pose = HeadPose(frame.head_rotation, frame.face_origin_mm, frame.right_eye_mm, frame.left_eye_mm)
            landmarks = np.tile(frame.landmarks_px.mean(axis=0), (478, 1))
            faces.append(FaceObservation(frame.face_box_px, landmarks, self.scheme, 0.75, pose))
        return faces

    def close(self):
        pass


class Answers:
    """A session of the runtime that gives prepared raw outputs, and keeps what it was shown."""

    batch, takes_pixels, providers = None, False, ('test',)

    def __init__(self, **raw):
        self.raw, self.inputs = {k: np.asarray(v, np.float64) for k, v in raw.items()}, None

    def run(self, inputs):
        self.inputs = inputs
        return {name: value[: len(inputs)] for name, value in self.raw.items()}

    def close(self):
        pass


def stub(session, task, output, codec, patch=None, plane_rule=None, gaze_frame=None) -> GazeModel:
    frame = InputFrame(patch.normaliser.size_px if patch else (160, 120), pad=0)
    spec = InputSpec(frame.input_size, frame, **IMAGENET, batch=None)
    codec = {**codec, 'input_frame': {'size': frame.size, 'pad': 0, 'keep_aspect': False}}
    outputs = (OutputSpec(output, (None, 2)),)
    file = ModelFile('stub', task, spec, outputs, {'main': codec}, 11, patch, gaze_frame, None, plane_rule)
    return GazeModel(file, session, 'test')


@pytest.fixture
def predict_with(monkeypatch):
    """A predictor whose network is the given one."""

    def make(model, face=None, screen=SCREEN, camera=CAMERA, max_faces=4):
        monkeypatch.setattr(predictor, 'load_model', lambda *_: model)
        return GazePredictor('stub', screen, camera=camera, face=face, max_faces=max_faces)

    return make


def rotation_by_hand(center, head_x):
    """Zhang et al. 2018: z to the face, x as level as the head's."""
    z = center / np.linalg.norm(center)
    y = np.cross(z, head_x)
    y /= np.linalg.norm(y)
    return np.stack([np.cross(y, z), y, z])


def angles_by_hand(n):
    n = n / np.linalg.norm(n)
    return [np.arcsin(-n[1]), np.arctan2(-n[0], -n[2])]


@pytest.mark.parametrize('part', ['face', 'left_eye', 'right_eye'])
@pytest.mark.parametrize('scaling', ['r', 'sr'])
def test_true_angles_of_a_patch_give_the_true_point(predict_with, part, scaling):
    frames = [WORLD.frame(person, 0) for person in range(len(TARGETS))]
    normaliser = Normaliser(960, 600, (64, 48), scaling)
    starts = [{'face': f.face_origin_mm, 'left_eye': f.left_eye_mm, 'right_eye': f.right_eye_mm}[part] for f in frames]
    truth, raw = [], []
    for frame, start, target in zip(frames, starts, TARGETS, strict=True):
        gaze = SCREEN.px_to_camera(target) - start
        matrix = rotation_by_hand(start, frame.head_rotation[:, 0])
        if scaling == 'sr':
            matrix = np.diag([1, 1, 600 / np.linalg.norm(start)]) @ matrix
        truth.append(gaze / np.linalg.norm(gaze))
        raw.append(angles_by_hand(matrix @ gaze))
    session = Answers(pitchyaw=raw)
    codec = {'type': 'PitchYawCodec', 'gaze_frame': normaliser.gaze_frame}
    model = stub(session, 'gaze', 'pitchyaw', codec, Patch(part, normaliser), gaze_frame=normaliser.gaze_frame)
    results = predict_with(model, LabelledFaces(*frames)).predict(frames[0].image, 40.0)
    assert len(results) == len(TARGETS)
    for result, target, gaze, start in zip(results, TARGETS, truth, starts, strict=True):
        mm = (result.screen_px - target) * np.divide(SCREEN.size_mm, SCREEN.size_px)
        assert np.linalg.norm(mm) < 1e-3
        np.testing.assert_allclose(result.gaze, gaze, atol=1e-9)
        np.testing.assert_allclose(result.origin_mm, start)
        np.testing.assert_allclose(result.pitchyaw_rad, angles_by_hand(gaze), atol=1e-9)
        on_plane = start - gaze * start[2] / gaze[2]
        np.testing.assert_allclose(result.plane_mm, (-on_plane[0], on_plane[1]), atol=1e-6)
        assert (result.gaze_frame, result.found, result.score) == (normaliser.gaze_frame, True, 0.75)
        assert result.on_screen == (target[1] > 0)
        assert result.timestamp_ms == 40 and set(result.times_ms) == {'detect', 'prepare', 'network', 'decode', 'total'}


def test_patches_are_those_of_training(predict_with):
    frame, normaliser = WORLD.frame(3, 1), Normaliser(300, 600, (96, 96))
    results = {
        'img': frame.image, 'rig': WORLD.rig, 'sample_id': 'a', 'gt_origin_mm': frame.face_origin_mm,
        'gt_head_rvec': cv2.Rodrigues(frame.head_rotation)[0].reshape(3), 'gt_target_mm': frame.target_cam_mm,
        'gt_eye_landmarks_px': None, 'gt_pupil_landmarks_px': None,
    }  # fmt: skip
    expected = NormaliseFace(normaliser)(results)
    session = Answers(pitchyaw=[angles_by_hand(expected['gt_gaze'])])
    codec = {'type': 'PitchYawCodec', 'gaze_frame': 'normalised_r'}
    model = stub(session, 'gaze', 'pitchyaw', codec, Patch('face', normaliser), gaze_frame='normalised_r')
    (result,) = predict_with(model, LabelledFaces(frame)).predict(frame.image)
    np.testing.assert_array_equal(session.inputs[0], normalise_input(expected['img'], **IMAGENET))
    np.testing.assert_allclose(result.gaze_normalised, expected['gt_gaze'], atol=1e-9)
    truth = frame.target_cam_mm - frame.face_origin_mm
    np.testing.assert_allclose(result.gaze, truth / np.linalg.norm(truth), atol=1e-9)


@pytest.mark.parametrize('rule', ['offset', 'ray', 'projection'])
@pytest.mark.parametrize('with_face', [False, True])
def test_true_plane_points_of_frames_give_the_true_point(predict_with, rule, with_face):
    frame, target = WORLD.frame(0, 0), TARGETS[1]
    point, origin = SCREEN.px_to_camera(target), frame.face_origin_mm
    if rule == 'offset':  # the screen is laid into the plane, its corner beside the camera
        plane = target * np.divide(SCREEN.size_mm, SCREEN.size_px) - SCREEN.camera_mm[:2]
    elif rule == 'ray' and with_face:
        on_plane = origin + (point - origin) * origin[2] / (origin[2] - point[2])
        plane = np.array([-on_plane[0], on_plane[1]])
    else:
        plane = np.array([-point[0], point[1]])
    codec = {'type': 'VPPointCodec', 'vp_size_px': [1000, 800], 'ppm': 0.5}
    model = stub(Answers(point=[plane * 0.5 / 500]), 'plane', 'point', codec, plane_rule=rule)
    face = LabelledFaces(frame) if with_face else None
    (result,) = predict_with(model, face).predict(frame.image)
    np.testing.assert_allclose(result.plane_mm, plane)
    np.testing.assert_allclose(result.screen_px, target, atol=1e-6)
    np.testing.assert_allclose(result.plane_cm, plane / 10)
    assert result.found and result.on_screen
    if with_face:
        np.testing.assert_allclose(result.gaze, (point - origin) / np.linalg.norm(point - origin), atol=1e-9)
    else:
        assert result.gaze is None and result.origin_mm is None


def test_batches_answer_as_single_frames_and_keep_their_places(predict_with):
    frames = [WORLD.frame(person, 0) for person in range(3)]
    codec = {'type': 'VPPointCodec', 'vp_size_px': [1000, 800], 'ppm': 0.5}
    raw = [[0.1, 0.0], [0.2, 0.1], [np.nan, 0.0]]
    model = stub(Answers(point=raw), 'plane', 'point', codec, plane_rule='offset')
    answers = predict_with(model).predict_batch([f.image for f in frames], [1, 2, 3])
    np.testing.assert_allclose([a[0].plane_mm for a in answers[:2]], np.array(raw[:2]) * 1000)
    assert [a[0].timestamp_ms for a in answers] == [1, 2, 3]
    assert (answers[2][0].found, answers[2][0].reason) == (False, 'no finite answer')
    assert predict_with(model).predict_batch([]) == []


@pytest.mark.parametrize('patch', [None, Patch('face', Normaliser(960, 600, (64, 64)))])
def test_no_face_is_a_result(predict_with, patch):
    task = ('plane', 'point', {'type': 'VPPointCodec', 'vp_size_px': [1000, 800], 'ppm': 0.5})
    if patch:
        task = ('gaze', 'pitchyaw', {'type': 'PitchYawCodec', 'gaze_frame': 'normalised_r'})
    model = stub(Answers(**{task[1]: [[0.0, 0.0]]}), *task, patch, gaze_frame='normalised_r', plane_rule='offset')
    (result,) = predict_with(model, LabelledFaces()).predict(np.zeros((240, 320, 3), np.uint8), 7)
    assert (result.found, result.reason, result.timestamp_ms) == (False, 'no face', 7)
    assert result.times_ms['total'] > 0


def test_a_face_without_a_pose_has_no_patch(predict_with):
    class Flat(LabelledFaces):
        def detect(self, image):
            return [FaceObservation(np.array([0, 0, 9, 9.0]), np.full((478, 2), np.nan), MEDIAPIPE)]

    codec = {'type': 'PitchYawCodec', 'gaze_frame': 'normalised_r'}
    patch = Patch('face', Normaliser(960, 600, (64, 64)))
    model = stub(Answers(pitchyaw=[[0, 0]]), 'gaze', 'pitchyaw', codec, patch, gaze_frame='normalised_r')
    (result,) = predict_with(model, Flat()).predict(np.zeros((240, 320, 3), np.uint8))
    assert (result.found, result.reason, result.gaze) == (False, 'no head pose', None)


def test_gaze_away_from_the_screen_has_no_point(predict_with):
    frame = WORLD.frame(0, 0)
    codec = {'type': 'PitchYawCodec', 'gaze_frame': 'normalised_r'}
    patch = Patch('face', Normaliser(960, 600, (64, 64)))
    model = stub(Answers(pitchyaw=[[0, np.pi]]), 'gaze', 'pitchyaw', codec, patch, gaze_frame='normalised_r')
    (result,) = predict_with(model, LabelledFaces(frame)).predict(frame.image)
    assert (result.found, result.screen_px, result.plane_mm, result.on_screen) == (True, None, None, False)


def test_another_screen_for_one_call(predict_with):
    frame, other = WORLD.frame(0, 0), Screen((800, 600), (200, 150), (100, 0, 0))
    codec = {'type': 'VPPointCodec', 'vp_size_px': [1000, 800], 'ppm': 0.5}
    model = stub(Answers(point=[[0.01, 0.02]]), 'plane', 'point', codec, plane_rule='offset')
    (result,) = predict_with(model).predict(frame.image, screen=other)
    # By hand: (10, 20) mm on the plane, the corner 100 mm to the left, 4 px per mm.
    np.testing.assert_allclose(result.screen_px, [440, 80])


def test_distortion_is_taken_out_before_anything_else(predict_with):
    lens = Camera(CAMERA.matrix, (320, 240), [-0.3, 0.1, 0, 0])
    seen = []

    class Looks(LabelledFaces):
        def detect(self, image):
            seen.append(image)
            return []

    codec = {'type': 'VPPointCodec', 'vp_size_px': [1000, 800], 'ppm': 0.5}
    model = stub(Answers(point=[[0, 0]]), 'plane', 'point', codec, plane_rule='offset')
    frame = WORLD.frame(0, 0)
    used = predict_with(model, Looks(), camera=lens)
    used.predict(frame.image)
    np.testing.assert_array_equal(seen[0], lens.undistort(frame.image))
    assert used.camera_identity == lens.identity() != CAMERA.identity()
    with pytest.raises(UserError, match='another shape'):
        used.predict(np.zeros((300, 300, 3), np.uint8))


def test_predict_patch_gives_what_the_atlas_client_asks_for(predict_with):
    codec = {'type': 'PitchYawCodec', 'gaze_frame': 'normalised_r'}
    patch = Patch('face', Normaliser(960, 600, (224, 224)))
    model = stub(Answers(pitchyaw=[[0.25, -0.5]]), 'gaze', 'pitchyaw', codec, patch, gaze_frame='normalised_r')
    angles = predict_with(model, LabelledFaces()).predict_patch(np.zeros((224, 224, 3), np.uint8))
    assert angles.tolist() == [0.25, -0.5]
    codec = {'type': 'VPPointCodec', 'vp_size_px': [1000, 800], 'ppm': 0.5}
    model = stub(Answers(point=[[0, 0]]), 'plane', 'point', codec, plane_rule='offset')
    with pytest.raises(UserError, match='does not take normalised faces'):
        predict_with(model).predict_patch(np.zeros((224, 224, 3), np.uint8))


@pytest.mark.parametrize(
    ('task', 'codec', 'message'),
    [
        ('gaze', {'type': 'PitchYawCodec', 'gaze_frame': 'normalised_r'}, 'how its patches are made'),
        ('landmarks', {'type': 'LandmarkHeatmapCodec'}, 'landmarks of an eye'),
    ],
)
def test_models_that_cannot_be_served_are_refused(predict_with, task, codec, message):
    model = stub(Answers(), task, 'gaze', codec, gaze_frame=codec.get('gaze_frame'))
    with pytest.raises(UserError, match=message):
        predict_with(model)


def test_wrong_use_is_named(tmp_path):
    with pytest.raises(UserError, match=r'there is no model .*nothing'):
        GazePredictor(tmp_path / 'nothing', SCREEN)
    with pytest.raises(UserError, match='max_faces'):
        GazePredictor('landmark', SCREEN, max_faces=0)

    class Five(LabelledFaces):
        scheme = YUNET

    with pytest.raises(UserError, match='MediaPipe'):
        GazePredictor('landmark', SCREEN, face=Five())
    with (
        GazePredictor('landmark', SCREEN, face=LabelledFaces()) as used,
        pytest.raises(ValueError, match=r'\(H, W, 3\) uint8'),
    ):
        used.predict(np.zeros((10, 10), np.uint8))


def test_a_folder_and_its_checkpoint_give_the_same(tmp_path):
    cfg, model = network()
    folder = model_folder(tmp_path / 'folder', cfg, model)
    path = tmp_path / 'model_1.pth'
    meta = {'cfg': cfg.pretty_text, 'experiment_name': 'nano_synth_160_20260102_030405', 'decoding': decoding(cfg)}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, path)
    frames = [WORLD.frame(person, 0) for person in range(3)]
    answers = {}
    for source in (folder, path):
        with GazePredictor(source, SCREEN, camera=CAMERA, face=LabelledFaces(frames[0])) as used:
            assert used.name == 'nano_synth_160'
            assert used.identity.startswith('nano_synth_160-') and used.identity.endswith('-labels')
            answers[source] = used.predict_batch([frame.image for frame in frames])
    for (a,), (b,) in zip(answers[folder], answers[path], strict=True):
        assert np.linalg.norm(a.plane_mm - b.plane_mm) < 0.05
        np.testing.assert_allclose(a.face_center_px, b.face_center_px, atol=0.05)
        assert a.score == pytest.approx(b.score, abs=1e-4)
    with pytest.raises(UserError, match='device'):
        GazePredictor(path, SCREEN, device='nowhere')


def test_a_config_is_read_without_running_it(tmp_path):
    text = "a = dict(b=[1, (2.5, None)], c={'d': -3})\ne = 'x'\nf = {1, 2}"
    assert parse_config(text, 'f') == {'a': {'b': [1, (2.5, None)], 'c': {'d': -3}}, 'e': 'x', 'f': {1, 2}}
    for bad in ('import os', "a = __import__('os')", 'a = dict(**b)', 'a = dict(1)', 'a.b = 1', 'a = b', 'a ='):
        with pytest.raises(UserError, match='ckpt: its config'):
            parse_config(bad, 'ckpt')
    path = tmp_path / 'bare.pth'
    torch.save({'state_dict': {}}, path)
    with pytest.raises(UserError, match='holds no config'):
        GazePredictor(path, SCREEN)


def test_predicting_needs_no_torch():
    code = 'import sys, evg.inference.predictor; print("torch" in sys.modules, "mmengine" in sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ('False False', '')
