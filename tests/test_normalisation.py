"""Normalisation (Zhang et al. 2018, and the older S R) against numbers worked out by hand and a second derivation."""

import cv2
import numpy as np
import pytest
from conftest import ROOT

from evg.config import load_config
from evg.datasets.transforms import Affine, LoadImage, NormaliseFace, RandomFlip, Warp
from evg.errors import UserError
from evg.geometry import (
    InputFrame,
    Normaliser,
    Rig,
    angle_between_deg,
    head_pitchyaw,
    normalisation_rotation,
    vector_to_pitchyaw,
)
from evg.geometry.warp import warp_patch
from evg.registry import DATASETS

XGAZE_448 = Normaliser(960, 300, (448, 448))
XGAZE_224 = Normaliser(960, 600, (224, 224))
CAMERA = np.array([[900.0, 0, 630], [0, 905, 370], [0, 0, 1]])
# The sample of MPIIFaceGaze that is printed in its readers: head rotation, face centre and target, mm.
MPII_HEAD = cv2.Rodrigues(np.array([-0.232, 0.0557, 0.0182]))[0]
MPII_CENTER, MPII_TARGET = np.array([27.79, 23.42, 524.54]), np.array([11.04, 166.87, -27.73])


def test_face_straight_ahead_without_roll_needs_no_rotation():
    assert np.allclose(normalisation_rotation([0, 0, 600], np.eye(3)), np.eye(3))


def test_face_on_the_right_of_the_picture_by_hand():
    # Direction (0.6, 0, 0.8): the new z axis; y stays; x = y x z = (0.8, 0, -0.6).
    rotation = normalisation_rotation([360, 0, 480], np.eye(3))
    assert np.allclose(rotation, [[0.8, 0, -0.6], [0, 1, 0], [0.6, 0, 0.8]])
    assert np.allclose(rotation @ [360, 0, 480], [0, 0, 600])


def test_roll_of_the_head_is_taken_out():
    # The head's x axis points along (0.8, 0.6, 0): the new x axis does, too.
    head = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    assert np.allclose(normalisation_rotation([0, 0, 500], head), head.T)


def test_batch_gives_rotations_that_level_the_head():
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(50, 3)) * 100 + [0, 0, 600]
    heads = np.linalg.qr(rng.normal(size=(50, 3, 3)))[0]
    rotations = normalisation_rotation(centers, heads)
    assert np.allclose(rotations @ rotations.swapaxes(1, 2), np.eye(3), atol=1e-12)
    assert np.allclose(np.linalg.det(rotations), 1)
    moved = np.einsum('nij,nj->ni', rotations, centers)
    assert np.allclose(moved, [[0, 0, np.linalg.norm(c)] for c in centers])
    head_x = np.einsum('nij,nj->ni', rotations, heads[:, :, 0])
    assert np.allclose(head_x[:, 1], 0, atol=1e-12)
    assert (head_x[:, 0] > 0).all()


@pytest.mark.parametrize(
    ('center', 'head', 'text'),
    [
        ([0, 0, 0], np.eye(3), 'lies in the camera'),
        ([600, 0, 0], np.eye(3), 'line of sight'),
        ([0, 600], np.eye(3), r'\(2,\)'),
    ],
)
def test_what_has_no_answer_is_refused(center, head, text):
    with pytest.raises(ValueError, match=text):
        normalisation_rotation(center, head)


def heads_and_places(count=40):
    """Faces some 60 cm away, turned every way that a face can be."""
    rng = np.random.default_rng(1)
    for _ in range(count):
        head = cv2.Rodrigues(rng.normal(size=3) * [0.3, 0.4, 0.3])[0]
        yield head, rng.normal(size=3) * [100, 80, 100] + [0, 0, 600], rng.normal(size=3) * [200, 150, 20]


def project(matrix, points):
    """Points (N, 3) to px."""
    homogeneous = points @ matrix.T
    return homogeneous[:, :2] / homogeneous[:, 2:]


def test_virtual_camera_by_hand():
    # A face at (360, 0, 480), 600 mm away, moved to 300 mm: S doubles the picture. Its centre is the patch's centre.
    norm = Normaliser(500, 300, (100, 80)).apply([360, 0, 480], np.eye(3), np.diag([800.0, 800, 1]))
    assert np.allclose(norm.rotation, [[0.8, 0, -0.6], [0, 1, 0], [0.6, 0, 0.8]])
    assert np.allclose(norm.scale, np.diag([1, 1, 0.5]))
    # The face centre is at px 800 * (0.75, 0) of the picture; 30 mm below it, at 500 * 30 / 300 px below the middle.
    assert np.allclose(norm.points_to([[600, 0], [600, 800 * 30 / 480]]), [[50, 40], [50, 90]])
    # A look from the face into the camera goes along -z of the virtual one: pitch and yaw are 0.
    assert np.allclose(norm.gaze_to([-360, 0, -480]), [0, 0, -1])
    # Up and to the user's right, as seen from the virtual camera.
    assert np.allclose(
        vector_to_pitchyaw(norm.gaze_to(norm.rotation.T @ [-0.3, -0.4, -0.5])),
        [np.arctan2(0.4, np.hypot(0.3, 0.5)), np.arctan2(0.3, 0.5)],
    )


def test_xgaze_448_and_224_are_one_view():
    for head, center, _ in heads_and_places():
        large, small = (n.apply(center, head, CAMERA) for n in (XGAZE_448, XGAZE_224))
        points = np.array([[0, 0], [639.5, 359.5], [1279, 719]])
        assert np.allclose(large.points_to(points), 2 * small.points_to(points), rtol=1e-12)
        assert np.array_equal(large.rotation, small.rotation)


@pytest.mark.parametrize('scaling', ['r', 'sr'])
def test_against_a_second_derivation(scaling):
    """The virtual camera built as a camera: a rotation that is found by turning, and pictures of 3-D points."""
    normaliser = Normaliser(960, 600, (224, 160), scaling)
    for head, center, target in heads_and_places():
        norm = normaliser.apply(center, head, CAMERA)
        # Turn z onto the face centre by the shortest way, then roll until the head's x axis has no y component.
        axis = np.cross(center, [0, 0, 1.0])
        angle = np.arctan2(np.linalg.norm(axis), center[2])
        turn = cv2.Rodrigues(axis / np.linalg.norm(axis) * angle)[0]
        x = turn @ head[:, 0]
        roll = np.arctan2(x[1], x[0])
        rotation = np.array([[np.cos(roll), np.sin(roll), 0], [-np.sin(roll), np.cos(roll), 0], [0, 0, 1]]) @ turn
        assert np.allclose(norm.rotation, rotation, atol=1e-12)
        # S R moves a point of the world; the virtual camera sees it where W maps its place in the picture.
        points = center + np.array([[30.0, 20, -40], [-50, 35, 10], [0, 0, 0]])
        moved = points @ rotation.T * [1, 1, 600 / np.linalg.norm(center)]
        assert np.allclose(norm.points_to(project(CAMERA, points)), project(normaliser.camera_matrix, moved), atol=1e-9)
        direction = rotation @ (target - center)
        if scaling == 'sr':
            direction[2] *= 600 / np.linalg.norm(center)
        assert np.allclose(norm.gaze_to(target - center), direction / np.linalg.norm(direction), atol=1e-12)


@pytest.mark.parametrize('scaling', ['r', 'sr'])
def test_way_back(scaling):
    normaliser = Normaliser(1300, 500, (256, 64), scaling)
    assert normaliser.gaze_frame == f'normalised_{scaling}'
    for head, center, target in heads_and_places():
        norm = normaliser.apply(center, head, CAMERA)
        gaze = (target - center) / np.linalg.norm(target - center)
        assert np.allclose(norm.gaze_from(norm.gaze_to(target - center)), gaze, atol=1e-9)
        assert np.allclose(norm.head_from(norm.head_to(head)), head, atol=1e-9)
        points = np.array([[400.0, 300], [700, 410]])
        assert np.allclose(norm.points_from(norm.points_to(points)), points, atol=1e-9, rtol=0)


def test_labels_of_the_two_kinds_differ_by_degrees():
    def difference(head, center, target):
        labels = [Normaliser(960, 600, (224, 224), s).apply(center, head, CAMERA) for s in ('r', 'sr')]
        return angle_between_deg(*(label.gaze_to(target - center) for label in labels))

    assert np.linalg.norm(MPII_CENTER) == pytest.approx(526, abs=0.5)
    assert difference(MPII_HEAD, MPII_CENTER, MPII_TARGET) == pytest.approx(2.0, abs=0.05)
    # On the axis the two angles to it are atan(r / z) and atan(r / 600), r the distance of the target from the axis.
    for z in (400.0, 800.0):
        expected = abs(np.degrees(np.arctan(np.hypot(150, 100) / z) - np.arctan(np.hypot(150, 100) / 600)))
        assert difference(np.eye(3), np.array([0, 0, z]), np.array([-150.0, 100, 0])) == pytest.approx(
            expected, abs=1e-9
        )
        assert expected > 4


def test_head_and_gaze_angles_mean_the_same():
    for head, center, _ in heads_and_places():
        norm = XGAZE_224.apply(center, head, CAMERA)
        # Somebody who looks along the nose, -z of the head.
        gaze = vector_to_pitchyaw(norm.gaze_to(-head[:, 2]))
        assert np.allclose(head_pitchyaw(norm.head_to(head)), gaze, atol=1e-12)
        # The published formula: asin and atan2 of the third column.
        column = norm.head_to(head)[:, 2]
        assert np.allclose(gaze, [np.arcsin(column[1]), np.arctan2(column[0], column[2])])


@pytest.mark.parametrize(
    ('scaling', 'distance', 'size', 'text'),
    [
        ('s', 600, (224, 224), "'r' .*or 'sr'"),
        ('r', 0, (224, 224), 'positive'),
        ('r', 600, (224, 0), 'positive'),
    ],
)
def test_constants_that_make_no_camera(scaling, distance, size, text):
    with pytest.raises(ValueError, match=text):
        Normaliser(960, distance, size, scaling)


@pytest.mark.parametrize('shrink', [1, 4])
def test_a_dot_lands_where_the_warp_says(shrink):
    """Also when the picture is first reduced: frames of a large camera lose no sharpness of position."""
    head, center = cv2.Rodrigues(np.array([0.1, -0.2, 0.3]))[0], np.array([60.0, -40, 620])
    matrix = CAMERA.copy()
    matrix[:2] *= shrink
    size = (1280 * shrink, 720 * shrink)
    norm = Normaliser(500, 600, (128, 128)).apply(center, head, matrix)
    dot = norm.points_from([70.3, 41.6])
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float32)
    image = np.exp(-((x - dot[0]) ** 2 + (y - dot[1]) ** 2) / (2 * (8 * shrink) ** 2)) * 250
    patch = warp_patch(np.repeat(image.round().astype(np.uint8)[..., None], 3, axis=2), norm.warp, (128, 128))[..., 0]
    assert patch.shape == (128, 128) and patch.max() > 200
    weight = patch.astype(float)
    y, x = np.indices(weight.shape)
    assert [(x * weight).sum() / weight.sum(), (y * weight).sum() / weight.sum()] == pytest.approx(
        [70.3, 41.6], abs=0.1
    )


def frame_results(tmp_path, **changes):
    """A frame with a dot at each eye and one at the face centre, and its labels."""
    head, tvec = cv2.Rodrigues(np.array([0.1, -0.2, 0.3]))[0], np.array([30.0, -20, 600])
    points = {'face': tvec, 'left': head @ [32, -5, 0] + tvec, 'right': head @ [-32, -5, 0] + tvec}
    image = np.zeros((720, 1280, 3), np.uint8)
    for place, color in zip(points.values(), ((255, 0, 0), (0, 255, 0), (0, 0, 255)), strict=True):
        x, y = project(CAMERA, place[None])[0]
        cv2.circle(image, (round(x * 16), round(y * 16)), 16 * 8, color, -1, cv2.LINE_AA, 4)
    cv2.imwrite(str(tmp_path / 'frame.png'), image)
    target = np.array([-120.0, -90, 10])
    gaze = (target - tvec) / np.linalg.norm(target - tvec)
    results = {
        'sample_id': 'a',
        'img_path': str(tmp_path / 'frame.png'),
        'rng': np.random.default_rng(0),
        'rig': Rig((1280, 720), (1920, 1080), (500, 300), camera_matrix=CAMERA),
        'gt_head_rvec': np.array([0.1, -0.2, 0.3]),
        'gt_origin_mm': points['face'],
        'gt_left_eye_mm': points['left'],
        'gt_right_eye_mm': points['right'],
        'gt_target_mm': target,
        'gt_gaze': gaze,
        'gaze_frame': 'camera',
        'gt_plane_mm': np.array([100.0, -80]),
        'gt_screen_px': None,
        'gt_face_box_px': None,
        'gt_head_pitchyaw_rad': None,
        'norm_rotation': None,
        'gt_eye_landmarks_px': np.tile(project(CAMERA, points['left'][None])[0], 12),
        'gt_pupil_landmarks_px': None,
    }
    return {**results, **changes}, points


@pytest.mark.parametrize('size', [(224, 224), (448, 448), (60, 36), (80, 120), (128, 128)])
@pytest.mark.parametrize('part', ['face', 'left_eye', 'right_eye'])
def test_patches_on_the_fly(tmp_path, part, size):
    results, points = frame_results(tmp_path)
    focal = 960 * min(size) / 224
    out = LoadImage()(results)
    for transform in (
        NormaliseFace({'focal_px': focal, 'distance_mm': 600, 'size_px': size}, part),
        Affine(InputFrame(size, 0)),
        Warp(),
    ):
        out = transform(out)
    assert out['img'].shape == (size[1], size[0], 3)
    # The dot of the part is in the middle.
    color = {'face': (255, 0, 0), 'left_eye': (0, 255, 0), 'right_eye': (0, 0, 255)}[part]
    assert np.abs(out['img'][size[1] // 2, size[0] // 2].astype(int) - color).max() < 60
    rotation = out['norm_rotation']
    origin = points[part.split('_')[0]]
    direction = rotation @ (np.array([-120.0, -90, 10]) - origin)
    assert np.allclose(out['gt_gaze'], direction / np.linalg.norm(direction))
    assert out['gaze_frame'] == 'normalised_r' and out['norm_scale'] == pytest.approx(600 / np.linalg.norm(origin))
    # Up and to the user's right.
    assert (vector_to_pitchyaw(out['gt_gaze']) > 0).all()
    if part == 'left_eye':
        assert np.allclose(out['gt_eye_landmarks_px'].reshape(12, 2), np.divide(size, 2))
    # Labels of the real camera stay.
    assert out['gt_plane_mm'].tolist() == [100, -80] and out['gt_origin_mm'] is results['gt_origin_mm']


def test_a_mirrored_patch_has_mirrored_labels(tmp_path):
    results, points = frame_results(tmp_path)
    plain = NormaliseFace(XGAZE_224)(LoadImage()(results))
    rotation, gaze, head = plain['norm_rotation'], plain['gt_gaze'], plain['gt_head_pitchyaw_rad']
    flipped = RandomFlip(1.0)(plain)
    assert np.allclose(vector_to_pitchyaw(flipped['gt_gaze']), vector_to_pitchyaw(gaze) * [1, -1])
    assert np.allclose(flipped['gt_head_pitchyaw_rad'], head * [1, -1])
    assert np.allclose(flipped['gt_left_eye_mm'], points['right'] * [-1, 1, 1])
    # The mirrored rotation still leads from the mirrored camera frame to the mirrored patch, and so does the head's.
    mirror = np.diag([-1.0, 1, 1])
    assert np.allclose(flipped['norm_rotation'], mirror @ rotation @ mirror)
    rvec = np.array([0.1, -0.2, 0.3])
    assert np.allclose(cv2.Rodrigues(flipped['gt_head_rvec'])[0], mirror @ cv2.Rodrigues(rvec)[0] @ mirror)


@pytest.mark.parametrize(
    ('changes', 'text'),
    [
        ({'gt_head_rvec': None}, 'needs a head_rvec, which a does not have'),
        ({'gt_origin_mm': None}, 'face origin'),
        ({'rig': None}, 'camera matrix'),
        ({'flipped': True}, 'before RandomFlip'),
        ({'gt_target_mm': None, 'gaze_frame': 'normalised_r'}, 'normalised already'),
    ],
)
def test_what_cannot_be_normalised_says_so(tmp_path, changes, text):
    with pytest.raises(UserError, match=text):
        NormaliseFace(XGAZE_224)(LoadImage()(frame_results(tmp_path, **changes)[0]))


def test_direction_without_a_target(tmp_path):
    results, _ = frame_results(tmp_path, gt_target_mm=None)
    with_target = NormaliseFace(XGAZE_224)(LoadImage()(frame_results(tmp_path)[0]))
    assert np.allclose(NormaliseFace(XGAZE_224)(LoadImage()(results))['gt_gaze'], with_target['gt_gaze'])
    with pytest.raises(UserError, match='face, left_eye, right_eye'):
        NormaliseFace(XGAZE_224, 'nose')


def test_eve_frames_as_face_patches(synth_eve, tmp_path):
    """configs/_base_/datasets/eve_face.py on the synthetic world in EVE's geometry."""
    bases = [str(ROOT / 'configs/_base_' / name) for name in ('default_runtime.py', 'datasets/eve_face.py')]
    (tmp_path / 'model.py').write_text('codecs = dict()\n')
    (tmp_path / 'cfg.py').write_text(f'_base_ = {[*bases, "./model.py"]}\n')
    cfg = load_config(tmp_path / 'cfg.py', [f'data_root={synth_eve}'])
    data = DATASETS.build(cfg.train_dataloader['dataset'])
    columns = data.index.columns
    for i in range(0, len(data), 3):
        packed = data[i]
        sample, rotation = packed['data_samples'], columns['norm_rotation'][i].reshape(3, 3)
        assert packed['inputs'].shape == (3, 224, 224) and sample.gaze_frame == 'normalised_r'
        assert np.allclose(sample.norm_rotation, rotation, atol=1e-9)
        assert np.allclose(sample.gt_gaze, rotation @ columns['gaze'][i], atol=1e-9)
        # The patch holds the face: its middle is not the black of the outside.
        assert packed['inputs'][:, 80:144, 80:144].mean() > 20
