"""Metrics and reports: expected values by hand or by a formula of their own."""

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from mmengine.evaluator import Evaluator
from numpy.testing import assert_allclose, assert_array_equal

from evg.errors import UserError
from evg.evaluation import functional as F
from evg.evaluation.report import mean_and_interval, render, write_json, write_predictions
from evg.geometry import Rig
from evg.registry import METRICS
from evg.structures import GazeDataSample

NAN = float('nan')


def pose(z_mm=0.0, width_mm=500.0, top_mm=0.0):
    """A screen that faces the user, its upper edge `top_mm` below the camera, `z_mm` in front of the camera's plane."""
    matrix = np.diag([-1.0, 1.0, -1.0, 1.0])
    matrix[:3, 3] = width_mm / 2, top_mm, z_mm
    return matrix


# 2 px per mm both ways; the middle of the upper edge at the camera.
RIG = Rig((640, 360), (1000, 500), (500.0, 250.0), (0.0, 125.0), None, pose())
ORIGIN = np.array([0.0, 0.0, 600.0])


def sample(number=0, truth=(0.0, 0.0), error=(0.0, 0.0), subject='p0', rule='offset', rig=RIG):
    """A sample whose label lies in the camera's plane, with a prediction `error` mm away."""
    truth = np.array(truth, np.float64)
    return GazeDataSample(
        sample_id=f's{number}',
        img_path='',
        subject=subject,
        rig=rig,
        plane_rule=rule,
        gt_plane_mm=truth,
        gt_screen_px=np.array([truth[0] + 250, truth[1]]) * 2,
        gt_target_mm=np.array([-truth[0], truth[1], 0.0]),
        gt_origin_mm=ORIGIN,
        pred_plane_mm=truth + error,
        pred_score=0.5,
    )


def evaluate(samples, metric='PoGError', meta=None, batch=2, **arguments):
    """(scalars without prefix, metric) through mmengine's evaluator."""
    built = METRICS.build({'type': metric, **arguments})
    evaluator = Evaluator([built])
    evaluator.dataset_meta = meta
    for start in range(0, len(samples), batch):
        evaluator.process(samples[start : start + batch])
    result = evaluator.evaluate(len(samples))
    prefix = built.default_prefix + '/'
    assert all(key.startswith(prefix) for key in result)
    return {key[len(prefix) :]: value for key, value in result.items()}, built


# Statistics.
def test_t_quantile_published():
    degrees = [1, 2, 3, 4, 5, 8, 9, 10, 14, 29, 30, 40, 60, 120, 1000, 100000]
    table = '12.706 4.303 3.182 2.776 2.571 2.306 2.262 2.228 2.145 2.045 2.042 2.021 2.000 1.980 1.962 1.960'
    assert [f'{F.t_quantile_975(df):.3f}' for df in degrees] == table.split()


def test_t_quantile_closed_forms():
    assert_allclose(F.t_quantile_975(1), math.tan(0.475 * math.pi), rtol=1e-11)
    assert_allclose(F.t_quantile_975(2), 0.95 * math.sqrt(2 / (1 - 0.95**2)), rtol=1e-11)
    for df in (0, -1, 2.5):
        with pytest.raises(ValueError, match='degrees of freedom'):
            F.t_quantile_975(df)


def test_summary_leaves_nan_out_and_counts():
    values = [NAN, *range(1, 22), NAN]  # 1..21: the 95th percentile lies at 1 + 0.95 * 20
    assert F.summarise(values) == {'mean': 11.0, 'median': 11.0, 'p95': pytest.approx(20.0), 'n': 21}
    empty = F.summarise([NAN])
    assert empty['n'] == 0
    assert all(math.isnan(empty[name]) for name in ('mean', 'median', 'p95'))


def test_per_subject():
    table = F.per_subject([4.0, 1.0, 6.0, NAN, 3.0, NAN], ['b', 'a', 'b', 'b', 'a', 'c'])
    assert table['subject'].tolist() == ['a', 'b', 'c']
    assert table['n'].tolist() == [2, 3, 1]
    assert table['n_missing'].tolist() == [0, 1, 1]
    assert_allclose(table['mean'], [2.0, 5.0, NAN])
    assert_allclose(table['sd'], [math.sqrt(2), math.sqrt(2), NAN])


def test_confidence_interval_by_hand():
    # 1, 2, 6: mean 3, sum of squares 14, sd sqrt(7), half width 4.302653 * sqrt(7 / 3)
    assert_allclose(F.mean_ci95([1.0, NAN, 2.0, 6.0]), (3.0, 4.302652729911275 * math.sqrt(7 / 3)), rtol=1e-10)
    assert_array_equal(F.mean_ci95([5.0]), (5.0, NAN))
    assert_array_equal(F.mean_ci95([NAN]), (NAN, NAN))


# From the plane to screen and direction.
def test_screen_px_by_pose_follows_the_ray():
    # The screen lies 60 mm behind the camera's plane, seen from 600 mm: the ray lands at 660 / 600 of the plane point.
    rig = replace(RIG, screen_to_camera=pose(z_mm=-60.0))
    plane, origin = [[30.0, 20.0], [30.0, 20.0]], [ORIGIN, ORIGIN]
    screen = F.plane_to_screen_px(plane, origin, ['ray', 'offset'], [0, 0], [rig])
    assert_allclose(screen, [[(250 + 33) * 2, 22 * 2], [(250 + 30) * 2, 20 * 2]], atol=1e-9)


def test_direction_by_offset_goes_through_the_calibrated_screen():
    # The offset rule knows nothing of the 15 mm, the calibrated pose does.
    rig = replace(RIG, screen_to_camera=pose(z_mm=-15.0))
    direction = F.plane_to_direction([[30.0, 20.0]] * 2, [ORIGIN] * 2, ['offset', 'ray'], [0, 0], [rig])
    assert_allclose(direction, [[-30.0, 20.0, -615.0], [-30.0, 20.0, -600.0]], atol=1e-9)


def test_what_a_rig_lacks_is_nan():
    no_pose, no_offset = replace(RIG, screen_to_camera=None), replace(RIG, screen_center_plane_mm=None)
    rules, index = ['offset', 'ray', 'offset', 'ray', 'offset', 'ray'], [0, 0, 1, 1, -1, -1]
    place = ([[30.0, 20.0]] * 6, [ORIGIN] * 6, rules, index, [no_pose, no_offset])
    assert np.isnan(F.plane_to_screen_px(*place)).all(axis=1).tolist() == [False, True, True, False, True, True]
    # The ray needs no rig at all.
    assert np.isnan(F.plane_to_direction(*place)).all(axis=1).tolist() == [True, False, True, False, True, False]


def test_projection_drops_z_on_the_way_there_and_back():
    # The screen turned about the camera's x axis by atan(0.28 / 0.96); its point at 100, 50 px by hand.
    turned = pose(z_mm=-40.0)
    turned[:3, :3] = [[1, 0, 0], [0, 0.96, -0.28], [0, 0.28, 0.96]] @ turned[:3, :3]
    rig = replace(RIG, screen_to_camera=turned)
    screen_px = np.array([[100.0, 50.0]])
    x_mm, y_mm = screen_px[0] * np.divide(rig.screen_size_mm, rig.screen_size_px)
    point = turned[:3, :3] @ [x_mm, y_mm, 0] + turned[:3, 3]
    plane = [[-point[0], point[1]]]
    place = (plane, [ORIGIN], ['projection'], [0], [rig])
    np.testing.assert_allclose(F.plane_to_screen_px(*place), screen_px, atol=1e-9)
    np.testing.assert_allclose(F.plane_to_direction(*place), [point - ORIGIN], atol=1e-9)


def test_unknown_rule_is_an_error():
    with pytest.raises(ValueError, match="'pose' is none of offset, ray, projection"):
        F.plane_to_direction([[0.0, 0.0]], [ORIGIN], ['pose'], [0], [RIG])


def test_groups_equal_one_row_at_a_time():
    rng = np.random.default_rng(3)
    turned = pose(z_mm=-40.0)
    turned[:3, :3] = turned[:3, :3] @ [[1, 0, 0], [0, 0.96, -0.28], [0, 0.28, 0.96]]
    rigs = [RIG, replace(RIG, screen_to_camera=turned, screen_size_mm=(400.0, 300.0))]
    index, rules = rng.integers(2, size=40), rng.choice(['offset', 'ray'], 40)
    plane, origin = rng.normal(0, 80, (40, 2)), ORIGIN + rng.normal(0, 50, (40, 3))
    screen = F.plane_to_screen_px(plane, origin, rules, index, rigs)
    direction = F.plane_to_direction(plane, origin, rules, index, rigs)
    for k in range(40):
        rig, (u, v) = rigs[index[k]], plane[k]
        width, height = rig.screen_size_mm
        rotation, shift = rig.screen_to_camera[:3, :3], rig.screen_to_camera[:3, 3]
        on_plane = np.array([-u, v, 0.0])
        if rules[k] == 'offset':
            at = np.array([u + width / 2, v - 125 + height / 2, 0.0])
            expected = rotation @ at + shift - origin[k]
        else:
            expected = on_plane - origin[k]
            # origin + t * expected = shift + rotation @ (x, y, 0), three equations for x, y, t.
            x, y, _ = np.linalg.solve(np.column_stack([rotation[:, :2], -expected]), origin[k] - shift)
            at = np.array([x, y, 0.0])
        assert_allclose(direction[k], expected, atol=1e-9)
        assert_allclose(screen[k], at[:2] / rig.screen_size_mm * rig.screen_size_px, atol=1e-8)


# Metrics.
POG = [
    sample(0, (0, 100), (30, 40), 'a'),  # 50 mm
    sample(1, (50, 0), (-6, 8), 'a'),  # 10 mm
    sample(2, (0, -50), (0, 20), 'b'),  # 20 mm
    sample(3, (-100, 0), (60, -80), 'b'),  # 100 mm
    sample(4, (0, 10), (0, 10), 'b'),  # 10 mm
]


@pytest.mark.parametrize('batch', [1, 2, 4, 5])
def test_pog_by_hand_whatever_the_batches(batch):
    scalars, metric = evaluate(POG, meta={'train_mean_plane_mm': [0.0, 0.0]}, batch=batch, ppm=3.3)
    # Subjects: (50 + 10) / 2 = 30 and (20 + 100 + 10) / 3; two values have the half width 12.706 * |difference| / 2.
    other = 130 / 3
    assert scalars == pytest.approx(
        {
            'mean_mm': 38.0,
            'median_mm': 20.0,
            'p95_mm': 90.0,  # sorted 10 10 20 50 100: 0.8 of the way from the fourth to the fifth
            'x_mean_mm': 96 / 5,
            'y_mean_mm': 158 / 5,
            'mean_cm': 3.8,
            'mean_vp_px': 38.0 * 3.3,
            'mean_screen_px': 76.0,
            'subject_mean_mm': (30 + other) / 2,
            'subject_ci95_mm': math.tan(0.475 * math.pi) * (other - 30) / 2,
            'constant_mean_mm': (100 + 50 + 50 + 100 + 10) / 5,
            'n': 5,
            'n_missing': 0,
            'n_subjects': 2,
        }
    )
    assert all(type(value) in (int, float) for value in scalars.values())
    assert metric.report['constant_ratio'] == pytest.approx(38 / 62)
    assert metric.report['ppm'] == 3.3
    assert [(row['subject'], row['n'], round(row['mean'], 6)) for row in metric.report['subjects']] == [
        ('a', 2, 30.0),
        ('b', 3, 43.333333),
    ]
    assert_allclose(metric.rows()['error_mm'], [50, 10, 20, 100, 10])
    assert metric.rows()['sample_id'].tolist() == ['s0', 's1', 's2', 's3', 's4']


def test_pog_without_ppm_screen_or_training_mean():
    scalars, metric = evaluate([replace(s, rig=None) for s in POG])
    assert not {'mean_vp_px', 'mean_screen_px', 'constant_mean_mm'} & set(scalars)
    assert scalars['mean_mm'] == pytest.approx(38.0)
    assert 'constant answer' not in render(metric.report)


def test_ppm_from_the_data_set_and_a_contradiction():
    assert evaluate(POG, meta={'ppm': 2.0})[0]['mean_vp_px'] == pytest.approx(76.0)
    with pytest.raises(UserError, match=r'PoGError\.ppm is 3\.3, the data set says 2\.0'):
        evaluate(POG, meta={'ppm': 2.0}, ppm=3.3)
    with pytest.raises(UserError, match='must be positive'):
        evaluate(POG, ppm=0)


@pytest.mark.parametrize('metric', ['PoGError', 'AngularError'])
def test_missing_prediction_stays_in_n_and_is_named(metric):
    samples = [*POG, replace(sample(7, subject='b'), pred_plane_mm=np.array([NAN, NAN]))]
    scalars, built = evaluate(samples, metric)
    without, _ = evaluate(POG, metric)
    assert (scalars['n'], scalars['n_missing']) == (6, 1)
    assert {**scalars, 'n': 5, 'n_missing': 0} == pytest.approx(without)
    assert built.report['missing_sample_ids'] == ['s7']
    assert '1 of 6 samples could not be measured, e.g. s7' in render(built.report)
    assert np.isnan(built.rows()['pred_plane_mm'][5]).all()


@pytest.mark.parametrize(
    ('changes', 'metric', 'message'),
    [
        ({'gt_plane_mm': np.array([0.0, NAN])}, 'PoGError', "'s0': label gt_plane_mm is"),
        ({'gt_plane_mm': None}, 'PoGError', "'s0' has no gt_plane_mm, which PoGError needs"),
        ({'gt_origin_mm': np.array([0.0, NAN, 1.0])}, 'AngularError', "'s0': label gt_origin_mm is"),
        ({'pred_plane_mm': None}, 'PoGError', "'s0' carries no pred_plane_mm"),
        ({'pred_plane_mm': np.zeros(3)}, 'PoGError', 'pred_plane_mm has 3 values instead of 2'),
        ({'flipped': True}, 'AngularError', "'s0' was mirrored"),
    ],
)
def test_a_broken_sample_is_an_error(changes, metric, message):
    with pytest.raises(UserError, match=message):
        evaluate([replace(POG[0], **changes)], metric)


def test_no_sample_is_an_error_and_rows_need_an_evaluation():
    metric = METRICS.build({'type': 'PoGError'})
    with pytest.raises(UserError, match='the evaluated split is empty'):
        metric.compute_metrics([])
    with pytest.raises(RuntimeError, match='finished evaluation'):
        metric.rows()


@pytest.mark.parametrize('rule', ['offset', 'ray'])
def test_angle_straight_ahead_is_an_arctangent(rule):
    # From 600 mm, 30 mm off to the side, then 45 mm up.
    samples = [sample(0, error=(30, 0), rule=rule), sample(1, error=(0, -45), rule=rule)]
    scalars, metric = evaluate(samples, 'AngularError', meta={'train_mean_plane_mm': np.array([0.0, 60.0])})
    side, up = math.degrees(math.atan(30 / 600)), math.degrees(math.atan(45 / 600))
    assert scalars == pytest.approx(
        {
            'mean_deg': (side + up) / 2,
            'median_deg': (side + up) / 2,
            'p95_deg': side + 0.95 * (up - side),
            'pitch_mean_deg': up / 2,
            'yaw_mean_deg': side / 2,
            'subject_mean_deg': (side + up) / 2,
            'subject_ci95_deg': NAN,
            'constant_mean_deg': math.degrees(math.atan(60 / 600)),
            'n': 2,
            'n_missing': 0,
            'n_subjects': 1,
            'n_unlabelled': 0,
        },
        nan_ok=True,
    )
    assert_allclose(metric.rows()['error_deg'], [side, up])
    assert_allclose(metric.rows()['error_pitchyaw_deg'], [[0, side], [up, 0]], atol=1e-12)


def test_angle_by_offset_uses_the_calibrated_pose():
    # Label and prediction on a screen 15 mm behind the camera's plane: the ray is 615 mm long.
    rig = replace(RIG, screen_to_camera=pose(z_mm=-15.0))
    truth = replace(sample(error=(30, 0), rig=rig), gt_target_mm=np.array([0.0, 0.0, -15.0]))
    scalars, _ = evaluate([truth], 'AngularError')
    assert scalars['mean_deg'] == pytest.approx(math.degrees(math.atan(30 / 615)))


def test_yaw_error_goes_the_short_way_round():
    # 10 degrees left and right of straight away from the camera.
    away = [[math.sin(math.radians(a)), 0.0, math.cos(math.radians(a))] for a in (10, -10)]
    assert_allclose(F.pitchyaw_error_deg(away[:1], away[1:]), [[0, 20]], atol=1e-9)


def test_angle_without_3d_labels_reports_none():
    blank = [replace(s, gt_origin_mm=None) for s in POG[:2]] + [replace(POG[2], gt_target_mm=None)]
    scalars, metric = evaluate(blank, 'AngularError')
    assert (scalars['n'], scalars['n_unlabelled'], scalars['n_subjects']) == (0, 3, 0)
    assert math.isnan(scalars['mean_deg'])
    assert '3 of 3 samples have no face origin or no 3-D target: no angle' in render(metric.report)

    scalars, metric = evaluate([*blank, *POG[3:]], 'AngularError')
    expected, _ = evaluate(POG[3:], 'AngularError')
    assert (scalars['n'], scalars['n_unlabelled']) == (2, 3)
    assert scalars['mean_deg'] == expected['mean_deg']
    assert np.isnan(metric.rows()['error_deg'][:3]).all()


def test_angle_that_needs_a_pose_which_no_rig_has_is_counted_missing():
    scalars, _ = evaluate([*POG, sample(5, rig=replace(RIG, screen_to_camera=None))], 'AngularError')
    assert (scalars['n'], scalars['n_missing']) == (6, 1)


def test_rows_that_were_pickled_give_the_same_result():
    """Loader workers copy the rig with each batch, other processes pickle the rows."""
    copies = [pickle.loads(pickle.dumps(s)) for s in POG]
    metric = METRICS.build({'type': 'PoGError'})
    metric.process(None, copies)
    assert len({id(row.rig) for row in metric.results}) == 1
    metric.process(None, [replace(s, rig=replace(RIG, screen_size_mm=(250.0, 125.0))) for s in POG[:1]])
    assert len({id(row.rig) for row in metric.results}) == 2
    gathered = [pickle.loads(pickle.dumps(row)) for row in metric.results[:5]]
    assert metric.compute_metrics(gathered) == evaluate(POG)[0]


# Reports.
def test_table():
    samples = [replace(s, subject=f'person_{s.subject}') for s in POG]
    _, metric = evaluate(samples, meta={'train_mean_plane_mm': [0.0, 0.0]}, ppm=3.3)
    assert render(metric.report).splitlines() == [
        'Point of gaze: 5 samples of 2 subjects',
        '                         mean  median     p95  n',
        '  distance, mm          38.00   20.00   90.00  5',
        '  across (u), mm        19.20    6.00   54.00  5',
        '  down (v), mm          31.60   20.00   72.00  5',
        '  distance, cm           3.80    2.00    9.00  5',
        '  distance, VP px      125.40   66.00  297.00  5',
        '  distance, screen px   76.00   40.00  180.00  5',
        '',
        '  mean over subjects  36.67 mm, 95 % CI +- 84.71',
        '  constant answer     62.00 mm (always the training mean); the model has 0.61 of it',
        '  note: VP px = mm x 3.3 (ppm, VP pixels per mm)',
        '',
        '  subject   mean mm  sd mm  n',
        '  person_a    30.00  28.28  2',
        '  person_b    43.33  49.33  3',
    ]


@pytest.mark.parametrize(
    ('mean', 'ci95', 'text'),
    [
        (203.506, 12.0, '203.51 mm, 95 % CI +- 12.00'),
        (203.506, None, '203.51 mm (one subject: no interval)'),
        (203.506, NAN, '203.51 mm (one subject: no interval)'),
        (NAN, NAN, '- mm'),
    ],
)
def test_a_mean_of_one_subject_has_no_interval(mean, ci95, text):
    assert mean_and_interval(mean, ci95, 'mm', 'subject') == text


def test_table_of_one_subject():
    _, metric = evaluate([sample(k, error=(3, 4), subject='a') for k in range(2)])
    assert '  mean over subjects  5.00 mm (one subject: no interval)' in render(metric.report).splitlines()


def test_table_of_many_subjects_lists_the_worst():
    samples = [sample(k, error=(k, 0), subject=f'p{k}') for k in range(5)]
    samples.append(replace(sample(9, subject='lost'), pred_plane_mm=np.full(2, NAN)))
    _, metric = evaluate(samples)
    lines = render(metric.report, max_subjects=3).splitlines()
    assert [line.split()[0] for line in lines[-4:-1]] == ['lost', 'p4', 'p3']
    assert lines[-4].split()[1:] == ['-', '-', '1']
    assert lines[-1] == '  the 3 subjects with the largest error of 6; the JSON has all'


def test_json_round_trip_and_table_from_json(tmp_path):
    _, metric = evaluate(POG[:1])
    path = tmp_path / 'new' / 'metrics.json'
    write_json(path, {'report': metric.report, 'array': np.array([1.5, NAN]), 'count': np.int64(3), 'inf': math.inf})
    read = json.loads(path.read_text(encoding='utf-8'))
    assert (read['array'], read['count'], read['inf']) == ([1.5, None], 3, None)
    assert read['report']['subject_ci95'] is None  # one subject has no interval
    assert render(read['report']) == render(metric.report)


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / 'metrics.json'
    write_json(path, {'n': 1})
    with pytest.raises(TypeError):
        write_json(path, {'n': object()})
    assert json.loads(path.read_text(encoding='utf-8')) == {'n': 1}
    assert [file.name for file in tmp_path.iterdir()] == ['metrics.json']


def test_predictions_file(tmp_path):
    samples = [*POG, replace(sample(5), pred_plane_mm=np.full(2, NAN), gt_origin_mm=None, pred_score=None)]
    rows = evaluate(samples)[1].rows() | evaluate(samples, 'AngularError')[1].rows()
    write_predictions(tmp_path / 'preds.parquet', rows, {'config': 'nano.py'})
    table = pq.read_table(tmp_path / 'preds.parquet')
    assert table.schema.metadata[b'evg.config'] == b'nano.py'
    assert table.schema.field('error_mm').metadata[b'unit'] == b'mm'
    assert table.schema.field('error_deg').metadata[b'unit'] == b'deg'
    assert b'plane' in table.schema.field('pred_plane_mm').metadata[b'frame']
    assert all(table.schema.field(name).metadata for name in table.column_names if name not in ('sample_id', 'subject'))
    first, last = table.to_pylist()[0], table.to_pylist()[5]
    assert (first['sample_id'], first['subject'], first['plane_rule']) == ('s0', 'a', 'offset')
    assert first['error_mm'] == 50.0
    assert first['pred_plane_mm'] == [30.0, 140.0]
    assert first['pred_screen_px'] == pytest.approx([560.0, 280.0])
    assert first['error_deg'] == pytest.approx(evaluate(POG[:1], 'AngularError')[0]['mean_deg'])
    nothing = ('pred_plane_mm', 'pred_screen_px', 'gt_origin_mm', 'pred_score', 'error_mm', 'error_deg')
    assert [last[name] for name in nothing] == [None] * 6
    assert last['gt_plane_mm'] == [0.0, 0.0]


def test_predictions_need_units_and_one_length(tmp_path):
    with pytest.raises(ValueError, match="'luck'"):
        write_predictions(tmp_path / 'x.parquet', {'luck': np.zeros(2)})
    with pytest.raises(ValueError, match='differ in length'):
        write_predictions(tmp_path / 'x.parquet', {'error_mm': np.zeros(2), 'error_deg': np.zeros(3)})
    assert not list(tmp_path.iterdir())
