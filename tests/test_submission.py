"""Submission files, read back as the format is described."""

import gzip
import json
import math
import pickle
import zipfile

import numpy as np
import pytest
import torch
from conftest import ROOT, run_tool
from numpy.testing import assert_allclose
from test_prepare_ethxgaze import write_person
from test_prepare_eve import withheld, write_recording

from evg.config import load_config
from evg.datasets.ethxgaze import EthXGazeConverter
from evg.datasets.eve import EveConverter
from evg.datasets.gaze_dataset import GazeDataset
from evg.datasets.index import read_index, write_index
from evg.datasets.prepare import prepare
from evg.engine.leak_guard import META_KEY
from evg.errors import UserError
from evg.evaluation.submission import XGAZE_TEST_ORDER, write_eve, write_submission, write_xgaze
from evg.geometry import Rig
from evg.registry import METRICS, MODELS
from evg.structures import GazeDataSample

UP_10 = [0, -math.sin(math.radians(10)), -math.cos(math.radians(10))]
USERS_RIGHT_20 = [-math.sin(math.radians(20)), 0, -math.cos(math.radians(20))]
AHEAD = [0, 0, -1]


def test_xgaze_is_in_the_order_of_the_json_then_of_the_file(tmp_path):
    subjects, frames = ['subject0001', 'subject0020', 'subject0020', 'subject0001'], [1, 1, 0, 0]
    gaze = [AHEAD, UP_10, USERS_RIGHT_20, UP_10]
    write_xgaze(tmp_path / 'r.txt', subjects, frames, gaze, ['subject0020', 'subject0001'])
    lines = (tmp_path / 'r.txt').read_text().splitlines()
    assert all(line.count(',') == 1 for line in lines)
    values = np.degrees([[float(cell) for cell in line.split(',')] for line in lines])
    # (pitch, yaw): 20 to the right, 10 up; then 10 up, straight ahead.
    assert_allclose(values, [[0, 20], [10, 0], [10, 0], [0, 0]], atol=1e-9)


def test_the_persons_of_the_json():
    assert len(XGAZE_TEST_ORDER) == 15
    assert XGAZE_TEST_ORDER[9:12] == ('subject0087', 'subject0049', 'subject0091')


@pytest.mark.parametrize(
    ('subjects', 'frames', 'gaze', 'message'),
    [
        (['a', 'b'], [0, 0], [AHEAD, AHEAD], 'without an answer: none; too many: b'),
        (['b', 'b'], [0, 1], [AHEAD, AHEAD], 'without an answer: a; too many: b'),
        (['a', 'a'], [0, 2], [AHEAD, AHEAD], 'not all there'),
        (['a', 'a'], [0, 1], [AHEAD, [math.nan] * 3], 'no predicted gaze vector'),
    ],
)
def test_xgaze_refuses_what_the_server_would_misread(tmp_path, subjects, frames, gaze, message):
    with pytest.raises(UserError, match=message):
        write_xgaze(tmp_path / 'r.txt', subjects, frames, gaze, ['a'])
    assert not list(tmp_path.iterdir())


def unpacked(path):
    """The content of EVE's file."""
    with zipfile.ZipFile(path) as archive:
        (name,) = archive.namelist()
        data = gzip.decompress(archive.read(name))
    assert data[:2] == b'\x80\x03'  # pickle protocol 3
    return pickle.loads(data)


def test_eve_at_10_hz_in_sequences_of_30(tmp_path):
    """A webcam's recording of 94 frames: 0, 3, ... 93 are 32, filled up to 60; another of 2 frames; a basler's of 7."""
    counts = {('test01', 'step008', 'webcam_c'): 94, ('test02', 'step010', 'webcam_c'): 2}
    counts['test02', 'step010', 'basler'] = 7
    keys, frames = zip(*((key, n) for key, count in counts.items() for n in reversed(range(count))), strict=True)
    points = [[10.0 * n, n / 2] for n in frames]
    # Nanoseconds of this size do not fit a float64.
    start = 1583749821456789013
    write_eve(
        tmp_path / 's.zip', *zip(*keys, strict=True), frames, points,
        lambda *key: [start + n for n in range(counts[key])],
    )  # fmt: skip
    content = unpacked(tmp_path / 's.zip')
    assert {p: {s: sorted(c) for s, c in steps.items()} for p, steps in content.items()} == {
        'test01': {'step008': ['webcam_c']}, 'test02': {'step010': ['basler', 'webcam_c']},
    }  # fmt: skip
    one = content['test01']['step008']['webcam_c']
    assert sorted(one) == ['PoG_px_final', 'PoG_px_initial', 'left_pupil_size', 'right_pupil_size', 'timestamps']
    assert one['timestamps'].tolist() == [start + 3 * i for i in range(32)] + [0] * 28
    assert one['PoG_px_final'].tolist() == one['PoG_px_initial'].tolist()
    assert one['PoG_px_final'].tolist() == [[30.0 * i, 1.5 * i] for i in range(32)] + [[0, 0]] * 28
    assert one['left_pupil_size'].tolist() == one['right_pupil_size'].tolist() == [0] * 60
    assert content['test02']['step010']['basler']['PoG_px_final'][:3].tolist() == [[0, 0], [60, 3], [0, 0]]


@pytest.mark.parametrize(('frames', 'nan'), [((0, 6), False), ((0, 3, 6), True)])
def test_eve_needs_every_frame_at_10_hz(tmp_path, frames, nan):
    points = np.zeros((len(frames), 2))
    points[-1] = math.nan if nan else -5
    words = [[name] * len(frames) for name in ('test01', 'step008', 'webcam_c')]
    with pytest.raises(UserError, match=r'webcam_c: 1 of 3 frames at 10 Hz \(one in 3\) have no predicted'):
        write_eve(tmp_path / 's.zip', *words, frames, points, lambda *_: range(8))
    assert not list(tmp_path.iterdir())


def collected(samples):
    metric = METRICS.build({'type': 'Predictions'})
    metric.process(None, samples)
    assert metric.evaluate(len(samples)) == {'predictions/n': len(samples)}
    return metric.rows()


def test_from_the_index_and_the_answers_to_eves_file(tmp_path):
    """A point 30 mm to the right of and 20 mm below the camera at the middle of the top edge, 0.25 mm a px."""
    release = tmp_path / 'EVE/test01/step008'
    release.mkdir(parents=True)
    (release / 'webcam_c.timestamps.txt').write_text('100\n200\n300\n400\n500\n')
    rig = Rig((640, 360), (1920, 1080), (480.0, 270.0), (0.0, 135.0))
    row = dict(image='x.jpg', split='test', subject='test01', sequence='step008', camera='webcam_c', rig='r')
    rows = [row | dict(sample_id=f's{number}', frame=number) for number in range(5)]
    info = {'settings': {'src': str(tmp_path / 'EVE')}}
    write_index(tmp_path / 'index.parquet', rows, {'r': rig}, 'eve', info=info)
    samples = [
        GazeDataSample(f's{number}', '', 'test01', rig=rig, pred_plane_mm=np.array([30.0, 20.0 * number - 20]))
        for number in (3, 0)
    ]
    write_submission(tmp_path / 's.zip', read_index(tmp_path), collected(samples))
    one = unpacked(tmp_path / 's.zip')['test01']['step008']['webcam_c']
    assert one['timestamps'][:3].tolist() == [100, 400, 0]
    # 20 mm above the screen is moved onto it.
    assert_allclose(one['PoG_px_final'][:2], [[960 + 120, 0], [960 + 120, 160]])
    (release / 'webcam_c.timestamps.txt').unlink()
    with pytest.raises(UserError, match=r'webcam_c\.timestamps\.txt, which a submission needs, cannot be read'):
        write_submission(tmp_path / 's.zip', read_index(tmp_path), collected(samples))


def test_from_the_index_and_the_answers_to_xgazes_file(tmp_path):
    row = dict(image='x.jpg', split='test')
    rows = [row | dict(sample_id=name, subject=name, frame=0) for name in sorted(XGAZE_TEST_ORDER)]
    write_index(tmp_path / 'index.parquet', rows, {}, 'ethxgaze', gaze_frame='normalised_r')
    samples = []
    for name in sorted(XGAZE_TEST_ORDER):
        gaze = np.array(UP_10 if name == 'subject0087' else AHEAD)
        samples.append(GazeDataSample(name, '', name, pred_gaze=gaze))
    write_submission(tmp_path / 'r.txt', read_index(tmp_path), collected(samples))
    pitch = np.degrees(np.loadtxt(tmp_path / 'r.txt', delimiter=','))[:, 0]
    assert_allclose(pitch, [10 if number == 9 else 0 for number in range(15)], atol=1e-9)


def test_other_data_sets_have_no_server(tmp_path):
    row = dict(sample_id='a', image='x.jpg', split='test', subject='a')
    write_index(tmp_path / 'index.parquet', [row], {}, 'toy')
    with pytest.raises(UserError, match=r"'toy'; known: ethxgaze, eve"):
        write_submission(tmp_path / 'r', read_index(tmp_path), collected([GazeDataSample('a', '', 'a')]))


def checkpoint_of(cfg, folder, facts=None, **biases):
    """A checkpoint of the config's model; parameters whose name ends so get a value, their weights 0.

    `facts`: what the guard against leaks knows of its training.
    """
    state = MODELS.build(cfg.model).state_dict()
    for name, value in biases.items():
        (bias,) = (key for key in state if key.endswith(f'{name}.bias'))
        state[bias] = torch.tensor(value, dtype=torch.float32)
        state[bias.replace('.bias', '.weight')].zero_()
    meta = {'epoch': 1} | ({} if facts is None else {META_KEY: facts})
    torch.save({'state_dict': state, 'meta': meta}, folder / 'model_1.pth')
    return folder / 'model_1.pth'


def submit(config, checkpoint, file, options):
    done = run_tool('test', config, checkpoint, '--submission', file, '--cfg-options', *options)
    assert f'submission: {file}' in done.stdout


def test_xgaze_from_the_release_to_the_file(tmp_path):
    """A model that always answers 0.1 up and 0.2 to the left; the test files hold no labels."""
    src, data = tmp_path / 'xgaze_224', tmp_path / 'data'
    test = [f'{person}.h5' for person in XGAZE_TEST_ORDER]
    write_person(src / 'train/subject0003.h5')
    for number, name in enumerate(test):
        write_person(src / 'test' / name, 1 + number % 2, labelled=False)
    lists = {'train': ['subject0003.h5'], 'test': test, 'test_specific': []}
    (src / 'train_test_split.json').write_text(json.dumps(lists))
    prepare(EthXGazeConverter(str(src), 'within', ()), data, jobs=1)
    config = ROOT / 'configs/regression/resnet18_ethxgaze_224.py'
    options = [f'data_root={data}', 'test_dataloader.num_workers=0', 'model.backbone.pretrained=None']
    checkpoint = checkpoint_of(load_config(config, options), tmp_path, **{'heads.gaze.layers.0': (0.1, -0.2)})
    submit(config, checkpoint, tmp_path / 'r.txt', options)
    assert_allclose(np.loadtxt(tmp_path / 'r.txt', delimiter=','), [[0.1, -0.2]] * 22, atol=1e-6)


def test_eve_from_the_release_to_the_file(tmp_path):
    """A model that answers (67.3, 38.2) cells of 128 x 72, 30 VP px each, 3.3 VP px a mm: (30, 20) mm of the plane."""
    write_recording(tmp_path / 'EVE/test01/step008_image_x', withheld(), [('facial_landmarks', 3)])
    write_recording(tmp_path / 'EVE/val01/step008_image_x')
    prepare(EveConverter(str(tmp_path / 'EVE'), 'webcam_c', (480, 270), 3, 90), tmp_path / 'data', jobs=1)
    config = ROOT / 'configs/ctdet_gaze/mobv2_eve_480.py'
    options = [f'data_root={tmp_path / "data"}', 'test_dataloader.num_workers=0', 'model.backbone.pretrained=None']
    options += ['vp_size_px=(3840,2160)', 'ppm=3.3']
    heads = {'heads.heatmap.branch.2': (0.0,), 'heads.offset.branch.2': (67.3, 38.2)}
    checkpoint = checkpoint_of(load_config(config, options), tmp_path, **heads)
    submit(config, checkpoint, tmp_path / 's.zip', options)
    one = unpacked(tmp_path / 's.zip')['test01']['step008_image_x']['webcam_c']
    # 0.25 mm a px, from the middle of the top edge. The release's own timestamps of frames 0 and 3.
    assert_allclose(one['PoG_px_final'][:2], [[960 + 120, 80]] * 2, atol=1e-2)
    ticks = (tmp_path / 'EVE/test01/step008_image_x/webcam_c.timestamps.txt').read_text().split()
    assert one['timestamps'].tolist() == [int(ticks[0]), int(ticks[3]), *[0] * 28]
    # These rows serve nothing else.
    with pytest.raises(UserError, match='2 of 2 rows have no pog_plane_offset_mm'):
        GazeDataset(tmp_path / 'data', [], 'test')
