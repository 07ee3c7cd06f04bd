"""The numpy decoder is the torch codecs: every codec, every option, random and border cases."""

import inspect

import numpy as np
import pytest
import torch

from evg import codecs as _codecs  # noqa: F401  registers them
from evg.deploy.decode import DECODERS, check_codecs, decode
from evg.errors import UserError
from evg.registry import CODECS

FRAME = dict(size=(480, 270), pad=31, keep_aspect=False)
EYE_FRAME = dict(size=(64, 40), pad=0, keep_aspect=False)
EYE = dict(
    normaliser=dict(focal_px=650.0, distance_mm=250.0, size_px=[128, 80], scaling='r'),
    pupil_depth_mm=10.45,
    kappa_deg=[1.5, -5.0],
)
PLANE = dict(vp_size_px=(3840, 2160), ppm=3.3)
# Options of each codec; what is not named is the constructor's default. A registered codec has at least one.
CASES = {
    'VPHeatmapCodec': [
        dict(input_frame=FRAME, fit=fit, activation=activation, read_out=read_out, sigma=sigma, **PLANE)
        for fit in ('width', 'contain')
        for activation in ('sigmoid', 'softmax')
        for read_out in ('peak', 'expectation')
        for sigma in (None, 2.5)
    ],
    'VPPointCodec': [dict(input_frame=FRAME, **PLANE)],
    'FaceCenterCodec': [dict(input_frame=FRAME), dict(input_frame=FRAME, stride=8)],
    'PitchYawCodec': [dict(input_frame=FRAME, gaze_frame='normalised_r')],
    'BinnedPitchYawCodec': [
        dict(input_frame=FRAME, gaze_frame='camera'),
        dict(input_frame=FRAME, gaze_frame='camera', bins=28, limit_deg=42.0),
    ],
    'LandmarkHeatmapCodec': [
        dict(input_frame=EYE_FRAME, stride=stride, read_out=read_out, eye=eye)
        for stride in (1, 4)
        for read_out in ('soft_argmax', 'parabola')
        for eye in (None, EYE)
    ],
}
BATCH = 5
# 1e-5 of what a quantity can be; mm come from float32 VP px, whose last digit is 7e-5 mm.
SCALE = {'pred_plane_mm': 3840 / 3.3 / 2}


def _spec(name, options):
    """What model.json holds: every argument of the constructor."""
    parameters = inspect.signature(CODECS.get(name).__init__).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    return {'type': name, **defaults, **options}


def _maps(rng, shape, kind):
    """Raw maps (B, C, H, W) float32 of the kinds that a decoder meets."""
    maps = rng.normal(size=shape).astype(np.float32)
    height, width = shape[2:]
    if kind == 'saturated':  # many sigmoids are exactly 1: the largest logit counts
        return maps * 40
    if kind == 'constant':
        return np.full(shape, -2.19, np.float32)
    if kind == 'border':  # a clear peak at the corners and the middle of a side
        places = [(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1), (height - 1, width // 2)]
        for i, (row, column) in enumerate(places):
            maps[i, :, row, column] = 12
    return maps


def _bumps(rng, shape, kind):
    """Landmark maps as trained: 1 at a landmark, 0 far away; beside them what an untrained network gives."""
    if kind in ('saturated', 'constant'):
        return _maps(rng, shape, kind)
    height, width = shape[2:]
    low, high = ((0, 0), (width - 1, height - 1)) if kind == 'random' else ((-1, -1), (0.3, 0.3))
    x, y = rng.uniform(low, high, (*shape[:2], 2)).transpose(2, 0, 1)[..., None, None]
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    return np.exp(-((across - x) ** 2 + (down - y) ** 2) / 4.5).astype(np.float32)


def _raw(name, spec, codec, rng, kind):
    if name in ('VPHeatmapCodec', 'FaceCenterCodec', 'LandmarkHeatmapCodec'):
        width, height = codec.grid_size
    if name == 'VPHeatmapCodec':
        offset = rng.uniform(-1, 2, (BATCH, 2, height, width)).astype(np.float32)
        return {'heatmap': _maps(rng, (BATCH, 1, height, width), kind), 'offset': offset}
    if name == 'FaceCenterCodec':
        return {'face_heatmap': _maps(rng, (BATCH, 1, height, width), kind)}
    if name == 'LandmarkHeatmapCodec':
        return {'landmark_heatmap': _bumps(rng, (BATCH, 8, height, width), kind)}
    shape = (BATCH, 2, spec['bins']) if name == 'BinnedPitchYawCodec' else (BATCH, 2)
    output = {'VPPointCodec': 'point', 'PitchYawCodec': 'pitchyaw', 'BinnedPitchYawCodec': 'pitchyaw_bins'}[name]
    scale = {'random': 1, 'saturated': 50, 'constant': 0, 'border': np.pi / 2}[kind]
    return {output: (rng.normal(size=shape) * scale).astype(np.float32)}


def _assert_twins(codec, spec, outputs):
    expected = codec.decode({name: torch.from_numpy(value) for name, value in outputs.items()})
    found = decode({'main': spec}, outputs)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        value = tensor.double().numpy()
        assert found[name].shape == value.shape, name
        limit = 1e-5 * max(SCALE.get(name, 1.0), np.abs(value).max())
        np.testing.assert_allclose(found[name], value, rtol=0, atol=limit, err_msg=name)


def test_every_codec_has_a_twin_and_cases():
    registered = {name for name, kind in CODECS.module_dict.items() if kind.__module__.startswith('evg.')}
    assert registered == set(DECODERS) == set(CASES)


@pytest.mark.parametrize('kind', ['random', 'border', 'saturated', 'constant'])
@pytest.mark.parametrize('name', sorted(CASES))
def test_twins_agree(name, kind):
    for i, options in enumerate(CASES[name]):
        spec = _spec(name, options)
        check_codecs({'main': spec}, 'model.json')
        codec = CODECS.build(spec)
        _assert_twins(codec, spec, _raw(name, spec, codec, np.random.default_rng(i), kind))


def test_a_heatmap_without_offsets():
    rng = np.random.default_rng(0)
    for options in CASES['VPHeatmapCodec']:
        spec = _spec('VPHeatmapCodec', options)
        _assert_twins(CODECS.build(spec), spec, {'heatmap': _maps(rng, (BATCH, 1, 72, 128), 'border')})


def test_half_precision_is_widened_first():
    rng = np.random.default_rng(0)
    for name in ('VPHeatmapCodec', 'VPPointCodec', 'BinnedPitchYawCodec'):
        spec = _spec(name, CASES[name][0])
        codec = CODECS.build(spec)
        half = {k: v.astype(np.float16) for k, v in _raw(name, spec, codec, rng, 'random').items()}
        _assert_twins(codec, spec, half)


def test_a_peak_by_hand():
    # Grid 128 x 72 over 3840 px: 30 px a cell. Cell (64, 36) with offset (0.5, 0.25) is (15, 7.5) px off the middle.
    spec = _spec('VPHeatmapCodec', dict(input_frame=FRAME, **PLANE))
    heatmap, offset = np.full((1, 1, 72, 128), -9.0), np.zeros((1, 2, 72, 128))
    heatmap[0, 0, 36, 64] = 0
    offset[0, :, 36, 64] = (0.5, 0.25)
    found = decode({'main': spec}, {'heatmap': heatmap, 'offset': offset})
    np.testing.assert_allclose(found['pred_vp_px'], [[1935, 1087.5]], atol=1e-3)
    np.testing.assert_allclose(found['pred_plane_mm'], [[15 / 3.3, 7.5 / 3.3]], atol=1e-3)
    assert found['pred_score'] == pytest.approx(0.5)


def test_several_codecs_give_one_dict():
    rng = np.random.default_rng(0)
    specs = {name: _spec(name, CASES[name][0]) for name in ('VPHeatmapCodec', 'FaceCenterCodec')}
    outputs = {
        key: value
        for name, spec in specs.items()
        for key, value in _raw(name, spec, CODECS.build(spec), rng, 'random').items()
    }
    assert set(decode(specs, outputs)) == {'pred_vp_px', 'pred_plane_mm', 'pred_score', 'pred_face_center_input_px'}


@pytest.mark.parametrize(
    ('spec', 'message'),
    [
        ({'type': 'PitchYawCodek'}, "did you mean 'PitchYawCodec'"),
        ({'type': 'PitchYawCodec', 'input_frame': FRAME}, r"misses \['gaze_frame'\]"),
        ({'type': 'PitchYawCodec', 'input_frame': FRAME, 'gaze_frame': 'camera', 'x': 1}, r"has \['x'\]"),
    ],
)
def test_a_codec_that_cannot_be_decoded_is_named(spec, message):
    with pytest.raises(UserError, match=rf"model.json: codec 'main'.*{message}"):
        check_codecs({'main': spec}, 'model.json')
