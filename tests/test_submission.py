"""Submission files, read back as the format is described."""

import gzip
import math
import pickle
import zipfile

import numpy as np
import pytest
from numpy.testing import assert_allclose

from evg.datasets.index import read_index, write_index
from evg.errors import UserError
from evg.evaluation.submission import XGAZE_TEST_ORDER, write_eve, write_submission, write_xgaze
from evg.geometry import Rig
from evg.registry import METRICS
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


def test_eve_zip(tmp_path):
    subjects, steps = ['test01', 'test01', 'test02'], ['step008', 'step008', 'step010']
    # Nanoseconds of this size do not fit a float64.
    ticks = [1583749821456789013, 1583749821423455680, 7]
    points = [[10.5, 20.0], [30.0, 40.0], [1919.0, 1079.0]]
    write_eve(tmp_path / 's.zip', subjects, steps, ['basler'] * 3, [6, 0, 0], ticks, points)
    with zipfile.ZipFile(tmp_path / 's.zip') as archive:
        (name,) = archive.namelist()
        data = gzip.decompress(archive.read(name))
    assert data[:2] == b'\x80\x03'  # pickle protocol 3
    content = pickle.loads(data)
    assert {p: sorted(steps) for p, steps in content.items()} == {'test01': ['step008'], 'test02': ['step010']}
    one = content['test01']['step008']['basler']
    names = ['PoG_px_final', 'PoG_px_initial', 'left_pupil_size', 'right_pupil_size', 'timestamps']
    assert sorted(one) == names
    assert one['timestamps'].tolist() == [1583749821423455680, 1583749821456789013]
    assert one['PoG_px_final'].tolist() == one['PoG_px_initial'].tolist() == [[30.0, 40.0], [10.5, 20.0]]
    assert one['left_pupil_size'].shape == (2,)
    with pytest.raises(UserError, match='no predicted point'):
        write_eve(tmp_path / 't.zip', ['a'], ['b'], ['c'], [0], [0], [[math.nan, 0]])


def collected(samples):
    metric = METRICS.build({'type': 'Predictions'})
    metric.process(None, samples)
    assert metric.evaluate(len(samples)) == {'predictions/n': len(samples)}
    return metric.rows()


def test_from_the_index_and_the_answers_to_eves_file(tmp_path):
    """A point 30 mm to the right of and 20 mm below the camera at the middle of the top edge, 0.25 mm a px."""
    release = tmp_path / 'EVE/test01/step008'
    release.mkdir(parents=True)
    (release / 'webcam_c.timestamps.txt').write_text('100\n200\n300\n')
    rig = Rig((640, 360), (1920, 1080), (480.0, 270.0), (0.0, 135.0))
    row = dict(image='x.jpg', split='test', subject='test01', sequence='step008', camera='webcam_c', rig='r')
    rows = [row | dict(sample_id=f's{number}', frame=number) for number in range(3)]
    info = {'settings': {'src': str(tmp_path / 'EVE')}}
    write_index(tmp_path / 'index.parquet', rows, {'r': rig}, 'eve', info=info)
    samples = [
        GazeDataSample(f's{number}', '', 'test01', rig=rig, pred_plane_mm=np.array([30.0, 20.0 * number]))
        for number in (2, 0)
    ]
    write_submission(tmp_path / 's.zip', read_index(tmp_path), collected(samples))
    with zipfile.ZipFile(tmp_path / 's.zip') as archive:
        one = pickle.loads(gzip.decompress(archive.read(archive.namelist()[0])))['test01']['step008']['webcam_c']
    assert one['timestamps'].tolist() == [100, 300]
    assert_allclose(one['PoG_px_final'], [[960 + 120, 0], [960 + 120, 160]])
    (release / 'webcam_c.timestamps.txt').unlink()
    with pytest.raises(UserError, match='no timestamp of frame 2'):
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
