"""Test-time flip: mirrored outputs say the same of the mirrored picture; and the dense offset."""

import numpy as np
import pytest
import torch

from evg.registry import CODECS, HEADS, MODELS
from evg.structures import GazeDataSample

FRAME = {'size': (96, 64), 'pad': 0}
VP = {'vp_size_px': (640, 400), 'ppm': 1.0}
PATCH = {'input_frame': FRAME, 'gaze_frame': 'normalised_r'}


def _heatmap(vp_x):
    codec = CODECS.build(dict(type='VPHeatmapCodec', input_frame=FRAME, fit='contain', **VP))
    targets = codec.encode((vp_x, 150.25))
    offset = np.broadcast_to(targets['target_offset'][:, None, None], (2, 16, 24)).copy()
    heatmap = torch.logit(torch.from_numpy(targets['target_heatmap']), eps=1e-6)
    return codec, {'heatmap': heatmap[None], 'offset': torch.from_numpy(offset)[None]}, 'pred_vp_px'


def _point(vp_x):
    codec = CODECS.build(dict(type='VPPointCodec', input_frame=FRAME, **VP))
    return codec, {'point': torch.from_numpy(codec.encode((vp_x, 150.25))['target_point'])[None]}, 'pred_vp_px'


def _face(input_x):
    codec = CODECS.build(dict(type='FaceCenterCodec', input_frame=FRAME))
    heatmap = torch.from_numpy(codec.encode((input_x, 20))['target_face_heatmap'])[None]
    return codec, {'face_heatmap': heatmap}, 'pred_face_center_input_px'


def _angles(yaw):
    codec = CODECS.build(dict(type='PitchYawCodec', **PATCH))
    return codec, {'pitchyaw': torch.tensor([[0.2, yaw]])}, 'pred_pitchyaw_rad'


def _bins(yaw_bin):
    codec = CODECS.build(dict(type='BinnedPitchYawCodec', bins=20, limit_deg=40, **PATCH))
    logits = torch.zeros(1, 2, 20)
    logits[0, 0, 12], logits[0, 1, yaw_bin] = 5, 5
    return codec, {'pitchyaw_bins': logits}, 'pred_pitchyaw_rad'


# make, where in the picture, where in its mirror image: 640 - x on the plane, 95 - x in the input, minus the yaw
CASES = [(_heatmap, 212.5, 427.5), (_point, 212.5, 427.5), (_face, 21.5, 73.5), (_angles, 0.3, -0.3), (_bins, 3, 16)]


@pytest.mark.parametrize(('make', 'here', 'mirrored'), CASES)
def test_outputs_of_the_mirror_image_say_the_same(make, here, mirrored):
    codec, outputs, answer = make(here)
    _, of_mirror, _ = make(mirrored)
    back = codec.mirror(of_mirror)
    assert set(back) == set(outputs)
    torch.testing.assert_close(codec.decode(back)[answer], codec.decode(outputs)[answer], atol=1e-4, rtol=0)
    assert not torch.allclose(codec.decode(of_mirror)[answer], codec.decode(outputs)[answer], atol=1e-2)


def _estimator(flip_test):
    codec = dict(type='VPHeatmapCodec', input_frame=FRAME, activation='softmax', read_out='expectation', **VP)
    torch.manual_seed(3)
    return MODELS.build(
        dict(
            type='GazeEstimator',
            backbone=dict(type='NanoNet'),
            neck=dict(type='DeconvNeck', channels=(16, 16, 16), refine=None),
            heads=dict(heatmap=dict(type='HeatmapHead', head_conv=8), offset=dict(type='OffsetHead', head_conv=8)),
            codecs=dict(gaze=codec),
            flip_test=flip_test,
        )
    ).eval()


@torch.no_grad()
def test_with_the_flip_a_mirrored_picture_has_the_mirrored_answer():
    picture = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(4))
    plain, flipping = _estimator(False), _estimator(True)

    def answer(model, inputs):
        return model(inputs, data_samples=[GazeDataSample('a', '', 'p')], mode='predict')[0].pred_plane_mm

    np.testing.assert_allclose(answer(flipping, picture.flip(3)), answer(flipping, picture) * (-1, 1), atol=1e-2)
    assert abs(answer(plain, picture.flip(3))[0] + answer(plain, picture)[0]) > 0.1


def test_a_codec_that_cannot_be_mirrored_is_refused():
    codec = dict(type='LandmarkHeatmapCodec', input_frame=FRAME)
    backbone, head = dict(type='PupilNet', hourglasses=1), dict(type='LandmarkHead')
    with pytest.raises(ValueError, match='LandmarkHeatmapCodec cannot be mirrored'):
        model = dict(type='GazeEstimator', backbone=backbone, heads={'a': head}, codecs={'a': codec})
        MODELS.build({**model, 'flip_test': True})


def test_dense_offset_against_plain_loops():
    rng = np.random.default_rng(5)
    offset, heatmap = rng.normal(size=(2, 2, 4, 6)), rng.uniform(size=(2, 1, 4, 6)) ** 4
    index, inside = np.array([9, 20]), rng.uniform(size=(2, 2))
    total, weights = 0.0, 0.0
    for b in range(2):
        x, y = index[b] % 6 + inside[b, 0], index[b] // 6 + inside[b, 1]
        for row in range(4):
            for column in range(6):
                w = heatmap[b, 0, row, column]
                error = abs(offset[b, 0, row, column] - (x - column)) + abs(offset[b, 1, row, column] - (y - row))
                total, weights = total + w * error, weights + 2 * w
    head = HEADS.build(dict(type='OffsetHead', in_channels=3, loss_weight=0.5, dense=True))
    targets = {
        'target_index': torch.from_numpy(index),
        'target_offset': torch.from_numpy(inside).float(),
        'target_heatmap': torch.from_numpy(heatmap).float(),
    }
    loss = head.loss({'offset': torch.from_numpy(offset)}, targets)['loss_off']
    assert loss.item() == pytest.approx(0.5 * total / weights, rel=1e-5)


def test_with_dense_offsets_a_peak_in_the_next_cell_is_put_right():
    codec = CODECS.build(dict(type='VPHeatmapCodec', input_frame=FRAME, fit='contain', **VP))
    cell = codec.vp_to_cell(np.array([212.5, 150.25]))
    rows, columns = np.indices((16, 24))
    ways = torch.from_numpy(np.stack([cell[0] - columns, cell[1] - rows])).float()[None]
    heatmap = torch.full((1, 1, 16, 24), -9.0)
    heatmap[0, 0, int(cell[1]) + 1, int(cell[0]) - 2] = 3
    found = codec.decode({'heatmap': heatmap, 'offset': ways})['pred_vp_px']
    torch.testing.assert_close(found, torch.tensor([[212.5, 150.25]]), atol=1e-3, rtol=0)
