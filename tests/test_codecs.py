"""Codecs: the original's figures, exact round trips, and the shape of the targets."""

import numpy as np
import pytest
import torch

from evg.codecs import FaceCenterCodec, VPHeatmapCodec
from evg.codecs.grid import cell_corners, gather_cells
from evg.codecs.main import main_first
from evg.deploy.decode import vp_heatmap
from evg.geometry import InputFrame
from evg.geometry.gaussian import centernet_radius, gaussian_heatmap
from evg.registry import CODECS

FRAMES = {'eve480': (480, 270), 'eve640': (640, 360), 'nano': (160, 96)}


def _codec(size=(640, 360), vp=(3840, 2360), ppm=1920 / 553, pad=31, **options):
    return VPHeatmapCodec(InputFrame(size, pad), vp, ppm, **options)


def _as_outputs(targets):
    """Perfect logits and offsets for encoded targets."""
    height, width = targets['target_heatmap'].shape[1:]
    heatmap = torch.from_numpy(targets['target_heatmap'])[None].clamp(1e-6, 1 - 1e-6).logit()
    offset = torch.from_numpy(targets['target_offset']).view(1, 2, 1, 1).expand(1, 2, height, width)
    return {'heatmap': heatmap, 'offset': offset}


# Golden vectors of the original (readme/tutorial/images of charlesquan106/EVG).
@pytest.mark.parametrize(
    ('codec', 'grid', 'cell', 'vp_px'),
    [
        (_codec(), (168, 96), (84.33526, 71.50287), (1927.66305, 1717.20843)),
        (_codec((512, 512), (2400, 2400), 5, pad=0), (128, 128), (68.20986, 50.127914), (1278.93491, 939.89840)),
    ],
)
def test_golden_vectors_of_the_original(codec, grid, cell, vp_px):
    assert codec.grid_size == grid
    np.testing.assert_allclose(codec.cell_to_vp(np.array(cell)), vp_px, atol=1e-4)
    np.testing.assert_allclose(codec.vp_to_cell(vp_px), cell, atol=1e-5)
    np.testing.assert_allclose(codec.cell_to_vp(torch.tensor([cell], dtype=torch.float64))[0], vp_px, atol=1e-4)


def test_centernet_radius():
    # b = 40: (40 + sqrt(1600 - 4 * 400 * 0.3 / 1.7)) / 2 = 38.15; the third quadratic gives 5.466 and is the least.
    assert centernet_radius((20, 20)) == pytest.approx(5.466, abs=1e-3)
    codec = _codec()
    assert (codec.radius, codec.sigma) == (5, pytest.approx(11 / 6))


def test_gaussian_against_the_formula():
    heatmap = gaussian_heatmap((9, 7), (4, 2), radius=2, sigma=0.8)
    for y in range(7):
        for x in range(9):
            d2 = (x - 4) ** 2 + (y - 2) ** 2
            inside = abs(x - 4) <= 2 and abs(y - 2) <= 2
            assert heatmap[y, x] == pytest.approx(np.exp(-d2 / (2 * 0.64)) if inside else 0, rel=1e-6)
    assert heatmap.max() == 1.0
    # At the border it is cut, not moved.
    corner = gaussian_heatmap((9, 7), (0, 6), radius=2, sigma=0.8)
    assert corner[6, 0] == 1
    assert np.count_nonzero(corner) == 9


@pytest.mark.parametrize('fit', ['width', 'contain'])
@pytest.mark.parametrize('name', FRAMES)
def test_decode_inverts_encode_on_the_whole_plane(name, fit):
    vp = (3360, 2100)  # does not fit the grids: 4.5 rows of 640 x 360 lie outside
    codec = _codec(FRAMES[name], vp, 5, fit=fit)
    rng = np.random.default_rng(1)
    inner = rng.uniform((0, 0), vp, (300, 2))
    w, h = vp
    border = [(0, 0), (w, 0), (0, h), (w, h), (w / 2, h), (w, h / 2), (w / 2, 0), (0, h / 2), (w / 2, h / 2)]
    for point in [*inner, *np.array(border, float)]:
        targets = codec.encode(point)
        assert targets['target_heatmap'].max() == 1.0
        decoded = codec.decode(_as_outputs(targets))
        # float32 of coordinates up to 3360 px: 1e-3 px is 2e-4 mm.
        assert decoded['pred_vp_px'][0].numpy() == pytest.approx(point, abs=2e-3)
        assert decoded['pred_plane_mm'][0].numpy() == pytest.approx((point - np.divide(vp, 2)) / 5, abs=4e-4)


def test_vp_mm_cell_round_trip_in_float64():
    codec = _codec()
    points = np.random.default_rng(2).uniform(-400, 400, (1000, 2))
    vp = codec.virtual_plane
    back = vp.to_mm(codec.cell_to_vp(codec.vp_to_cell(vp.from_mm(points))))
    np.testing.assert_allclose(back, points, atol=1e-6)


def test_rows_that_do_not_fit_are_reported():
    # 3360 x 2100 px on 168 x 96 cells: 20 px a cell, 105 rows needed (origins: 4.5 outside at each side).
    assert '4.50 rows' in _codec((640, 360), (3360, 2100), 5).describe()
    assert 'does not fit' not in _codec((640, 360), (3360, 2100), 5, fit='contain').describe()
    assert 'does not fit' not in _codec((480, 270), (3840, 2160), 3.3).describe()
    assert '9.09 mm' in _codec((480, 270), (3840, 2160), 3.3).describe()


def test_without_offset_the_middle_of_the_cell():
    codec = _codec()
    targets = codec.encode((1000, 900))
    outputs = {'heatmap': _as_outputs(targets)['heatmap']}
    expected = np.floor(codec.vp_to_cell((1000, 900))) + 0.5
    np.testing.assert_allclose(codec.vp_to_cell(codec.decode(outputs)['pred_vp_px'].numpy()), expected[None], atol=1e-4)


def test_expectation_read_out_of_two_equal_peaks():
    codec = _codec((480, 270), (3840, 2160), 3.3, read_out='expectation')
    logits = torch.full((1, 1, 72, 128), -30.0)
    logits[0, 0, 10, 20] = logits[0, 0, 30, 60] = 30.0
    cell = codec.vp_to_cell(codec.decode({'heatmap': logits})['pred_vp_px'].numpy())
    np.testing.assert_allclose(cell, [[40.5, 20.5]], atol=1e-3)


def test_softmax_heatmap_and_score():
    codec = _codec((480, 270), (3840, 2160), 3.3, activation='softmax', read_out='expectation')
    targets = codec.encode((1000.0, 900.0))
    # A perfect softmax: the log of the target's Gaussian. Its score is 1, a flat one's nearly 0.
    logits = torch.from_numpy(targets['target_heatmap'])[None].clamp(min=1e-12).log()
    perfect = {'heatmap': logits + 5.0, 'offset': _as_outputs(targets)['offset']}
    decoded = codec.decode(perfect)
    assert float(decoded['pred_score'][0]) == pytest.approx(1, abs=0.02)
    assert decoded['pred_vp_px'][0].numpy() == pytest.approx((1000, 900), abs=0.5)
    flat = codec.decode({'heatmap': torch.zeros_like(logits)})
    assert float(flat['pred_score'][0]) == pytest.approx(2 * np.pi * (11 / 6) ** 2 / (128 * 72), rel=1e-4)
    assert flat['pred_vp_px'][0].numpy() == pytest.approx((1920, 1080), abs=1)


def test_expected_cell_has_a_gradient_towards_the_target():
    codec = _codec((160, 96), (640, 720), 1.0, pad=0, fit='contain')
    logits = torch.zeros(1, 1, *codec.grid_size[::-1], requires_grad=True)
    codec.expected_cell({'heatmap': logits})[0, 0].backward()
    gradient = logits.grad[0, 0]
    assert (gradient[:, -1] > 0).all()
    assert (gradient[:, 0] < 0).all()


def test_sigma_instead_of_the_rule_and_bad_options():
    assert _codec(sigma=3).radius == 9
    for options, message in [
        (dict(sigma=0), 'sigma'),
        (dict(fit='x'), 'fit'),
        (dict(read_out='x'), 'read_out'),
        (dict(activation='x'), 'activation'),
    ]:
        with pytest.raises(ValueError, match=message):
            _codec(**options)
    with pytest.raises(ValueError, match='stride'):
        _codec((161, 96), pad=0)
    with pytest.raises(ValueError, match='not finite'):
        _codec().encode((np.nan, 3))


@pytest.mark.parametrize('activation', ['sigmoid', 'softmax'])
def test_the_higher_of_two_peaks_at_the_limit_counts(activation):
    """Softmaxes of 0.88 and 0.12 are both above the Gaussian's 0.047, and sigmoids of 40 and 42 are both 1."""
    codec = _codec((480, 270), (3840, 2160), 3.3, activation=activation)
    logits = torch.full((1, 1, 72, 128), -30.0)
    logits[0, 0, 10, 20] = 40.0
    logits[0, 0, 50, 90] = 42.0  # exp(2) = 7.4 times as likely
    outputs = {'heatmap': logits}
    decoded = codec.decode(outputs)
    # 30 px a cell, the grid's middle (64, 36) at the plane's.
    expected = [1920 + (90.5 - 64) * 30, 1080 + (50.5 - 36) * 30]
    np.testing.assert_allclose(decoded['pred_vp_px'].numpy(), [expected], atol=1e-3)
    assert decoded['pred_score'].item() == 1
    arguments = dict(fit='width', heatmap_hw=20, sigma=None, read_out='peak', stride=4, ppm=3.3)
    numpy = vp_heatmap(
        {'heatmap': logits.numpy()}, input_frame=dict(size=(480, 270), pad=31), vp_size_px=(3840, 2160),
        activation=activation, **arguments,
    )  # fmt: skip
    np.testing.assert_allclose(numpy['pred_vp_px'], [expected], atol=1e-3)


def test_face_center_round_trip_within_a_cell():
    codec = FaceCenterCodec(InputFrame((480, 270)))
    for center in np.random.default_rng(3).uniform((0, 0), (511, 287), (200, 2)):
        target = codec.encode(center)['target_face_heatmap']
        assert target.max() == 1
        decoded = codec.decode({'face_heatmap': torch.from_numpy(target)[None]})['pred_face_center_input_px'][0].numpy()
        # Half a cell of 4 px.
        assert np.abs(decoded - center).max() <= 2.0
    assert codec.encode((-20, 50))['target_face_heatmap'].max() == 0


def test_cells():
    maps = torch.arange(24.0).view(1, 2, 3, 4)
    assert gather_cells(maps, torch.tensor([5])).tolist() == [[5.0, 17.0]]
    assert cell_corners(torch.tensor([5, 11]), 4).tolist() == [[1, 1], [3, 2]]


def test_the_main_codec_comes_first_in_any_order():
    # as a dumped config has them: sorted by name, `face` before `gaze`
    frame = dict(size=(96, 64), pad=0)
    face = dict(type='FaceCenterCodec', input_frame=frame)
    gaze = dict(type='VPPointCodec', input_frame=frame, vp_size_px=(640, 400), ppm=1.0)
    codecs = {'face': face, 'gaze': gaze}
    assert list(main_first(codecs)) == ['gaze', 'face']
    assert list(main_first({name: CODECS.build(codec) for name, codec in codecs.items()})) == ['gaze', 'face']
    assert list(main_first({**codecs, 'face': None})) == ['gaze']
