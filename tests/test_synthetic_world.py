"""The synthetic world: every label against an independent derivation, and the picture against the labels."""

import hashlib
import os
import subprocess
import sys
from itertools import pairwise

import cv2
import numpy as np
import pytest

from evg.geometry import vector_to_pitchyaw
from evg.synthetic import GEOMETRIES, SyntheticWorld, gallery
from evg.synthetic.persons import make_person


@pytest.fixture(scope='module')
def frames():
    """40 frames of 8 persons in each geometry, small pictures: for the labels."""
    out = {}
    for name in GEOMETRIES:
        world = SyntheticWorld(name, (96, 128) if name in ('phone', 'tablet') else (160, 96), seed=3)
        out[name] = (world, [world.frame(p, i) for p in range(8) for i in range(5)])
    return out


def by_hand_px(rig, points_mm):
    """Pinhole projection written out."""
    k, p = rig.camera_matrix, np.asarray(points_mm)
    return np.stack([k[0, 0] * p[..., 0] / p[..., 2] + k[0, 2], k[1, 1] * p[..., 1] / p[..., 2] + k[1, 2]], axis=-1)


def test_default_sizes_and_rigs():
    sizes = {name: SyntheticWorld(name).rig.image_size for name in GEOMETRIES}
    assert sizes == {'eve': (480, 270), 'close': (160, 96), 'phone': (240, 320), 'tablet': (240, 320)}
    eve = SyntheticWorld('eve', (1920, 1080)).rig
    np.testing.assert_allclose(eve.camera_matrix, [[1435, 0, 959.5], [0, 1435, 539.5], [0, 0, 1]])
    assert eve.screen_size_mm == (553, 311) and eve.screen_size_px == (1920, 1080)
    for name in GEOMETRIES:
        rotation = SyntheticWorld(name).rig.screen_to_camera[:3, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1)


@pytest.mark.parametrize(
    ('name', 'camera_mm', 'size_mm'), [('phone', (18.61, 8.03), (58.5, 104.05)), ('tablet', (74.5, 10.5), (149, 198.1))]
)
def test_handheld_screens_follow_the_device_table(frames, name, camera_mm, size_mm):
    world, some = frames[name]
    for f in some:
        x, y = f.pog_px * np.divide(size_mm, world.rig.screen_size_px)
        # GazeCapture, portrait: (XCam, YCam) = (x - dX, -dY - y); camera frame (-XCam, -YCam, 0).
        np.testing.assert_allclose(f.target_cam_mm, [-(x - camera_mm[0]), camera_mm[1] + y, 0], atol=1e-9)
        np.testing.assert_allclose(f.pog_plane_mm, world.rig.offset_screen_px_to_plane(f.pog_px), atol=1e-9)
        np.testing.assert_allclose(f.pog_plane_ray_mm, f.pog_plane_mm, atol=1e-9)


@pytest.mark.parametrize('name', GEOMETRIES)
def test_targets_and_plane_points(frames, name):
    world, some = frames[name]
    rig = world.rig
    for f in some:
        mm = f.pog_px * rig.screen_size_mm / np.array(rig.screen_size_px)
        np.testing.assert_allclose((rig.screen_to_camera @ [*mm, 0, 1])[:3], f.target_cam_mm, atol=1e-9)
        np.testing.assert_allclose(f.pog_plane_mm, [-f.target_cam_mm[0], f.target_cam_mm[1]])
        o, d = f.face_origin_mm, f.target_cam_mm - f.face_origin_mm
        cross = o - d * o[2] / d[2]
        np.testing.assert_allclose(f.pog_plane_ray_mm, [-cross[0], cross[1]], atol=1e-9)
        for gaze, eye in (
            (f.gaze_cam, f.face_origin_mm),
            (f.left_gaze_cam, f.left_eye_mm),
            (f.right_gaze_cam, f.right_eye_mm),
        ):
            assert np.linalg.norm(gaze) == pytest.approx(1)
            reach = np.linalg.norm(f.target_cam_mm - eye)
            np.testing.assert_allclose(eye + reach * gaze, f.target_cam_mm, atol=1e-9)


def test_the_two_placement_rules_differ_a_little_on_the_desk(frames):
    for name in ('eve', 'close'):
        world, some = frames[name]
        offset = world.rig.offset_screen_px_to_plane([f.pog_px for f in some])
        distance = np.linalg.norm(offset - [f.pog_plane_mm for f in some], axis=1)
        assert 5 < distance.mean() < 30


@pytest.mark.parametrize('name', GEOMETRIES)
def test_signs(frames, name):
    """The user's right is at negative x of the camera, positive yaw; below is at positive y, negative pitch."""
    world, some = frames[name]
    middle = world.rig.screen_px_to_camera(np.divide(world.rig.screen_size_px, 2))
    for f in some:
        to_middle = vector_to_pitchyaw(middle - f.face_origin_mm)
        pitch, yaw = vector_to_pitchyaw(f.gaze_cam)
        across, down = f.pog_px / world.rig.screen_size_px - 0.5
        # Near the middle the tilt of the screen and the other axis decide.
        if abs(across) > 0.1:
            assert (f.target_cam_mm[0] < middle[0]) == (across > 0) == (yaw > to_middle[1])
        if abs(down) > 0.2:
            assert (f.target_cam_mm[1] > middle[1]) == (down > 0) == (pitch < to_middle[0])
    if name in ('eve', 'close'):
        clear = [f for f in some if abs(f.pog_px[0] - 960) > 60]
        assert all((f.target_cam_mm[0] < 0) == (f.pog_px[0] > 960) for f in clear) and len(clear) > 30


@pytest.mark.parametrize('name', GEOMETRIES)
def test_head_and_eyeballs(frames, name):
    world, some = frames[name]
    for f in some:
        rotation = f.head_rotation
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1)
        assert rotation[2, 2] > 0.8  # z into the head: roughly facing the camera
        right, left = ((eye - f.head_translation_mm) @ rotation for eye in (f.right_eye_mm, f.left_eye_mm))
        half = make_person(3, f.person).ipd_mm / 2
        np.testing.assert_allclose(right, [-half, 0, 0], atol=1e-9)
        np.testing.assert_allclose(left, [half, 0, 0], atol=1e-9)
        u_right, u_left = by_hand_px(world.rig, [f.right_eye_mm, f.left_eye_mm])[:, 0]
        assert u_right < u_left
        # The face, not its back, is turned to the screen.
        assert -rotation[:, 2] @ f.gaze_cam > 0.6
    low, high = (450, 750) if name in ('eve', 'close') else (250, 450)
    assert all(low <= f.head_translation_mm[2] <= high for f in some)


def test_pupils_lie_where_the_geometry_says(frames):
    """Rays back through the landmarks meet the iris plane at the pupil's radius."""
    for world, some in frames.values():
        k = world.rig.camera_matrix
        for f in some:
            sides = ((f.right_eye_mm, f.right_optical_cam), (f.left_eye_mm, f.left_optical_cam))
            for points, (eye, axis) in zip(f.pupil_landmarks_px, sides, strict=True):
                centre = eye + np.sqrt(12.0**2 - 5.9**2) * axis
                rays = np.column_stack([(points - k[:2, 2]) / np.diag(k)[:2], np.ones(8)])
                on_plane = rays * (axis @ centre / (rays @ axis))[:, None]
                radius = np.linalg.norm(on_plane - centre, axis=1)
                np.testing.assert_allclose(radius, f.pupil_radius_mm, atol=1e-6)
                np.testing.assert_allclose(on_plane.mean(axis=0), centre, atol=1e-6)
                assert 0.75 <= f.pupil_radius_mm <= 2


def test_kappa_between_the_axes(frames):
    for _, some in frames.values():
        for f in some:
            for name, nasal in (('right', 1), ('left', -1)):
                optical, visual = getattr(f, f'{name}_optical_cam'), getattr(f, f'{name}_gaze_cam')
                pitch, yaw = getattr(f, f'kappa_{name}_rad')
                assert optical @ visual == pytest.approx(np.cos(pitch) * np.cos(yaw), abs=1e-12)
                # Nasal of the right eye is the person's left, the head's +x; its kappa yaw is then negative.
                toward = ((visual - optical) @ f.head_rotation)[0] * nasal
                assert np.sign(toward) == np.sign(-yaw * nasal) or abs(toward) < 5e-3


def test_kappa_of_a_population():
    people = [make_person(11, n) for n in range(500)]
    right, left = (np.degrees([getattr(p, f'kappa_{side}_rad') for p in people]) for side in ('right', 'left'))
    for nasal in (-right[:, 1], left[:, 1]):
        assert nasal.mean() == pytest.approx(4, abs=0.25)
        assert nasal.std() == pytest.approx(1.2, abs=0.15)
    for vertical in (right[:, 0], left[:, 0]):
        assert vertical.mean() == pytest.approx(0.5, abs=0.25)
        assert vertical.std() == pytest.approx(1.2, abs=0.15)
    assert np.corrcoef(-right[:, 1], left[:, 1])[0, 1] > 0.7
    ipd = np.array([p.ipd_mm for p in people])
    assert ipd.mean() == pytest.approx(63, abs=0.7) and ipd.std() == pytest.approx(4, abs=0.5)
    assert 0.1 < np.mean([p.glasses is not None for p in people]) < 0.4


@pytest.mark.parametrize('name', GEOMETRIES)
def test_labels_are_whole_and_inside(frames, name):
    world, some = frames[name]
    width, height = world.rig.image_size
    for f in some:
        assert f.image.shape == (height, width, 3) and f.image.dtype == np.uint8
        for key, value in vars(f).items():
            if isinstance(value, np.ndarray) and key != 'image':
                assert value.dtype == np.float64 and np.isfinite(value).all(), key
        assert f.landmarks_px.shape == (68, 2) and f.eye_landmarks_px.shape == (12, 2)
        np.testing.assert_array_equal(f.landmarks_px[36:48], f.eye_landmarks_px)
        x0, y0, x1, y1 = f.face_box_px
        assert 0 <= x0 < x1 <= width - 1 and 0 <= y0 < y1 <= height - 1
        assert ((f.eye_landmarks_px > [x0, y0]) & (f.eye_landmarks_px < [x1, y1])).all()
        assert ((f.pog_px >= 0) & (f.pog_px <= world.rig.screen_size_px)).all()
        assert f.blink == (f.eye_openness < 0.35)


@pytest.mark.parametrize('name', GEOMETRIES)
def test_landmarks_are_in_their_order(frames, name):
    """68-style order in an upright head: left to right in the picture, top to bottom."""
    _, some = frames[name]
    straight = 0
    for f in some:
        # Undo the roll, the rest of the pose does not change the order.
        tilt = np.arctan2(f.head_rotation[1, 0], f.head_rotation[0, 0])
        turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
        p = f.landmarks_px @ turn.T
        right, left = p[36:42], p[42:48]
        for corners in (right[[0, 1, 2, 3]], right[[0, 5, 4, 3]], left[[0, 1, 2, 3]], left[[0, 5, 4, 3]]):
            assert (np.diff(corners[:, 0]) > 0).all()
        for eye in (right, left):
            assert (eye[[1, 2], 1] <= eye[[5, 4], 1] + 1e-9).all()
        if f.head_rotation[2, 2] < 0.96:
            continue  # far to the side the face curves back
        straight += 1
        assert (np.diff(p[17:27, 0]) > 0).all() and (np.diff(p[31:36, 0]) > 0).all()
        assert (np.diff(p[48:55, 0]) > 0).all() and (np.diff(p[0:17, 0][[0, 4, 8, 12, 16]]) > 0).all()
        brows, eyes, nose, mouth, chin = (p[a:b, 1].mean() for a, b in ((17, 27), (36, 48), (31, 36), (48, 68), (8, 9)))
        assert brows < eyes < nose < mouth < chin
    assert straight > 15


def detected_pupil(image, points):
    """Centre of the dark blob near the labelled pupil, from the picture alone."""
    centre, radius = points.mean(axis=0), np.ptp(points[:, 0]) / 2
    low = np.floor(centre - 1.8 * radius).astype(int)
    high = np.ceil(centre + 1.8 * radius).astype(int) + 1
    # Enlarged, so that the outline is found between the pixels.
    patch = cv2.GaussianBlur(image[low[1] : high[1], low[0] : high[0]].max(axis=2), (0, 0), 0.5).astype(np.float32)
    zoom = 8
    fine = cv2.resize(patch, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    dark, bright = patch.min(), np.median(patch)
    mask = (fine < (dark + bright) / 2).astype(np.uint8)
    _, marks, stats, _ = cv2.connectedComponentsWithStats(mask)
    best = 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
    contour = cv2.findContours((marks == best).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0][0]
    # The smallest circle around it: a reflection may bite into the rim, but not shrink the circle.
    found = np.array(cv2.minEnclosingCircle(contour)[0])
    return (found + 0.5) / zoom - 0.5 + low


def test_the_picture_shows_the_pupil_where_the_label_is():
    """Blue- and green-eyed persons without glasses, large clean pictures; half a pixel of shift would fail."""
    world = SyntheticWorld('close', (960, 576), seed=0)
    light = [n for n in range(60) if make_person(0, n).iris.mean() > 0.11 and make_person(0, n).glasses is None][:4]
    errors = []
    for person in light:
        for index in range(14):
            f = world.frame(person, index, clean=True)
            if f.eye_openness < 0.85 or f.pupil_radius_mm < 1.2:
                continue
            lids_of = np.split(f.eye_landmarks_px.astype(np.float32), 2)
            for points, lids in zip(f.pupil_landmarks_px, lids_of, strict=True):
                # Only pupils that the lids leave free.
                if min(cv2.pointPolygonTest(lids, (x, y), True) for x, y in points.tolist()) > 1.5:
                    errors.append(detected_pupil(f.image, points) - points.mean(axis=0))
    errors = np.array(errors)
    assert len(errors) >= 30
    np.testing.assert_allclose(np.median(errors, axis=0), 0, atol=0.12)
    assert np.median(np.linalg.norm(errors, axis=1)) < 0.3


def test_the_picture_shows_lips_brows_and_lids_where_the_labels_are():
    world = SyntheticWorld('close', (480, 288), seed=0)
    plain = [n for n in range(40) if make_person(0, n).beard == 0 and make_person(0, n).glasses is None][:8]
    redder, darker, whiter = [], [], []
    for person in plain:
        f = next(f for i in range(9) if (f := world.frame(person, i, clean=True)).eye_openness > 0.85)
        image = cv2.GaussianBlur(f.image, (0, 0), 0.8).astype(float) + 1
        p = f.landmarks_px

        def at(*points, image=image):
            x, y = np.mean(points, axis=0).round().astype(int)
            return image[y, x]

        chin = at(p[57], p[8], p[8])
        for lip in (at(p[57], p[66]), at(p[50], p[61]), at(p[52], p[63])):
            redder.append(np.log(lip[2] / lip[1]) - np.log(chin[2] / chin[1]))
        upper, above = at(p[50], p[61]), at(p[50] + 0.6 * (p[50] - p[61]))
        redder.append(np.log(upper[2] / upper[1]) - np.log(above[2] / above[1]))
        darker += [at(p[38], p[20]).mean() - at(p[20], p[20] + [0, 3]).mean()]
        # The white at both sides of the iris has less colour than the skin below the lid.
        eye, below = np.zeros((2, *image.shape[:2]), np.uint8)
        outline = p[36:42].round().astype(np.int32)
        cv2.fillPoly(eye, [outline], 1)
        cv2.circle(eye, f.pupil_landmarks_px[0].mean(axis=0).round().astype(int).tolist(), 8, 0, -1)
        cv2.fillPoly(below, [outline + np.array([0, 14])], 1)
        inside, outside = image[eye > 0].mean(axis=0), image[below > 0].mean(axis=0)
        whiter.append(np.log(outside[2] / outside[0]) - np.log(inside[2] / inside[0]))
    assert np.median(redder) > 0.15 and np.min(redder) > 0
    assert np.median(darker) > 15
    assert np.min(whiter) > 0.03 and np.median(whiter) > 0.2


def test_eyes_turn_in_the_picture(frames):
    """Looking to the user's right moves the pupils to the left between the corners of the eye."""
    for name in ('eve', 'close'):
        places, angles = [], []
        for f in frames[name][1]:
            corner = f.eye_landmarks_px[[0, 3]]
            places.append((f.pupil_landmarks_px[0].mean(axis=0) - corner.mean(axis=0))[0] / np.ptp(corner[:, 0]))
            axis = f.right_optical_cam @ f.head_rotation
            angles.append(np.arctan2(-axis[0], -axis[2]))
        assert np.corrcoef(places, angles)[0, 1] < -0.85


def test_lids_follow_gaze_and_blinks():
    world = SyntheticWorld('close', (160, 96), seed=5)
    some = [world.frame(2, i) for i in range(220)]
    wide, pitch, height, closed = [], [], [], []
    for f in some:
        lids = f.eye_landmarks_px[:6]
        gap = (lids[4:, 1].sum() - lids[1:3, 1].sum()) / 2 / np.linalg.norm(lids[3] - lids[0])
        if f.blink:
            closed.append(gap)
        elif f.eye_openness > 0.85:
            wide.append(gap)
            gaze = f.right_gaze_cam @ f.head_rotation
            pitch.append(np.arcsin(-gaze[1]))
            height.append((lids[[0, 3], 1].mean() - lids[1:3, 1].mean()) / np.linalg.norm(lids[3] - lids[0]))
    assert np.corrcoef(pitch, height)[0, 1] > 0.7
    assert 0.15 < np.mean(wide) < 0.45
    assert len(closed) >= 2 and max(closed) < 0.5 * np.mean(wide)


def test_close_faces_are_large_enough_to_learn_from():
    world = SyntheticWorld('close')
    some = [world.frame(p, 0) for p in range(24)]
    focal = world.rig.camera_matrix[0, 0]
    assert np.mean([2 * 5.9 * focal / f.right_eye_mm[2] for f in some]) > 4.8
    heights = [f.face_box_px[3] - f.face_box_px[1] for f in some]
    assert 0.45 < np.mean(heights) / 96 < 0.75
    inside = [((f.eye_landmarks_px > 2) & (f.eye_landmarks_px < [157, 93])).all() for f in some]
    assert np.mean(inside) == 1


def test_gaze_covers_the_screen():
    world = SyntheticWorld('close', (64, 48), seed=1)
    share = np.array([world.frame(p, i).pog_px for p in range(10) for i in range(20)]) / world.rig.screen_size_px
    np.testing.assert_allclose(share.mean(axis=0), 0.5, atol=0.08)
    np.testing.assert_allclose(share.std(axis=0), 1 / np.sqrt(12), atol=0.04)


def digest(frame):
    h = hashlib.sha256(frame.image.tobytes())
    for key in sorted(vars(frame)):
        h.update(np.ascontiguousarray(getattr(frame, key)).tobytes())
    return h.hexdigest()


def test_same_frame_in_any_order_and_process():
    world = SyntheticWorld('close', (96, 64), seed=7)
    first = digest(world.frame(4, 9))
    for person, index in ((0, 0), (4, 8), (5, 9)):
        assert digest(world.frame(person, index)) != first
    assert digest(world.frame(4, 9)) == first
    assert digest(SyntheticWorld('close', (96, 64), seed=7).frame(4, 9)) == first
    assert digest(SyntheticWorld('close', (96, 64), seed=8).frame(4, 9)) != first
    code = (
        'from tests.test_synthetic_world import digest; from evg.synthetic import SyntheticWorld;'
        'w = SyntheticWorld("close", (96, 64), seed=7);'
        'print(digest(w.frame(4, 9)), digest(list(w.sequence(1, 2, 5, 30))[4]))'
    )
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    env = {**os.environ, 'PYTHONHASHSEED': '99', 'PYTHONPATH': root}
    done = subprocess.run([sys.executable, '-c', code], cwd=root, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [first, digest(list(world.sequence(1, 2, 5, 30))[4])]


def test_sequences_are_smooth():
    world = SyntheticWorld('eve', (96, 54), seed=2)
    clip = list(world.sequence(3, 0, 150, 30))
    assert [f.index for f in clip] == list(range(150)) and {f.person for f in clip} == {3}
    heads = np.array([f.head_translation_mm for f in clip])
    assert np.linalg.norm(np.diff(heads, axis=0), axis=1).max() < 5
    traces = [np.trace(a.head_rotation.T @ b.head_rotation) for a, b in pairwise(clip)]
    assert np.degrees(np.arccos(np.clip((np.array(traces) - 1) / 2, -1, 1))).max() < 4
    jumps = np.linalg.norm(np.diff([f.pog_px for f in clip], axis=0), axis=1)
    assert (jumps == 0).mean() > 0.4 and (jumps > 150).sum() >= 3
    openness = [f.eye_openness for f in clip]
    assert min(openness) < 0.2 and np.median(openness) > 0.8
    # One room, one light: away from the person the pictures change by noise only.
    corner = np.array([f.image[:8, :8].mean() for f in clip])
    assert np.ptp(corner) < 8
    other = next(world.sequence(3, 1, 150, 30))
    assert not np.allclose(other.head_translation_mm, clip[0].head_translation_mm)


def test_clean_leaves_out_the_faults_only():
    world = SyntheticWorld('close', (160, 96), seed=0)
    clean, spoiled = world.frame(1, 1, clean=True), world.frame(1, 1)
    np.testing.assert_array_equal(clean.landmarks_px, spoiled.landmarks_px)
    assert 0.3 < np.abs(clean.image.astype(float) - spoiled.image).mean() < 12


def test_gallery_is_a_sheet_of_different_pictures():
    sheet = gallery(seed=1, columns=3, rows=2, size=(64, 48))
    assert sheet.shape == (96, 192, 3) and sheet.dtype == np.uint8
    tiles = [sheet[r : r + 48, c : c + 64].tobytes() for r in (0, 48) for c in (0, 64, 128)]
    assert len(set(tiles)) == 6


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"'laptop'.*'eve', 'close', 'phone', 'tablet'"):
        SyntheticWorld('laptop')
    with pytest.raises(ValueError, match='48 to 4096'):
        SyntheticWorld('close', (10, 10))
    with pytest.raises(ValueError, match='seed'):
        SyntheticWorld(seed=-1)
    world = SyntheticWorld('close', (64, 48))
    with pytest.raises(ValueError, match='0 or more'):
        world.frame(-1, 0)
    with pytest.raises(ValueError, match='fps'):
        next(world.sequence(0, 0, 3, 0))
