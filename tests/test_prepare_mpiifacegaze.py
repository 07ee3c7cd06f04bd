"""MPIIFaceGaze's reader on persons written by hand from the format description, with labels worked out on paper."""

import cv2
import h5py
import numpy as np
import pytest
from conftest import run_tool
from scipy.io import savemat

from evg.datasets.index import read_index
from evg.datasets.mpiifacegaze import (
    ANGLE_CHECK,
    CENTER_CHECK,
    FACE_MODEL_MM,
    TARGET_CHECK,
    UNREADABLE,
    MPIIFaceGazeConverter,
)
from evg.datasets.mpiifacegaze_normalized import PITCH_CHECK, MPIIFaceGazeNormalizedConverter
from evg.datasets.pictures import read_image
from evg.datasets.prepare import prepare
from evg.datasets.reader_tools import SIGN_CHECK
from evg.errors import UserError
from evg.geometry import angle_between_deg, vector_to_pitchyaw

PICTURE, STORED = (128, 72), (64, 36)
SCREEN_PX, SCREEN_MM = (1440, 900), (288.0, 180.0)  # 0.2 mm/px
# The screen's axes in the camera frame, as columns: x to the user's right is -x of the camera; the screen leans back by
# the angle of the 3-4-5 triangle. Its upper left corner (as the user sees it) is at x = +144 mm.
ROTATION, CORNER_MM = np.array([[-1, 0, 0], [0, 0.8, 0.6], [0, 0.6, -0.8]]), np.array([144.0, 20, 0])
# px (1200, 300) is (240, 60) mm on the screen: x = 144 - 240, y = 20 + 0.8 * 60, z = 0.6 * 60.
POG_PX, TARGET_MM = (1200, 300), (-96, 68, 36)
# The face is below and left of the target as the user sees it: it looks up and to its right.
FACE_MM = (24, 188, 636)
GAZE = np.array([-120, -120, -600]) / np.sqrt(388800)
# From z = 36 to z = 0 the ray goes on by 36/600 of its way: x = 24 - 127.2, y = 188 - 127.2.
PLANE_RAY_MM, PLANE_OFFSET_MM = (103.2, 60.8), (96, 60)
# The mean of the model's six points is (0, 22.8652, 0); the head is not turned, so it lies that much above the face.
HEAD_TVEC_MM = (24, 188 - 22.8652, 636)


def line(
    path='day01/0005.jpg', px=POG_PX, rvec=(0, 0, 0), tvec=HEAD_TVEC_MM, face=FACE_MM, target=TARGET_MM, flag='left'
):
    """One line of pNN.txt."""
    landmarks = [50, 30, 58, 30, 66, 30, 74, 30, 55, 50, 69, 50]
    numbers = [*px, *landmarks, *rvec, *tvec, *face, *target]
    return ' '.join([path, *map(str, numbers), flag])


def write_person(root, lines, name='p00', key='rvects', distortion=(0, 0, 0, 0, 0), pictures=None):
    """One person; picture k is of grey 40 + 10 k."""
    folder = root / name
    (folder / 'Calibration').mkdir(parents=True)
    (folder / f'{name}.txt').write_text('\n'.join(lines) + '\n')
    for k, path in enumerate(dict.fromkeys(text.split()[0] for text in lines)):
        if (pictures is None or path in pictures) and path.endswith('.jpg'):
            (folder / path).parent.mkdir(exist_ok=True)
            cv2.imwrite(str(folder / path), np.full((PICTURE[1], PICTURE[0], 3), 40 + 10 * k, np.uint8))
    matrix = np.array([[100, 0, 63.5], [0, 100, 35.5], [0, 0, 1.0]])
    many = np.zeros((100, 3))
    save = {'cameraMatrix': matrix, 'distCoeffs': np.array([distortion], float), 'retval': 0.2}
    savemat(folder / 'Calibration/Camera.mat', {**save, 'rvecs': many, 'tvecs': many})
    sizes = {'width_pixel': SCREEN_PX[0], 'height_pixel': SCREEN_PX[1], 'width_mm': SCREEN_MM[0]}
    savemat(folder / 'Calibration/screenSize.mat', {**sizes, 'height_mm': SCREEN_MM[1]})
    rvec = cv2.Rodrigues(ROTATION)[0]
    savemat(folder / 'Calibration/monitorPose.mat', {key: rvec, 'tvecs': CORNER_MM.reshape(3, 1)})
    return folder


def convert(src, out, size=STORED, undistort=False, quality=95):
    summary = prepare(MPIIFaceGazeConverter(str(src), size, quality, undistort), out, jobs=1)
    return read_index(out), summary


def test_one_line_by_hand(tmp_path):
    write_person(tmp_path / 'src', [line()], 'p07')
    index, summary = convert(tmp_path / 'src', tmp_path / 'out')
    c = index.columns
    assert index.dataset == 'mpiifacegaze' and index.gaze_frame == 'camera' and index.pose_rule == 'ray'
    assert c['sample_id'][0] == 'p07/day01/0005' and c['image'][0] == 'images/p07/day01/0005.jpg'
    assert (c['split'][0], c['subject'][0], c['sequence'][0], c['frame'][0]) == ('train', 'p07', 'day01', 5)
    for name, expected in {
        'pog_screen_px': POG_PX,
        'target_cam_mm': TARGET_MM,
        'face_origin_mm': FACE_MM,
        'gaze': GAZE,
        'pog_plane_pose_mm': PLANE_RAY_MM,
        'pog_plane_offset_mm': PLANE_OFFSET_MM,
        'head_rvec': (0, 0, 0),
        'head_tvec_mm': HEAD_TVEC_MM,
        # Corners at 21.3129 and 45.0968 mm to each side; the subject's right eye is on the image's left.
        'right_eye_mm': (24 - 33.20485, HEAD_TVEC_MM[1], 636),
        'left_eye_mm': (24 + 33.20485, HEAD_TVEC_MM[1], 636),
    }.items():
        assert np.allclose(c[name][0], expected, atol=1e-4), name
    # Up and to the user's right: pitch and yaw are positive.
    pitch, yaw = np.degrees(vector_to_pitchyaw(c['gaze'][0]))
    assert pitch == pytest.approx(np.degrees(np.arcsin(120 / np.sqrt(388800)))) and pitch > 0
    assert yaw == pytest.approx(np.degrees(np.arctan2(120, 600))) and yaw > 0
    # The virtual camera looks at the face.
    turn = c['norm_rotation'][0].reshape(3, 3)
    assert np.allclose(turn @ FACE_MM, (0, 0, np.linalg.norm(FACE_MM))) and np.allclose(turn @ turn.T, np.eye(3))
    assert np.isnan(c['face_box_px']).all()
    (rig,) = index.rigs.values()
    assert rig.image_size == STORED and rig.screen_size_px == SCREEN_PX and rig.screen_size_mm == SCREEN_MM
    assert rig.screen_center_plane_mm == (0, 90)
    # Half as large, outer edges on outer edges: (63.5 + 0.5) / 2 - 0.5.
    assert np.allclose(rig.camera_matrix, [[50, 0, 31.5], [0, 50, 17.5], [0, 0, 1]])
    assert np.allclose(rig.screen_to_camera[:3, :3], ROTATION) and np.allclose(rig.screen_to_camera[:3, 3], CORNER_MM)
    assert summary['dropped'] == {} and summary['notes'] == {} and summary['failed'] == {}
    assert summary['checks'][TARGET_CHECK]['max'] < 1e-6 and summary['checks'][ANGLE_CHECK]['max'] < 1e-6
    assert summary['checks'][CENTER_CHECK]['max'] < 1e-3
    assert summary['checks'][SIGN_CHECK] == {'median': 0, 'max': 0, 'n': 1}
    picture = cv2.imread(str(index.root / c['image'][0]))
    assert picture.shape == (36, 64, 3) and abs(picture.mean() - 40) < 2
    # Label -> point of gaze -> label, by both rules.
    px = rig.ray_to_screen_px(c['face_origin_mm'][0], c['gaze'][0])
    assert np.linalg.norm(rig.screen_px_to_camera(px) - TARGET_MM) < 1e-3
    assert angle_between_deg(rig.screen_px_to_camera(px) - FACE_MM, c['gaze'][0]) < 1e-4
    assert np.allclose(rig.offset_plane_to_screen_px(PLANE_OFFSET_MM), POG_PX, atol=1e-9)


def test_the_published_sample_fits_the_face_model(tmp_path):
    # Section 3.2 of the format description: a real line's head pose and face centre.
    sample = line(rvec=(-0.232, 0.0557, 0.0182), tvec=(28.35, 1.17, 529.78), face=(27.79, 23.42, 524.54))
    write_person(tmp_path / 'src', [sample])
    index, summary = convert(tmp_path / 'src', tmp_path / 'out')
    assert summary['checks'][CENTER_CHECK]['max'] < 0.02
    right, left = index.columns['right_eye_mm'][0], index.columns['left_eye_mm'][0]
    assert right[0] < left[0] and np.linalg.norm(left - right) == pytest.approx(45.0968 + 21.3129)
    assert np.allclose(FACE_MODEL_MM.mean(axis=0), (0, 22.8652, 0), atol=1e-4)


def test_persons_days_both_spellings_and_targets_beside_the_screen(tmp_path):
    # px (-100, 300) is 20 mm left of the screen: x = 144 + 20.
    lines = [line(), line('day02/0001.jpg', px=(-100, 300), target=(164, 68, 36), flag='right')]
    write_person(tmp_path / 'src', lines, 'p00')
    write_person(tmp_path / 'src', lines[:1], 'p11', key='rvecs')
    index, summary = convert(tmp_path / 'src', tmp_path / 'out')
    assert index.columns['sample_id'].tolist() == ['p00/day01/0005', 'p00/day02/0001', 'p11/day01/0005']
    assert summary['splits'] == {'train': [3, 2]} and summary['units'] == 3
    assert summary['notes'] == {'rows whose target lies outside the screen (kept)': 1}
    assert np.allclose(index.columns['pog_plane_offset_mm'][1], (-164, 60))
    assert len(read_index(tmp_path / 'out', subjects=['p11'])) == 1


def test_undistort(tmp_path):
    # A lens with k1 = 0.2 shows the ray x = 0.4 at 0.4 (1 + 0.2 * 0.16) = 0.4128: 40 px from the centre become 41.28.
    write_person(tmp_path / 'src', [line()], distortion=(0.2, 0, 0, 0, 0))
    x, y = np.meshgrid(np.arange(PICTURE[0]), np.arange(PICTURE[1]))
    blob = 200 * np.exp(-((x - 63.5 - 41.28) ** 2 + (y - 35.5) ** 2) / 18)
    cv2.imwrite(str(tmp_path / 'src/p00/day01/0005.png'), np.repeat(blob[..., None], 3, axis=2).astype(np.uint8))
    (tmp_path / 'src/p00/day01/0005.png').replace(tmp_path / 'src/p00/day01/0005.jpg')
    for undistort, expected in ((False, 63.5 + 41.28), (True, 63.5 + 40)):
        index, _ = convert(tmp_path / 'src', tmp_path / f'out{undistort}', PICTURE, undistort, 100)
        seen = cv2.imread(str(index.root / index.columns['image'][0]))[..., 0].astype(float)
        seen[seen < 40] = 0
        assert (seen * x).sum() / seen.sum() == pytest.approx(expected, abs=0.25)
        assert np.allclose(index.columns['gaze'][0], GAZE)


def test_unusable_lines_are_counted_by_reason(tmp_path):
    good = line()
    lines = [
        good,
        line('day01/0006.jpg', target=('nan', 68, 36)),
        line('day01/0007.jpg', px=('x', 300)),
        line('day01/0005.jpg'),
        line('../day01/0008.jpg'),
        line('day01/0009.jpg', face=(24, 188, -636)),
        line('day01/0010.jpg'),
        line('day01/0011.jpg'),
        # The file ends within a line.
        good.replace('0005', '0012')[:-30],
    ]
    keep = {'day01/0005.jpg', 'day01/0011.jpg'}
    folder = write_person(tmp_path / 'src', lines, pictures=keep)
    picture = folder / 'day01/0011.jpg'
    picture.write_bytes(picture.read_bytes()[:-200])
    index, summary = convert(tmp_path / 'src', tmp_path / 'out')
    assert index.columns['frame'].tolist() == [5]
    assert summary['dropped'] == {
        UNREADABLE: 3,
        'lines with a value that is not finite': 1,
        'lines that repeat a picture': 1,
        'lines whose face is not in front of the camera': 1,
        'frames whose picture is missing': 1,
        'frames whose picture is damaged': 1,
    }


def test_labels_of_another_convention_are_refused(tmp_path):
    # The targets as another frame would have them: x to the user's right.
    write_person(tmp_path / 'src', [line(target=(96, 68, 36))])
    with pytest.raises(UserError, match=r'p00.txt and the one by monitorPose.mat differ by 192.0 mm'):
        convert(tmp_path / 'src', tmp_path / 'out')
    # Both wrong in the same way: the pose of a screen that the camera sees mirrored, and the face behind it.
    folder = write_person(tmp_path / 'mirror', [line(target=(96, 68, 36), face=(-24, 188, 636))])
    pose = {'rvects': np.array([[np.arctan2(0.6, 0.8)], [0], [0]]), 'tvecs': np.array([[-144.0], [20], [0]])}
    savemat(folder / 'Calibration/monitorPose.mat', pose)
    with pytest.raises(UserError, match='100% of the targets are on the wrong side of the camera'):
        convert(tmp_path / 'mirror', tmp_path / 'out2')


def test_damaged_persons_are_counted_and_skipped(tmp_path):
    src = tmp_path / 'src'
    write_person(src, [line()], 'p00')
    (write_person(src, [line()], 'p01') / 'p01.txt').unlink()
    (write_person(src, [line()], 'p02') / 'Calibration/Camera.mat').unlink()
    mat = write_person(src, [line()], 'p03') / 'Calibration/screenSize.mat'
    mat.write_bytes(mat.read_bytes()[:200])
    write_person(src, [line()], 'p04', key='rotation')
    folder = write_person(src, [line()], 'p05')
    sizes = {'width_pixel': 1440, 'height_pixel': 900, 'width_mm': 0, 'height_mm': 180.0}
    savemat(folder / 'Calibration/screenSize.mat', sizes)
    (write_person(src, [line()], 'p06') / 'p06.txt').write_bytes(b'\xff\xfe\x00')
    index, summary = convert(src, tmp_path / 'out')
    assert set(index.columns['subject']) == {'p00'}
    for message, part in zip(
        summary['failed'].values(),
        [
            'p01.txt is missing or is not text',
            'Camera.mat is missing',
            'screenSize.mat cannot be read',
            'monitorPose.mat: rvects is missing',
            'the screen is 1440.0 x 900.0 px, 0.0 x 180.0 mm',
            'p06.txt is missing or is not text',
        ],
        strict=True,
    ):
        assert part in message


def test_wrong_source_is_one_clear_line(tmp_path):
    write_person(tmp_path / 'src/MPIIFaceGaze', [line()])
    for src, part in ((tmp_path / 'nowhere', 'is not a folder'), (tmp_path / 'src', f'did you mean --src {tmp_path}')):
        with pytest.raises(UserError, match=rf'{part}.*https://www.perceptualui.org'):
            convert(src, tmp_path / 'out')
    src = tmp_path / 'src/MPIIFaceGaze'
    done = run_tool('prepare_data', 'mpiifacegaze', '--src', src, '--out', tmp_path / 'out', '--size', 8, 8, code=2)
    assert done.stderr.count('\n') == 1 and '--size must be at least 16 16' in done.stderr
    done = run_tool('prepare_data', 'mpiifacegaze', '--src', src, '--out', tmp_path / 'out', '--size', 64, 36)
    assert '1 rows in the index' in done.stdout and 'check: sign self-test' in done.stdout


def write_patches(path, labels, size=16):
    """pNN.mat as h5py sees MATLAB's file; patch k is blue 40 + k, green 80, red 120, its upper left pixel white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.empty((len(labels), 3, size, size))
    for k in range(len(labels)):
        data[k] = np.reshape([40 + k, 80, 120], (3, 1, 1))
        data[k, :, 0, 0] = 255
    with h5py.File(path, 'w') as file:
        file['Data/data'] = data
        file['Data/label'] = np.pad(np.array(labels, float), ((0, 0), (0, 14)))


def test_normalized_patches_are_read_in_place(tmp_path):
    # Down by 0.2 rad; to the user's right by 0.1 rad. n = -(cos p sin y, sin p, cos p cos y).
    labels = [(-0.2, 0.1), (-0.3, -0.1), (np.nan, 0), (-12.0, 3.0)]
    write_patches(tmp_path / 'src/p03.mat', labels)
    converter = MPIIFaceGazeNormalizedConverter(str(tmp_path / 'src'), 'normalised_sr', 'up-right')
    summary = prepare(converter, tmp_path / 'out', jobs=1)
    index = read_index(tmp_path / 'out', subjects=['p03'])
    c = index.columns
    assert index.gaze_frame == 'normalised_sr' and index.dataset == 'mpiifacegaze' and not index.rigs
    assert c['image'].tolist() == ['../src/p03.mat#Data/data/0', '../src/p03.mat#Data/data/1']
    expected = (-np.cos(0.2) * np.sin(0.1), np.sin(0.2), -np.cos(0.2) * np.cos(0.1))
    assert np.allclose(c['gaze'][0], expected) and np.isnan(c['pog_plane_offset_mm']).all()
    picture = read_image(str(index.root / c['image'][1]))
    assert (
        picture.shape == (16, 16, 3) and picture[0, 0].tolist() == [255] * 3 and picture[5, 9].tolist() == [41, 80, 120]
    )
    assert summary['dropped'] == {'patches whose gaze is not two angles below 90 deg in radians': 2}
    assert summary['checks'][PITCH_CHECK]['max'] == pytest.approx(np.degrees(-0.2), abs=1e-5)


def test_normalized_patches_of_the_other_sign_are_refused(tmp_path):
    write_patches(tmp_path / 'src/p00.mat', [(0.2, 0.1)])
    with pytest.raises(
        UserError, match=r'with --sign up-right most gazes go up .11.5 deg, median.*try --sign down-left'
    ):
        prepare(MPIIFaceGazeNormalizedConverter(str(tmp_path / 'src'), 'normalised_r', 'up-right'), tmp_path / 'a', 1)
    prepare(MPIIFaceGazeNormalizedConverter(str(tmp_path / 'src'), 'normalised_r', 'down-left'), tmp_path / 'b', 1)
    pitch, yaw = vector_to_pitchyaw(read_index(tmp_path / 'b').columns['gaze'][0])
    assert (pitch, yaw) == pytest.approx((-0.2, -0.1))


def test_damaged_normalized_files_and_options(tmp_path):
    src = tmp_path / 'src'
    write_patches(src / 'p00.mat', [(-0.2, 0.1)])
    write_patches(src / 'p01.mat', [(-0.2, 0.1)])
    (src / 'p01.mat').write_bytes((src / 'p01.mat').read_bytes()[:900])
    with h5py.File(src / 'p02.mat', 'w') as file:
        file['Data/data'], file['Data/label'] = np.zeros((2, 3, 8, 8)), np.zeros((3, 16))
    summary = prepare(MPIIFaceGazeNormalizedConverter(str(src), 'normalised_r', 'up-right'), tmp_path / 'out', 1)
    assert summary['rows'] == 1
    first, second = summary['failed'].values()
    assert 'p01.mat cannot be read' in first and 'p02.mat: Data/data is (2, 3, 8, 8)' in second
    words = ['mpiifacegaze', '--format', 'normalized', '--src', src, '--out', tmp_path / 'tool']
    done = run_tool('prepare_data', *words, code=2)
    assert done.stderr.startswith('error: --format normalized needs --frame') and done.stderr.count('\n') == 1
    assert '1 rows in the index' in run_tool('prepare_data', *words, '--frame', 'normalised_r').stdout
    with pytest.raises(UserError, match=r'there is no p00\.mat in'):
        prepare(MPIIFaceGazeNormalizedConverter(str(tmp_path), 'normalised_r', 'up-right'), tmp_path / 'x', 1)
