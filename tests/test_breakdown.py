"""Figures by parts of the data, and the error of gaze vectors; expected values by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from mmengine.evaluator import Evaluator
from numpy.testing import assert_allclose

from evg.datasets.index import read_index, write_index
from evg.errors import UserError
from evg.evaluation import functional as F
from evg.evaluation.breakdown import breakdown, sample_facts
from evg.evaluation.report import render, write_predictions
from evg.registry import METRICS
from evg.structures import GazeDataSample

NAN = float('nan')


def facts(count, **columns):
    names = {name: np.array([''] * count) for name in ('device', 'camera', 'sequence', 'subject')}
    rest = {'frame': np.arange(count), 'head_pitchyaw_deg': np.full((count, 2), NAN)}
    return names | rest | {name: np.asarray(column) for name, column in columns.items()}


def means(table):
    return {row['group']: (row['mean'], row['n']) for row in table['rows']}


# EVE's sequences.
def test_sequence_means_by_hand():
    # Sequences of 2 sampled frames, every 3rd one: frames 0, 3 | 6, 9 | 12, 15 | 18, 21. Frame 7 is not sampled.
    frames = [0, 3, 6, 7, 9, 18, 0]
    values = [1.0, 3.0, NAN, 90.0, 8.0, 5.0, 7.0]
    recordings = ['a', 'a', 'a', 'a', 'a', 'a', 'b']
    found, empty = F.sequence_means(values, recordings, frames, 3, length=2)
    # a: (1 + 3) / 2, then 8 alone, none in the third, then 5; b: 7.
    assert_allclose(found, [2, 8, 5, 7])
    assert empty == 1


def test_sequence_means_with_a_step_for_each_row_and_without_any_value():
    # The same frame numbers are two sequences at 30 Hz and one at 60 Hz.
    found, empty = F.sequence_means([1.0, 2.0, 3.0, 4.0], ['w', 'w', 'b', 'b'], [0, 90, 0, 90], [3, 3, 6, 6])
    assert sorted(found) == [1.0, 2.0, 3.5]
    assert empty == 0
    found, empty = F.sequence_means([NAN, NAN], ['a', 'a'], [0, 90], 3)
    assert (found.tolist(), empty) == ([], 2)


def test_eve_average_beside_the_one_over_samples():
    # Frames 0 and 3 are one sequence, frame 180 the third one; the second has no frame at all.
    known = facts(3, frame=[0, 3, 180], camera=['webcam_c'] * 3, sequence=['step1'] * 3, subject=['val01'] * 3)
    tables = breakdown([2.0, 4.0, 9.0], 'deg', known, 'eve')
    assert [table['title'] for table in tables] == ["EVE's sequences"]
    figures = means(tables[0])
    assert figures['over samples'] == (5.0, 3)
    assert figures['over sequences with a valid frame'] == (6.0, 2)
    assert figures["over sequences, EVE's rule: none valid counts 0"] == (4.0, 3)
    assert breakdown([2.0, 4.0, 9.0], 'deg', known, 'other') == []


# Devices and head pose.
def test_phones_and_tablets_in_cm_and_each_device():
    known = facts(4, device=['iPhone 5s', 'iphone 6', 'iPad Air', 'iPhone 5s'])
    tables = {table['title']: table for table in breakdown([10.0, 30.0, 50.0, 20.0], 'mm', known, 'gazecapture')}
    assert tables['phones and tablets']['unit'] == 'cm'
    assert means(tables['phones and tablets']) == {'phone': (2.0, 3), 'tablet': (5.0, 1)}
    assert means(tables['device'])['iPhone 5s'] == (15.0, 2)
    # Degrees are no centimetres, and other data sets have no phones.
    assert 'phones and tablets' not in [t['title'] for t in breakdown([1.0] * 4, 'deg', known, 'gazecapture')]
    assert [t['title'] for t in breakdown([1.0] * 4, 'mm', known, 'eve_like')] == ['device']


def test_head_bins_have_zero_in_the_middle_of_one():
    angles = [[0, -7.4], [2, 7.4], [40, 7.6], [NAN, NAN]]
    tables = breakdown([1.0, 3.0, 5.0, 7.0], 'deg', facts(4, head_pitchyaw_deg=angles), 'toy')
    assert [table['title'] for table in tables] == ['head pitch, deg', 'head yaw, deg']
    assert means(tables[0]) == {'-7.5 to +7.5': (2.0, 2), '+37.5 to +52.5': (5.0, 1), 'not known': (7.0, 1)}
    assert means(tables[1]) == {'-7.5 to +7.5': (2.0, 2), '+7.5 to +22.5': (5.0, 1), 'not known': (7.0, 1)}


def test_facts_come_from_the_index_by_sample_id(tmp_path):
    """A head that is turned 30 deg to its own right and one that looks 20 deg up, seen from the camera."""
    right, up = math.radians(30), math.radians(20)
    rows = [
        # The face points to -z; turned about y (down) by +30 deg it points to -x, the user's right.
        dict(sample_id='a', head_rvec=[0, right, 0], device='one', frame=4),
        # About x (right in the picture) by -20 deg: from -z to -y, up.
        dict(sample_id='b', head_rvec=[-up, 0, 0], device='two', frame=5),
        dict(sample_id='c'),
    ]
    common = dict(image='x.jpg', split='test', subject='p', gaze=[0, 0, -1])
    write_index(tmp_path / 'index.parquet', [common | row for row in rows], {}, 'toy')
    known = sample_facts(read_index(tmp_path), np.array(['c', 'b', 'a', 'b']))
    assert known['device'].tolist() == ['', 'two', 'one', 'two']
    assert known['frame'].tolist() == [-1, 5, 4, 5]
    assert_allclose(known['head_pitchyaw_deg'], [[NAN, NAN], [20, 0], [0, 30], [20, 0]], atol=1e-9)


# Gaze vectors.
def sample(number, truth, prediction, frame='line_of_sight', subject='p'):
    """Angles in degrees, (pitch, yaw), as unit vectors; written out, not by the package's own function."""

    def vector(pitch, yaw):
        p, y = math.radians(pitch), math.radians(yaw)
        return np.array([-math.cos(p) * math.sin(y), -math.sin(p), -math.cos(p) * math.cos(y)])

    pred = np.full(3, NAN) if prediction is None else vector(*prediction)
    return GazeDataSample(f's{number}', '', subject, gaze_frame=frame, gt_gaze=vector(*truth), pred_gaze=pred)


def evaluate(samples, **arguments):
    metric = METRICS.build({'type': 'GazeError', **arguments})
    evaluator = Evaluator([metric])
    evaluator.process(samples)
    return {key.removeprefix('gaze/'): value for key, value in evaluator.evaluate(len(samples)).items()}, metric


# The true gaze is 0, 60 and 120 deg away from the camera, the errors are 10, 20 and 40 deg.
GAZE = [
    sample(0, (0, 0), (10, 0), subject='a'),
    sample(1, (0, 60), (0, 80), subject='a'),
    sample(2, (0, 120), (0, 160), subject='b'),
]


def test_gaze_error_and_the_three_subsets_by_hand(tmp_path):
    scalars, metric = evaluate(GAZE)
    expected = {
        'mean_deg': 70 / 3,
        'median_deg': 20,
        'pitch_mean_deg': 10 / 3,
        'yaw_mean_deg': 20,
        'front180_mean_deg': 15,
        'front20_mean_deg': 10,
        'subject_mean_deg': (15 + 40) / 2,
        'n': 3,
        'n_missing': 0,
        'n_subjects': 2,
    }
    assert {name: scalars[name] for name in expected} == pytest.approx(expected)
    text = render(metric.report)
    assert 'Gaze vector, frame line_of_sight: 3 samples of 2 subjects' in text
    assert 'front half, within 90 deg            15.00' in text
    write_predictions(tmp_path / 'p.parquet', metric.rows())


def test_gaze_error_a_missing_prediction_stays():
    scalars, _ = evaluate([*GAZE, sample(3, (0, 0), None)])
    assert (scalars['n'], scalars['n_missing']) == (4, 1)
    assert scalars['mean_deg'] == pytest.approx(70 / 3)


def test_frames_that_differ_or_are_not_declared_are_refused():
    other = sample(3, (0, 0), (0, 0), frame='camera')
    with pytest.raises(UserError, match="'camera', 'line_of_sight'"):
        evaluate([*GAZE, other])
    with pytest.raises(UserError, match="in the frame 'line_of_sight', 'normalised_r' is needed"):
        evaluate(GAZE, frame='normalised_r')
    with pytest.raises(UserError, match="in the frame ''"):
        evaluate([sample(0, (0, 0), (0, 0), frame='')])
    with pytest.raises(UserError, match=r'GazeError\.frame'):
        METRICS.build({'type': 'GazeError', 'frame': 'kamera'})
    assert evaluate(GAZE, frame='line_of_sight')[0]['n'] == 3


def test_in_the_head_frame_nobody_knows_where_the_camera_is():
    scalars, _ = evaluate([sample(0, (0, 0), (10, 0), frame='head')])
    assert scalars['mean_deg'] == pytest.approx(10)
    assert math.isnan(scalars['front20_mean_deg'])


def test_a_model_without_gaze_vectors_is_told():
    with pytest.raises(UserError, match='carries no pred_gaze: the model has no head'):
        evaluate([replace(GAZE[0], pred_gaze=None)])
