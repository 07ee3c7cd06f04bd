"""Codecs and losses of gaze angles, points and landmarks: exact round trips, by hand, against float64 numpy."""

import math

import numpy as np
import pytest
import torch

from evg.codecs import BinnedPitchYawCodec, LandmarkHeatmapCodec, PitchYawCodec, VPPointCodec
from evg.codecs.pitch_yaw import pitchyaw_to_gaze
from evg.geometry import angle_between_deg, pitchyaw_to_vector, vector_to_pitchyaw
from evg.models.losses import AngularLoss, L1Loss, SumOfSquaresLoss
from evg.registry import HEADS

FRAME = dict(size=(128, 64), pad=0)
BINS = dict(type='BinnedPitchYawCodec', input_frame=FRAME, gaze_frame='camera', bins=12, limit_deg=60)


def _directions(count=200):
    rng = np.random.default_rng(0)
    return np.stack([rng.uniform(-1.4, 1.4, count), rng.uniform(-3.1, 3.1, count)], axis=1)


def test_pitchyaw_round_trip():
    codec = PitchYawCodec(FRAME, 'camera')
    vectors = pitchyaw_to_vector(_directions())
    angles = torch.from_numpy(vector_to_pitchyaw(3 * vectors))
    decoded = codec.decode({'pitchyaw': angles})
    np.testing.assert_allclose(decoded['pred_gaze'], vectors, atol=1e-9)
    target = codec.encode(2 * vectors[0])['target_pitchyaw_rad']
    np.testing.assert_allclose(target, angles[0], atol=1e-6)
    truth = {'target_pitchyaw_rad': angles.float()}
    assert float(codec.monitor({'pitchyaw': angles.float()}, truth)['gaze_deg']) == pytest.approx(0, abs=1e-3)
    with pytest.raises(ValueError, match='not finite'):
        codec.encode((np.nan, 0, 1))


def test_binned_expectation_is_exact():
    codec = BinnedPitchYawCodec(FRAME, 'camera', bins=90, limit_deg=180)
    # Bin 50 is the four degrees from 20, its middle 22; with its neighbour at one to three: 23.
    logits = torch.full((1, 2, 90), -1e4, dtype=torch.float64)
    logits[0, :, 50] = math.log(0.75)
    logits[0, :, 51] = math.log(0.25)
    np.testing.assert_allclose(codec.pitchyaw({'pitchyaw_bins': logits}).rad2deg(), [[23, 23]], atol=1e-9)
    vector = pitchyaw_to_vector(np.radians((21.0, -179.0)))
    assert codec.encode(vector)['target_bins'].tolist() == [50, 0]
    # Every angle is a mixture of the two bins beside it.
    angles = np.degrees(_directions())
    position = (angles + 180) / 4 - 0.5
    low = np.clip(np.floor(position), 0, 88)
    weights = np.zeros((*angles.shape, 90))
    np.put_along_axis(weights, low.astype(int)[..., None], (1 - position + low)[..., None], axis=-1)
    np.put_along_axis(weights, low.astype(int)[..., None] + 1, (position - low)[..., None], axis=-1)
    logits = torch.from_numpy(weights).clamp(min=1e-300).log()
    np.testing.assert_allclose(codec.pitchyaw({'pitchyaw_bins': logits}).rad2deg(), angles, atol=1e-9)
    # Beyond the limit it is the outermost bin.
    narrow = BinnedPitchYawCodec(FRAME, 'camera', bins=28, limit_deg=42)
    assert narrow.encode(pitchyaw_to_vector((1.2, -2.0)))['target_bins'].tolist() == [27, 0]
    with pytest.raises(ValueError, match='2 bins'):
        BinnedPitchYawCodec(FRAME, 'camera', bins=1)


def test_binned_loss_by_hand():
    head = HEADS.build(dict(type='BinnedPitchYawHead', in_channels=4, codec=BINS, bin_weight=2.0, loss_weight=0.5))
    targets = {'target_bins': torch.tensor([[6, 6]]), 'target_pitchyaw_rad': torch.tensor([[0.0, math.radians(5)]])}
    losses = head.loss({'pitchyaw_bins': torch.zeros(1, 2, 12)}, targets)
    # Equal logits: log 12 for each angle; the expectation is 0, which is right for pitch and 5 deg off for yaw.
    assert float(losses['loss_bins']) == pytest.approx(2 * 2 * math.log(12), rel=1e-6)
    assert float(losses['loss_gaze']) == pytest.approx(0.5 * 25, rel=1e-4)
    perfect = torch.zeros(1, 2, 12)
    perfect[:, :, 6] = 50
    targets['target_pitchyaw_rad'] = torch.full((1, 2), math.radians(5))
    assert all(float(value) < 1e-3 for value in head.loss({'pitchyaw_bins': perfect}, targets).values())


def test_vp_point_round_trip():
    codec = VPPointCodec(FRAME, (3840, 2160), 3.3)
    points = np.random.default_rng(0).uniform(0, 2160, (50, 2))
    relative = torch.from_numpy((points - (1920, 1080)) / 1920)
    decoded = codec.decode({'point': relative})
    np.testing.assert_allclose(decoded['pred_vp_px'], points, atol=1e-9)
    np.testing.assert_allclose(decoded['pred_plane_mm'], codec.virtual_plane.to_mm(points), atol=1e-9)
    np.testing.assert_allclose(codec.encode(points[0])['target_point'], relative[0], atol=1e-6)


@pytest.mark.parametrize('stride', [1, 4])
def test_landmark_round_trip(stride):
    codec = LandmarkHeatmapCodec(dict(size=(120, 80), pad=0), 40, stride, sigma=1.3, read_out='parabola')
    # Up to the border, and off the middles of the cells.
    points = np.random.default_rng(0).uniform((0, 0), (119, 79), (40, 2))
    cells = (points + 0.5) / stride - 0.5
    width, height = codec.grid_size
    square = (np.arange(width) - cells[:, :1])[:, None, :] ** 2 + (np.arange(height) - cells[:, 1:])[:, :, None] ** 2
    maps = np.exp(-square / (2 * 1.3**2))
    np.testing.assert_allclose(codec.encode(points)['target_landmark_heatmap'], maps, atol=1e-6)
    decoded = codec.decode({'landmark_heatmap': torch.from_numpy(maps)[None]})
    np.testing.assert_allclose(decoded['pred_landmarks_input_px'][0], points, atol=1e-9)
    assert 0.7 < float(decoded['pred_score'][0]) <= 1
    # The original's read-out finds points on the middles of cells, and the others to half a cell.
    soft = LandmarkHeatmapCodec(dict(size=(120, 80), pad=0), 40, stride)
    found = soft.decode({'landmark_heatmap': torch.from_numpy(maps)[None]})['pred_landmarks_input_px'][0]
    assert np.abs(found.numpy() - points).max() < 0.7 * stride
    middle = soft.encode(np.tile((10.0 * stride + (stride - 1) / 2, 5.0 * stride + (stride - 1) / 2), 40))
    found = soft.decode({'landmark_heatmap': torch.from_numpy(middle['target_landmark_heatmap'])[None]})
    np.testing.assert_allclose(found['pred_landmarks_input_px'][0, 0] + 0.5, np.array((10.5, 5.5)) * stride, atol=1e-4)


def test_landmark_codec_names_what_is_wrong():
    codec = LandmarkHeatmapCodec(dict(size=(120, 80), pad=0))
    with pytest.raises(ValueError, match='8 landmarks are expected, not 3'):
        codec.encode(np.zeros((3, 2)))
    with pytest.raises(ValueError, match='not finite'):
        codec.encode(np.full((8, 2), np.nan))
    with pytest.raises(ValueError, match='soft_argmax'):
        LandmarkHeatmapCodec(FRAME, read_out='x')
    # Flat and negative maps have an answer too.
    for read_out in ('soft_argmax', 'parabola'):
        blank = LandmarkHeatmapCodec(FRAME, read_out=read_out).decode({'landmark_heatmap': -torch.ones(1, 8, 64, 128)})
        assert all(value.isfinite().all() for value in blank.values())


def test_angular_loss_against_float64_numpy():
    angles = _directions(64)
    other = angles + np.random.default_rng(1).normal(0, 0.3, angles.shape)
    expected = np.radians(angle_between_deg(pitchyaw_to_vector(angles), pitchyaw_to_vector(other))).mean()
    got = AngularLoss()(torch.from_numpy(angles), torch.from_numpy(other))
    assert float(got) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(pitchyaw_to_gaze(torch.from_numpy(angles)), pitchyaw_to_vector(angles), atol=1e-12)
    # No seam at +-180 deg.
    across = AngularLoss()(torch.tensor([[0.0, math.pi - 0.01]]), torch.tensor([[0.0, 0.01 - math.pi]]))
    assert float(across) == pytest.approx(0.02, rel=1e-3)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize('loss', [AngularLoss(), L1Loss(), SumOfSquaresLoss()])
def test_a_perfect_answer_costs_nothing_and_has_a_finite_gradient(loss, dtype):
    target = torch.tensor([[0.25, -0.5], [0.0, 0.0]])
    predicted = target.to(dtype).requires_grad_()
    value = loss(predicted, target)
    value.backward()
    assert float(value.detach()) == pytest.approx(0, abs=2e-6)
    assert predicted.grad.isfinite().all()


def test_sums_and_means_by_hand():
    predicted, target = torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([[1.0, 4.0], [0.0, 5.0]])
    assert float(L1Loss()(predicted, target)) == pytest.approx(5 / 4)
    assert float(SumOfSquaresLoss()(predicted, target)) == pytest.approx(13)
