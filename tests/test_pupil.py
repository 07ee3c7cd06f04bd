"""Pupil landmarks: gaze from the rim by closed forms and the synthetic world, the label's way, its metric."""

import math

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from numpy.testing import assert_allclose

from evg.codecs import LandmarkHeatmapCodec
from evg.datasets.gaze_dataset import GazeDataset
from evg.datasets.transforms import Affine, Blur, LoadImage, NormaliseFace, PupilLandmarks, RandomFlip
from evg.errors import UserError
from evg.evaluation.report import render, write_predictions
from evg.geometry import EyeModel, InputFrame, Normaliser, angle_between_deg, apply_affine, pitchyaw_to_vector
from evg.registry import METRICS
from evg.structures import GazeDataSample
from evg.synthetic.scene import IRIS_DEPTH_MM
from evg.synthetic.world import SyntheticWorld

NORMALISER = Normaliser(1600, 600, (120, 80))
EYE = EyeModel(NORMALISER)


def rim_px(pitchyaw_deg, radius_mm=2.0, torsion_deg=10.0, depth_mm=10.45, distance_mm=600.0):
    """8 points of a pupil, projected by the patch's camera: a circle turned by rotations about x, y and z."""
    (sp, sy), (cp, cy) = np.sin(np.radians(pitchyaw_deg)), np.cos(np.radians(pitchyaw_deg))
    up = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    right = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    angle = np.radians(torsion_deg) + np.arange(8) * np.pi / 4
    circle = np.stack([radius_mm * np.cos(angle), radius_mm * np.sin(angle), np.full(8, -depth_mm)], axis=1)
    points = circle @ (right @ up).T + (0, 0, distance_mm)
    return points[:, :2] / points[:, 2:] * 1600 + (60, 40)


@pytest.mark.parametrize('pitchyaw_deg', [(0, 0), (20, 0), (0, 30), (-25, -35), (10, 50)])
@pytest.mark.parametrize('radius_mm', [0.8, 4.0])
def test_exact_points_give_the_exact_axis(pitchyaw_deg, radius_mm):
    axis = EYE.optical_axis(rim_px(pitchyaw_deg, radius_mm))
    assert_allclose(axis, pitchyaw_to_vector(np.radians(pitchyaw_deg)), atol=1e-9)


def test_pupil_by_hand():
    # The pupil's centre 10.45 * 0.6 mm to the picture's right of the eye's and 10.45 * 0.8 mm before it: the axis is
    # (0.6, 0, -0.8), to the user's left. All points in one place have no tilt, and no correction.
    x = 1600 * 10.45 * 0.6 / (600 - 10.45 * 0.8) + 60
    assert_allclose(EYE.optical_axis(np.tile((x, 40.0), (8, 1))), [0.6, 0, -0.8], atol=1e-12)
    assert_allclose(EYE.optical_axis(np.tile((60.0, 40.0), (8, 1))), [0, 0, -1], atol=1e-12)
    # Kappa of 4 deg to the user's right on an eye that looks into the camera, 3 deg up.
    eye = EyeModel(NORMALISER, kappa_deg=(3, 4))
    assert_allclose(eye.gaze(rim_px((0, 0))), pitchyaw_to_vector(np.radians((3, 4))), atol=1e-9)
    # On a level eye yaws add up.
    eye = EyeModel(NORMALISER, kappa_deg=(0, -4))
    assert_allclose(eye.gaze(rim_px((0, 20))), pitchyaw_to_vector(np.radians((0, 16))), atol=1e-9)


def test_many_pupils_at_once_and_what_has_no_answer():
    angles = np.random.default_rng(0).uniform(-30, 30, (3, 4, 2))
    rims = np.array([[rim_px(pair) for pair in row] for row in angles])
    assert_allclose(EYE.optical_axis(rims), pitchyaw_to_vector(np.radians(angles)), atol=1e-9)
    rims[1, 2, 5] = np.nan
    axes = EYE.optical_axis(rims)
    assert np.isnan(axes[1, 2]).all()
    assert np.isfinite(np.delete(axes.reshape(-1, 3), 6, axis=0)).all()
    # A pupil beyond the edge of the ball is put where the ball comes nearest to the line of sight (0.05, 0, 1).
    beyond = EYE.optical_axis(np.tile((60 + 1600 * 0.05, 40.0), (8, 1)))
    assert_allclose(beyond, np.array([1, 0, -0.05]) / np.hypot(1, 0.05), atol=1e-9)
    for depth in (0, 600):
        with pytest.raises(ValueError, match='pupil_depth_mm'):
            EyeModel(NORMALISER, depth)


def test_labels_of_the_synthetic_world_give_its_optical_axes():
    world = SyntheticWorld('close', (160, 96))
    scales, plain = [], []
    for person, index in np.ndindex(4, 3):
        frame = world.frame(person, index)
        for side, centre, optical in (
            (0, frame.right_eye_mm, frame.right_optical_cam),
            (1, frame.left_eye_mm, frame.left_optical_cam),
        ):
            norm = NORMALISER.apply(centre, frame.head_rotation, world.rig.camera_matrix)
            points, scale = norm.points_to(frame.pupil_landmarks_px[side]), norm.scale[2, 2]
            eye = EyeModel(NORMALISER, IRIS_DEPTH_MM)
            assert angle_between_deg(eye.optical_axis(points, scale), norm.gaze_to(optical)) < 1e-6
            scales.append(abs(scale - 1))
            plain.append(angle_between_deg(eye.optical_axis(points), norm.gaze_to(optical)))
    # Not knowing the scale costs little; the constant of the class is the world's to 1e-3 mm.
    assert max(scales) > 0.05
    assert max(plain) < 0.1
    assert EyeModel(NORMALISER).pupil_depth_mm == pytest.approx(IRIS_DEPTH_MM, abs=1e-3)


@pytest.mark.parametrize('size', [(120, 80), (60, 40)])
def test_codec_answers_with_the_gaze_of_the_patch(size):
    """Also where the input is the patch at another size."""
    frame = InputFrame(size, pad=0)
    codec = LandmarkHeatmapCodec(frame, read_out='parabola', eye=dict(normaliser=vars(NORMALISER), kappa_deg=(1, -4)))
    rims = np.array([rim_px((10, -20)), rim_px((-5, 15))])
    inside = apply_affine(frame.matrix(NORMALISER.size_px), rims)
    maps = np.stack([codec.encode(points)['target_landmark_heatmap'] for points in inside])
    decoded = codec.decode({'landmark_heatmap': torch.from_numpy(maps)})
    assert_allclose(decoded['pred_landmarks_input_px'], inside, atol=1e-3)
    assert decoded['pred_gaze'].shape == (2, 3)
    expected = EyeModel(NORMALISER, kappa_deg=(1, -4)).gaze(rims)
    assert angle_between_deg(decoded['pred_gaze'].numpy(), expected).max() < 0.02
    assert "gaze in the frame 'normalised_r'" in codec.describe()
    assert 'pred_gaze' not in LandmarkHeatmapCodec(frame).decode({'landmark_heatmap': torch.from_numpy(maps)})


@pytest.mark.parametrize('part', ['right_eye', 'left_eye', 'face'])
@pytest.mark.parametrize('flip', [0.0, 1.0])
def test_the_label_moves_with_the_picture(synth_close, part, flip):
    """From the index to the input at half the size, against positions that are worked out beside the pipeline."""
    frame = InputFrame((60, 40), pad=0)
    steps = [LoadImage(), NormaliseFace(vars(NORMALISER), part), RandomFlip(flip), Affine(frame), PupilLandmarks(part)]
    data = GazeDataset(synth_close, steps, max_samples=6)
    for number in range(len(data)):
        results = data[number]
        columns, row = data.index.columns, data.rows[number]
        stored = columns['pupil_landmarks_px'][row].astype(np.float64).reshape(2, 8, 2)
        origin = columns[{'face': 'face_origin_mm'}.get(part, f'{part}_mm')][row]
        rig = next(iter(data.index.rigs.values()))
        # x' = f x / z + c of the turned and scaled point; from px to rays by the inverse of the camera matrix.
        rays = np.concatenate([stored, np.ones((2, 8, 1))], axis=-1) @ np.linalg.inv(rig.camera_matrix).T
        turned = rays @ results['norm_rotation'].T * (1, 1, 600 / np.linalg.norm(origin))
        if flip:
            turned = rays @ (np.diag([-1, 1, 1]) @ results['norm_rotation'] @ np.diag([-1, 1, 1])).T
            turned = turned * (1, 1, 600 / np.linalg.norm(origin))
        patch = turned[..., :2] / turned[..., 2:] * 1600 + (60, 40)
        if flip:
            patch = np.stack([119 - patch[..., 0], patch[..., 1]], axis=-1)
        eyes = {'right_eye': [0], 'left_eye': [1], 'face': [0, 1]}[part]
        wanted = {tuple(np.round(point, 3)) for eye in eyes for point in patch[eye]}
        found = results['gt_landmarks_px']
        assert found.shape == (8 * len(eyes), 2)
        # float32 in the index.
        assert max(min(math.dist(a, b) for b in wanted) for a in found) < 0.01
        assert_allclose(results['gt_landmarks_input_px'], (found + 0.5) / 2 - 0.5, atol=1e-9)
        # Point k stands k eighths of a turn from the picture's right, y down, also in a mirrored picture.
        for eye in found.reshape(-1, 8, 2):
            around = eye - eye.mean(axis=0)
            turn = np.arctan2(around[:, 1], around[:, 0]) - np.arange(8) * np.pi / 4
            assert np.abs((turn + np.pi) % (2 * np.pi) - np.pi).max() < 0.6
        # In a mirrored face the right eye, at the picture's left, comes first again.
        if part == 'face':
            assert found[0, 0] < found[8, 0]
        corners = results['gt_eye_landmarks_px'].reshape(2, 6, 2)
        width = np.linalg.norm(corners[:, 0] - corners[:, 3], axis=1)
        sides = eyes if not flip else [1 - eye for eye in eyes]
        assert results['gt_eye_width_px'] == pytest.approx(width[sides].mean())


def test_without_pupils_nothing_is_set_and_parts_have_names():
    results = {'gt_pupil_landmarks_px': None, 'affine': np.eye(2, 3)}
    assert set(PupilLandmarks()({**results})) == set(results)
    no_corners = {'gt_pupil_landmarks_px': np.arange(32.0), 'gt_eye_landmarks_px': None, 'affine': np.eye(2, 3)}
    set_by = PupilLandmarks('left_eye')(no_corners)
    assert set_by['gt_landmarks_px'].tolist() == np.arange(16.0, 32).reshape(8, 2).tolist()
    assert 'gt_eye_width_px' not in set_by
    with pytest.raises(UserError, match='face, right_eye, left_eye'):
        PupilLandmarks('nose')


def test_blur_spreads_a_dot_as_its_kernels_do():
    image = np.zeros((41, 41, 3), np.uint8)
    image[20, 20] = 255
    widths, untouched = set(), 0
    for seed in range(60):
        blurred = Blur(0.5)({'img': image, 'rng': np.random.default_rng(seed)})['img'][..., 0].astype(float)
        untouched += np.array_equal(blurred, image[..., 0])
        y, x = np.nonzero(blurred)
        widths.add(np.ptp(x) + 1)
        assert np.ptp(x) == np.ptp(y) <= 12  # 7 px of each: 3 to either side twice
        assert (x.mean(), y.mean()) == (20, 20)
    # One in four has neither; kernels of 3, 5 and 7 px, one or two of them.
    assert 6 <= untouched <= 25
    assert {1, 3, 5, 7} <= widths
    # A box of 7 px alone keeps the sum.
    assert Blur(0.0)({'img': image, 'rng': np.random.default_rng(0)})['img'] is image
    for largest in (1, 6):
        with pytest.raises(ValueError, match='odd'):
            Blur(largest=largest)


def landmark_sample(number, error, width, truth=0.0, subject='a'):
    """Two landmarks around `truth`, the first `error` px away."""
    points = np.array([[10.0, 20.0], [30.0, 40.0]]) + truth
    return GazeDataSample(
        f's{number}', '', subject, gaze_frame='normalised_r', gt_landmarks_px=points, gt_eye_width_px=width,
        pred_landmarks_px=points + np.array([error, (0, 0)]), pred_score=0.5,
    )  # fmt: skip


def evaluate(samples, **arguments):
    metric = METRICS.build({'type': 'LandmarkError', 'num_landmarks': 2, **arguments})
    evaluator = Evaluator([metric])
    evaluator.process(samples)
    return evaluator.evaluate(len(samples)), metric


def test_landmark_error_by_hand(tmp_path):
    samples = [landmark_sample(0, (3, 4), 50.0), landmark_sample(1, (0, 0), 50.0, 6.0, 'b')]
    samples.append(landmark_sample(2, (0, 14), 25.0, 3.0, 'b'))
    scalars, metric = evaluate(samples)
    # Distances 5, 0, 14 of one landmark of two: 2.5, 0, 7 px. The mean label is that of truth 3: 3 sqrt 2, 3 sqrt 2, 0.
    expected = {
        'mean_px': 9.5 / 3,
        'median_px': 2.5,
        'p95_px': 2.5 + 0.9 * 4.5,
        'subject_mean_px': 3.0,
        'subject_ci95_px': math.tan(0.475 * math.pi) * 0.5,
        'constant_mean_px': 2 * math.sqrt(2),
        'nme_percent': (5 + 0 + 28) / 3,
        'n': 3,
        'n_missing': 0,
        'n_subjects': 2,
    }
    assert scalars == pytest.approx({f'landmarks/{key}': value for key, value in expected.items()})
    table = render(metric.report)
    assert '(always the mean of these labels)' in table
    assert [row['mean'] for row in metric.report['groups'][0]['rows']] == pytest.approx([19 / 3, 0])
    write_predictions(tmp_path / 'p.parquet', metric.rows())
    # A prediction that is not there stays in n.
    lost = landmark_sample(3, (math.nan, 0), 50.0)
    scalars, _ = evaluate([*samples, lost])
    assert (scalars['landmarks/n'], scalars['landmarks/n_missing']) == (4, 1)


def test_landmark_error_without_eye_corners_and_with_wrong_labels():
    scalars, metric = evaluate([landmark_sample(0, (3, 4), None)])
    assert 'landmarks/nme_percent' not in scalars
    assert scalars['landmarks/mean_px'] == 2.5
    assert 'error_landmarks_percent' not in metric.rows()
    with pytest.raises(UserError, match='gt_landmarks_px has 4 values instead of 16'):
        evaluate([landmark_sample(0, (3, 4), None)], num_landmarks=8)


def test_gaze_error_has_a_constant_answer():
    # Looks 10 deg to either side: their mean is straight ahead, 10 deg off for both.
    looks = pitchyaw_to_vector(np.radians([(0, 10), (0, -10)]))
    samples = [
        GazeDataSample(str(i), '', 'p', gaze_frame='camera', gt_gaze=n, pred_gaze=n) for i, n in enumerate(looks)
    ]
    metric = METRICS.build({'type': 'GazeError'})
    evaluator = Evaluator([metric])
    evaluator.process(samples)
    scalars = evaluator.evaluate(2)
    assert scalars['gaze/constant_mean_deg'] == pytest.approx(10)
    assert scalars['gaze/mean_deg'] == pytest.approx(0, abs=1e-9)
    assert '(always the mean of these labels)' in render(metric.report)
