"""What makes the input pipeline fast changes no picture: decoding at a part of the size, pasting instead of warping."""

import cv2
import h5py
import numpy as np
import pytest
from conftest import CONFIGS, ROOT

from evg.config import load_config
from evg.datasets.pictures import PictureError, read_image, read_reduced
from evg.datasets.transforms import (
    Affine,
    FaceCrop,
    LoadImage,
    NormaliseFace,
    RandomFlip,
    Warp,
)
from evg.errors import UserError
from evg.geometry import InputFrame, Normaliser, apply_affine
from evg.geometry.warp import warp_to_input

FRAME = InputFrame((480, 270), 31)
# Stored size, and what it is reduced by on the way to 480 x 270; odd ones are no multiple of it.
SIZES = {
    (1920, 1080): 4, (1921, 1083): 4, (967, 545): 2, (3843, 2165): 8, (1440, 810): 2, (2592, 1458): 4, (959, 540): 1,
}  # fmt: skip


def _jpeg(path, image, *options):
    assert cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 95, *options])
    return str(path)


def _dot(size, center):
    """A smooth dot, 6 px wide in the input."""
    sigma = 6 * size[0] / 480
    x = np.exp(-((np.arange(size[0]) - center[0]) ** 2) / (2 * sigma**2))
    y = np.exp(-((np.arange(size[1]) - center[1]) ** 2) / (2 * sigma**2))
    return np.repeat((250 * np.outer(y, x)).round().astype(np.uint8)[..., None], 3, axis=2)


def _smooth(size, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 8, 3), np.uint8)
    return cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)


def _through(path, load, *transforms, **labels):
    results = {
        'img_path': path, 'sample_id': 'a', 'subject': 'a', 'rng': np.random.default_rng(0), 'gt_screen_px': None,
        'gt_face_box_px': None, 'gt_eye_landmarks_px': None, 'gt_pupil_landmarks_px': None, **labels,
    }  # fmt: skip
    for transform in (load, *transforms, Affine(FRAME), Warp()):
        results = transform(results)
    return results


def _centroid(image):
    weight = image[..., 1].astype(float)
    weight[weight < 6] = 0  # what JPEG adds far away
    y, x = np.indices(weight.shape)
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


@pytest.mark.parametrize('flip', [0.0, 1.0])
@pytest.mark.parametrize('size', SIZES)
def test_a_dot_of_a_reduced_picture_is_where_it_belongs(tmp_path, size, flip):
    center = np.array([size[0] * 0.31 + 0.37, size[1] * 0.62 + 0.81])
    path = _jpeg(tmp_path / 'a.jpg', _dot(size, center))
    labels = {'gt_eye_landmarks_px': np.tile(center, 12)}
    reduced = _through(path, LoadImage({'size': (480, 270)}), RandomFlip(flip), **labels)
    whole = _through(path, LoadImage(), RandomFlip(flip), **labels)
    assert (reduced['reduced_by'], whole['reduced_by']) == (SIZES[size], 1)
    assert reduced['image_size'] == whole['image_size'] == size
    for name in ('affine', 'gt_eye_landmarks_px'):
        np.testing.assert_array_equal(reduced[name], whole[name])
    expected = apply_affine(reduced['affine'], reduced['gt_eye_landmarks_px'][:2])
    assert _centroid(reduced['img']) == pytest.approx(expected, abs=0.1)
    assert _centroid(reduced['img']) == pytest.approx(_centroid(whole['img']), abs=0.1)


@pytest.mark.parametrize('sampling', ['420', '444'])
@pytest.mark.parametrize('size', SIZES)
def test_a_smooth_picture_keeps_its_colours(tmp_path, size, sampling):
    options = cv2.IMWRITE_JPEG_SAMPLING_FACTOR, getattr(cv2, f'IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}')
    path = _jpeg(tmp_path / 'a.jpg', _smooth(size), *options)
    reduced, whole = (_through(path, load)['img'].astype(int) for load in (LoadImage(FRAME), LoadImage()))
    difference = np.abs(reduced - whole)
    # Not the border of the picture, where the two leave out another rest, less than a px of the input.
    assert difference[11:277, 18:494].max() <= 3 and difference[11:277, 18:494].mean() <= 0.5
    if size == (1920, 1080):
        assert difference.max() <= 3
    assert not reduced[:8].any() and not reduced[:, 497:].any()


@pytest.mark.parametrize('address', ['png', 'h5', 'tar', 'progressive', 'turned'])
def test_what_is_reduced_and_what_is_not(tmp_path, address):
    image = _smooth((1921, 1083))
    shrink = {(1921, 1083): 5}.__getitem__
    if address == 'h5':
        with h5py.File(tmp_path / 'a.h5', 'w') as file:
            file['x'] = image[None]
        path = f'{tmp_path / "a.h5"}#x/0'
    elif address == 'png':
        path = _jpeg(tmp_path / 'a.png', image)
    else:
        path = _jpeg(tmp_path / 'a.jpg', image, cv2.IMWRITE_JPEG_PROGRESSIVE, int(address == 'progressive'))
    if address in ('h5', 'png'):
        found, size, reduced_by = read_reduced(path, shrink)
        assert reduced_by == 1
        np.testing.assert_array_equal(found, image)
    else:
        plain = cv2.imread(path, cv2.IMREAD_REDUCED_COLOR_4)
        data = (tmp_path / 'a.jpg').read_bytes()
        if address == 'tar':
            (tmp_path / 'a.tar').write_bytes(b'0' * 512 + data)
            path = f'{tmp_path / "a.tar"}#512+{len(data)}'
        if address == 'turned':  # EXIF says that the upper side is at the right; a label's px are those of the file
            exif = b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0'
            (tmp_path / 'a.jpg').write_bytes(
                data[:2] + b'\xff\xe1' + (len(exif) + 2).to_bytes(2, 'big') + exif + data[2:]
            )
            assert cv2.imread(path).shape == (1921, 1083, 3)
        found, size, reduced_by = read_reduced(path, shrink)
        assert reduced_by == 4 and plain.shape == (271, 481, 3)
        np.testing.assert_array_equal(found, plain[:270, :480])
    assert size == (1921, 1083)
    assert read_image(path).shape == (1083, 1921, 3)


def _with_thumbnail(data):
    """A JPEG with a small one in its EXIF segment, and where the small one ends."""
    exif = b'Exif\0\0' + cv2.imencode('.jpg', _smooth((8, 8)))[1].tobytes()
    segment = b'\xff\xe1' + (len(exif) + 2).to_bytes(2, 'big') + exif
    return data[:2] + segment + data[2:], 2 + len(segment)


@pytest.mark.parametrize('progressive', [0, 1])
def test_a_jpeg_is_whole_where_its_scans_end_whatever_follows(tmp_path, progressive):
    image = _smooth((320, 200))
    data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])[1].tobytes()
    plain = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    framed, end_of_thumbnail = _with_thumbnail(data)
    second = cv2.imencode('.jpg', _smooth((30, 20)))[1].tobytes()
    path = tmp_path / 'a.jpg'
    for whole in (data, data + bytes(65), data + b'trailer' * 5000, framed + bytes(3000), data + second[:-70]):
        path.write_bytes(whole)
        np.testing.assert_array_equal(read_image(str(path)), plain)
    tables_first = data[: data.index(b'\xff\xda')] + framed[2:end_of_thumbnail] + data[data.index(b'\xff\xda') :]
    scan = tables_first.index(b'\xff\xda', data.index(b'\xff\xda') + end_of_thumbnail - 2)
    for cut in (
        data[:-2],
        data[: len(data) // 2],
        framed[:end_of_thumbnail],
        framed[: end_of_thumbnail + 40],
        framed[: len(framed) // 2],
        tables_first[: scan + 40],  # the thumbnail's end marker is among the last 64 bytes
    ):
        path.write_bytes(cut)
        with pytest.raises(PictureError, match=r'a\.jpg'):
            read_image(str(path))


def test_headers_that_lie_are_refused_or_decoded_whole(tmp_path):
    path = tmp_path / 'a.jpg'
    data = cv2.imencode('.jpg', _smooth((64, 48)))[1].tobytes()
    frame = data.index(b'\xff\xc0')
    for changed in (
        data[:2] + b'\xff\xd9',
        data[: frame + 4] + b'\xff\xd9',
        data[:4] + b'\xff\xff' + data[6:],
        b'\xff\xd8',
    ):
        path.write_bytes(changed)
        with pytest.raises(PictureError, match=r'a\.jpg'):
            read_reduced(str(path), lambda size: 8)
    # No rest of 8 px is there to leave out.
    path.write_bytes(cv2.imencode('.jpg', _smooth((200, 3)))[1].tobytes())
    assert read_reduced(str(path), lambda size: 8)[0].shape == (1, 100, 3)


@pytest.mark.parametrize('flip', [0.0, 1.0])
def test_face_crop_of_a_reduced_picture(tmp_path, flip):
    image = np.full((1080, 1920, 3), 40, np.uint8)
    image[336:704, 736:1104] = (200, 100, 50)  # px 84..175 and 184..275 at a quarter of the size
    box = np.array([-1, -1, 1, 1]) * 183.5 / 1.5 + [919.5, 519.5, 919.5, 519.5]  # x 1.5: 736, 336, 1103, 703
    path = _jpeg(tmp_path / 'a.jpg', image, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    out = _through(path, LoadImage(FRAME), FaceCrop(1.0), RandomFlip(flip), gt_face_box_px=box)['img'].astype(int)
    left = 16 + (480 - 276 if flip else 184)
    inside = np.zeros(out.shape[:2], bool)
    inside[9 + 84 : 9 + 176, left : left + 92] = True
    share = 368 * 368 / (1920 * 1080)
    mean = 40 + share * (np.array([200, 100, 50]) - 40)
    assert np.abs(out[inside] - (200, 100, 50)).max() <= 3
    around = ~inside
    around[:9] = around[279:] = around[:, :16] = around[:, 496:] = False
    assert np.abs(out[around] - mean).max() <= 1.5
    assert len(np.unique(out[around], axis=0)) == 1
    assert not out[~around & ~inside].any()


def test_what_needs_every_pixel_says_so(tmp_path):
    path = _jpeg(tmp_path / 'a.jpg', _smooth((1920, 1080)))
    with pytest.raises(UserError, match='take input_frame out of LoadImage'):
        Warp(antialias=False)(Affine(FRAME)(LoadImage(FRAME)({'img_path': path, 'gt_face_box_px': None})))
    normalise = NormaliseFace(Normaliser(960, 600, (224, 224)))
    labels = {'gt_head_rvec': np.zeros(3), 'gt_origin_mm': np.array([0, 0, 500.0]), 'sample_id': 'a'}
    rig = type('Rig', (), {'camera_matrix': np.eye(3)})
    with pytest.raises(UserError, match='take input_frame out of LoadImage'):
        normalise(LoadImage(FRAME)({'img_path': path, 'rig': rig, **labels}))


@pytest.mark.parametrize('path', CONFIGS)
def test_configs_reduce_for_the_frame_of_the_network_only(path):
    cfg = load_config(ROOT / path)
    for pipeline in (cfg.train_pipeline, cfg.test_pipeline):
        steps = {step['type']: step for step in pipeline}
        expected = None if 'NormaliseFace' in steps else steps['Affine']['input_frame']
        assert steps['LoadImage'].get('input_frame') == expected


def _bilinear(image, matrix, size):
    """The slow formula in float64; the outermost half px have the border's colour, what lies outside is black."""
    height, width = image.shape[:2]
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    x, y = (x - matrix[0, 2]) / matrix[0, 0], (y - matrix[1, 2]) / matrix[1, 1]
    inside = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    column, row = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    x, y, image = (x - column)[..., None], (y - row)[..., None], image.astype(float)
    upper = image[row, column] * (1 - x) + image[row, column + 1] * x
    lower = image[row + 1, column] * (1 - x) + image[row + 1, column + 1] * x
    return (upper * (1 - y) + lower * y) * inside[..., None]


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize('size', [(480, 270), (640, 360), (600, 500), (320, 180), (479, 270)])
def test_a_pasted_picture_is_a_sampled_one(size, flip):
    image = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    matrix = FRAME.matrix(size)
    if flip:  # the input's, about its vertical axis
        matrix[0] = [-matrix[0, 0], 0, 511 - matrix[0, 2]]
    found = warp_to_input(image, matrix, FRAME.input_size)
    assert np.abs(found - _bilinear(image, matrix, FRAME.input_size)).max() <= 1


@pytest.mark.parametrize(
    'matrix',
    [
        [[1, 0, 40.25], [0, 1, 20]],
        [[1, 0, -3], [0, 1, 20]],
        [[1, 0, 200], [0, 1, 20]],
        [[1, 0, 40], [0, 1, 70]],
        [[0.9, 0, 40], [0, 0.9, 20]],
    ],
    ids=['fraction', 'left', 'right', 'below', 'scale'],
)
def test_a_picture_that_cannot_be_pasted_is_sampled(matrix):
    image, matrix = _smooth((400, 250)), np.array(matrix, float)
    found = warp_to_input(image, matrix, (512, 288))
    expected = _bilinear(image, matrix, (512, 288))
    (x1, y1), (x2, y2) = apply_affine(matrix, [[1, 1], [398, 248]]).astype(int)
    inside = np.s_[y1 + 1 : y2, max(x1 + 1, 0) : x2]  # at the picture's border OpenCV mixes in the black around it
    assert found[inside].size > 100_000
    assert np.abs(found - expected)[inside].max() <= 1.5
