"""Transforms: labels move with the picture."""

import cv2
import numpy as np
import pytest

from evg.codecs import FaceCenterCodec, VPHeatmapCodec
from evg.datasets.collate import collate_gaze
from evg.datasets.transforms import (
    Affine,
    FaceCrop,
    GaussianTarget,
    LoadImage,
    PackGaze,
    Photometric,
    RandomFlip,
    VPProjection,
    Warp,
)
from evg.errors import UserError
from evg.geometry import InputFrame, Rig, apply_affine

FRAME = InputFrame((480, 270), 31)
RIG = Rig((1920, 1080), (1920, 1080), (553, 311), (0, 155.5))


def _results(image, **changes):
    height, width = image.shape[:2]
    results = {
        'sample_id': 'p0/1',
        'img_path': 'p0/1.png',
        'subject': 'p0',
        'rig': RIG,
        'plane_rule': 'offset',
        'img': image,
        'image_size': (width, height),
        'stored_to_picture': np.eye(2, 3),
        'rng': np.random.default_rng(0),
        'gt_plane_mm': np.array([100.0, 150.0]),
        'gt_screen_px': RIG.offset_plane_to_screen_px([100.0, 150.0]),
        'gt_target_mm': np.array([-100.0, 150, 0]),
        'gt_origin_mm': np.array([20.0, 30, 600]),
        'gt_face_box_px': np.array([width * 0.4, height * 0.3, width * 0.7, height * 0.8]),
        'gt_eye_landmarks_px': None,
        'gt_pupil_landmarks_px': None,
    }
    return {**results, **changes}


def _dot(size, center, sigma=6.0):
    """A smooth dot with its centre at a fraction of a pixel."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    dot = 250 * np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * sigma**2))
    return np.repeat(dot.round().astype(np.uint8)[..., None], 3, axis=2)


def _centroid(image):
    weight = image[..., 0].astype(float)
    y, x = np.indices(weight.shape)
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


@pytest.mark.parametrize('flip', [0.0, 1.0])
@pytest.mark.parametrize('antialias', [True, False])
@pytest.mark.parametrize('size', [(1920, 1080), (1280, 720), (480, 270), (640, 480), (961, 541)])
def test_a_dot_lands_where_the_matrix_says(size, antialias, flip):
    center = np.array([size[0] * 0.31 + 0.37, size[1] * 0.62 + 0.81])
    sigma = 6 * size[0] / 480
    results = _results(_dot(size, center, sigma))
    results['gt_eye_landmarks_px'] = np.tile(center, 12)
    for transform in (RandomFlip(flip), Affine(FRAME), Warp(antialias)):
        results = transform(results)
    expected = apply_affine(results['affine'], results['gt_eye_landmarks_px'][:2])
    assert results['img'].shape == (288, 512, 3)
    assert _centroid(results['img']) == pytest.approx(expected, abs=0.1)


def test_flip_mirrors_everything():
    image = np.zeros((270, 480, 3), np.uint8)
    eyes, pupils = np.arange(24.0), np.arange(32.0)
    results = RandomFlip(1.0)(_results(image, gt_eye_landmarks_px=eyes, gt_pupil_landmarks_px=pupils))
    assert results['flipped']
    assert results['gt_plane_mm'].tolist() == [-100, 150]
    assert results['gt_target_mm'].tolist() == [100, 150, 0]
    assert results['gt_origin_mm'].tolist() == [-20, 30, 600]
    assert results['gt_face_box_px'].tolist() == pytest.approx([479 - 480 * 0.7, 81, 479 - 480 * 0.4, 216])
    # The plane point and the screen point stay one point, on a screen centred below the camera.
    assert results['gt_screen_px'] == pytest.approx(RIG.offset_plane_to_screen_px([-100, 150]))
    points = results['gt_eye_landmarks_px'].reshape(12, 2)
    # 36 (right eye, outer) becomes 45 (left eye, outer); 37 (upper lid, outer) becomes 44; 41 (lower, outer) becomes
    # 46.
    before = eyes.reshape(12, 2)
    for old, new in ((0, 9), (1, 8), (2, 7), (3, 6), (4, 11), (5, 10)):
        assert points[new].tolist() == [479 - before[old][0], before[old][1]]
        assert points[old].tolist() == [479 - before[new][0], before[new][1]]
    # The rims begin at the image's right, so the right eye's leftmost point (4) becomes the left eye's rightmost (0).
    after = results['gt_pupil_landmarks_px'].reshape(2, 8, 2)
    assert after[1, 0].tolist() == [479 - 8, 9]
    assert after[0, 6].tolist() == [479 - 28, 29]


def test_flip_twice_changes_nothing():
    image = np.zeros((270, 480, 3), np.uint8)
    labels = {
        'gt_eye_landmarks_px': np.arange(24.0),
        'gt_pupil_landmarks_px': np.arange(32.0),
        'keep_box_px': np.arange(4.0),
    }
    before = _results(image, **labels)
    after = RandomFlip(1.0)(RandomFlip(1.0)({**before}))
    for name in ('gt_plane_mm', 'gt_screen_px', 'gt_target_mm', 'gt_origin_mm', 'gt_face_box_px', *labels):
        np.testing.assert_allclose(after[name], before[name], atol=1e-9, err_msg=name)
    np.testing.assert_allclose(after['stored_to_picture'], np.eye(2, 3), atol=1e-12)


def test_flip_equals_flipping_the_file():
    image = np.random.default_rng(0).integers(0, 255, (270, 480, 3), np.uint8)
    flipped = _results(image)
    for transform in (RandomFlip(1.0), Affine(FRAME), Warp()):
        flipped = transform(flipped)
    plain = _results(np.ascontiguousarray(image[:, ::-1]))
    for transform in (Affine(FRAME), Warp()):
        plain = transform(plain)
    np.testing.assert_array_equal(flipped['img'], plain['img'])


def test_antialias_keeps_what_bilinear_sampling_skips():
    # One bright pixel in 16: its mean is 15.9, plain sampling at quarter size may miss it altogether.
    image = np.zeros((1080, 1920, 3), np.uint8)
    image[::4, ::4] = 255
    results = Warp()(Affine(InputFrame((480, 270), 0))(_results(image)))
    assert results['img'].mean() == pytest.approx(255 / 16, abs=0.5)


def test_stored_size_is_only_padded():
    image = np.random.default_rng(0).integers(0, 255, (270, 480, 3), np.uint8)
    results = Warp()(Affine(FRAME)(_results(image)))
    np.testing.assert_array_equal(results['img'][9:279, 16:496], image)
    assert results['img'][:9].max() == 0
    assert results['img'][:, 496:].max() == 0


@pytest.mark.parametrize('flip', [0.0, 1.0])
def test_face_crop_paints_the_mean_colour_around_the_box(flip):
    image = np.full((270, 480, 3), 40, np.uint8)
    box = np.array([200.0, 100, 260, 160])  # x 1.5 about its centre: 185..275, 85..175
    image[85:176, 185:276] = (200, 100, 50)
    mean = cv2.mean(image)[:3]
    results = _results(image, gt_face_box_px=box)
    for transform in (FaceCrop(1.0), RandomFlip(flip), Affine(FRAME), Warp()):
        results = transform(results)
    left = 16 + (479 - 275 if flip else 185)
    out = results['img']
    assert (out[9 + 85 : 9 + 176, left : left + 91] == (200, 100, 50)).all()
    assert out[9, 16].tolist() == np.rint(mean).tolist()
    assert (out[9:279, 16 : left - 1] == np.rint(mean)).all()
    assert out[0, 0].tolist() == [0, 0, 0]


def test_face_crop_without_a_box_says_so():
    with pytest.raises(UserError, match='face box'):
        FaceCrop(1.0)(_results(np.zeros((9, 9, 3), np.uint8), gt_face_box_px=None))


def test_photometric_keeps_shape_and_mid_grey_bounds():
    image = np.full((8, 8, 3), 128, np.uint8)
    transform = Photometric(0.1, 0.2, 0.0, 1.0)
    seen = [transform(_results(image, rng=np.random.default_rng(i)))['img'][0, 0, 0] for i in range(200)]
    # Contrast hardly moves mid grey, brightness moves it by at most 25.5.
    assert max(seen) <= 128 + 27
    assert min(seen) >= 128 - 27
    assert len(set(map(int, seen))) > 20
    untouched = Photometric(0.1, 0.2, 0.1, 0.0)(_results(image))['img']
    np.testing.assert_array_equal(untouched, image)


def test_projection_targets_and_packing():
    codec = VPHeatmapCodec(FRAME, (3840, 2160), 3.3)
    results = _results(np.zeros((270, 480, 3), np.uint8))
    targets = GaussianTarget({'g': codec, 'f': FaceCenterCodec(FRAME)})
    for transform in (Affine(FRAME), Warp(), VPProjection(codec), targets):
        results = transform(results)
    assert results['gt_vp_px'] == pytest.approx([1920 + 330, 1080 + 495])
    assert results['targets']['target_face_heatmap'].max() == 1
    packed = PackGaze()(results)
    batch = collate_gaze([packed, packed])
    assert batch['inputs'].shape == (2, 3, 288, 512)
    assert batch['targets']['target_heatmap'].shape == (2, 1, 72, 128)
    column, row = 64 + 330 // 30, 72 // 2 + 495 // 30
    assert batch['targets']['target_index'].tolist()[0] == row * 128 + column
    assert batch['data_samples'][0].gt_screen_px is results['gt_screen_px']


def test_labels_outside_the_plane_are_clamped():
    codec = VPHeatmapCodec(FRAME, (3840, 2160), 3.3)
    results = VPProjection(codec)(_results(np.zeros((9, 9, 3), np.uint8), gt_plane_mm=np.array([0.0, 400.0])))
    assert results['gt_vp_px'].tolist() == [1920, 2160]


@pytest.mark.parametrize('kind', ['missing', 'truncated', 'empty', 'text'])
def test_bad_pictures_name_the_file(tmp_path, kind):
    path = tmp_path / 'a.jpg'
    if kind != 'missing':
        data = cv2.imencode('.jpg', _dot((64, 48), (20, 20)))[1].tobytes()
        path.write_bytes({'truncated': data[: len(data) // 2], 'empty': b'', 'text': b'hello'}[kind])
    with pytest.raises(UserError, match=r'a\.jpg'):
        LoadImage()({'img_path': str(path)})
