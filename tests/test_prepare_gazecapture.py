"""GazeCapture's reader on sessions written by hand from the format description, with places worked out on paper."""

import json

import cv2
import numpy as np
import pytest
from conftest import run_tool

from evg.datasets.gazecapture import CHECK, GazeCaptureConverter
from evg.datasets.gazecapture_devices import DEVICES, find_device, is_tablet
from evg.datasets.index import read_index
from evg.datasets.prepare import prepare
from evg.datasets.reader_tools import SIGN_CHECK
from evg.errors import UserError
from evg.geometry import angle_between_deg

# The row that the data set's README publishes: an iPhone 5s, portrait.
PUBLISHED = {'XPts': 280, 'YPts': 528, 'XCam': 1.93875, 'YCam': -9.467451, 'Time': 0.237868}


def frame(**changes):
    """One frame: the published dot, everything valid."""
    face = {'face': (30, 40, 50, 60), 'valid': (1, 1, 1, 1), 'DotNum': 0, 'name': None, 'picture': (96, 128)}
    screen = {'W': 320, 'H': 568, 'Orientation': 1}
    return {**PUBLISHED, **face, **screen, **changes}


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_session(root, frames, name='00002', device='iPhone 5s', split='train'):
    """One session: pictures of frame k are of grey 40 + 10 k; `picture` is (width, height) or None for no file."""
    folder = root / name
    (folder / 'frames').mkdir(parents=True)
    names = [f['name'] or f'{k:05d}.jpg' for k, f in enumerate(frames)]
    for k, f in enumerate(frames):
        if f['picture']:
            width, height = f['picture']
            cv2.imwrite(str(folder / 'frames' / names[k]), np.full((height, width, 3), 40 + 10 * k, np.uint8))
    box = {key: [f['face'][i] for f in frames] for i, key in enumerate('XYWH')}
    for i, file in enumerate(('appleFace', 'appleLeftEye', 'appleRightEye', 'faceGrid')):
        write(folder / f'{file}.json', {**box, 'IsValid': [f['valid'][i] for f in frames]})
    for file, keys in {
        'dotInfo': ('DotNum', 'XPts', 'YPts', 'XCam', 'YCam', 'Time'),
        'screen': ('H', 'W', 'Orientation'),
    }.items():
        write(folder / f'{file}.json', {key: [f[key] for f in frames] for key in keys})
    write(folder / 'frames.json', names)
    info = {'TotalFrames': len(frames), 'NumFaceDetections': 1, 'NumEyeDetections': 1}
    write(folder / 'info.json', {**info, 'Dataset': split, 'DeviceName': device})
    return folder


def write(path, content):
    path.write_text(json.dumps(content))


def convert(src, out, frames='first', offset='camera'):
    summary = prepare(GazeCaptureConverter(str(src), frames, offset), out, jobs=1)
    return read_index(out), summary


def test_the_published_row(tmp_path):
    write_session(tmp_path / 'src', [frame()])
    index, summary = convert(tmp_path / 'src', tmp_path / 'out')
    c = index.columns
    assert index.dataset == 'gazecapture' and index.pose_rule == 'projection'
    assert c['sample_id'][0] == '00002/00000' and c['image'][0] == '../src/00002/frames/00000.jpg'
    assert (c['split'][0], c['subject'][0], c['device'][0], c['sequence'][0]) == (
        'train',
        '00002',
        'iPhone 5s',
        'dot000',
    )
    assert c['time_s'][0] == PUBLISHED['Time'] and c['frame'][0] == 0
    # The user's right is -x of the camera, below it +y; 19.3875 mm and 94.67451 mm.
    assert np.allclose(c['target_cam_mm'][0], (-19.3875, 94.67451, 0), atol=1e-9)
    assert np.allclose(c['pog_plane_pose_mm'][0], (19.3875, 94.67451), atol=1e-9)
    # By the device table: 280/320 of 51.7 mm less 25.85; 528/568 of 90.39 mm and 10.65.
    assert np.allclose(c['pog_plane_offset_mm'][0], (51.7 * 280 / 320 - 25.85, 90.39 * 528 / 568 + 10.65), atol=1e-9)
    assert np.allclose(c['pog_plane_offset_mm'][0], (19.3875, 94.67451), atol=1e-5)
    assert np.allclose(c['pog_screen_px'][0], (280, 528))
    for name in ('gaze', 'face_origin_mm', 'head_rvec', 'left_eye_mm'):
        assert np.isnan(c[name]).all(), name
    # 30..80 and 40..100, 1.2 times as large: 25..85 and 34..106.
    assert np.allclose(c['face_box_px'][0], (25, 34, 85, 106))
    (rig,) = index.rigs.values()
    assert rig.image_size == (96, 128) and rig.screen_size_px == (320, 568) and rig.screen_size_mm == (51.7, 90.39)
    assert rig.camera_matrix is None
    assert summary['checks'][CHECK]['max'] < 1e-4 and summary['checks'][SIGN_CHECK] == {'median': 0, 'max': 0, 'n': 1}
    # Label -> point of gaze -> label, for any eye.
    eye = np.array([12.0, -30, 310])
    px = rig.ray_to_screen_px(eye, c['target_cam_mm'][0] - eye)
    again = rig.screen_px_to_camera(px)
    assert np.linalg.norm(again - c['target_cam_mm'][0]) < 1e-3
    assert angle_between_deg(again - eye, c['target_cam_mm'][0] - eye) < 1e-4
    px = rig.offset_plane_to_screen_px(c['pog_plane_offset_mm'][0])
    assert np.allclose(px, (280, 528), atol=1e-9)
    # Pictures are read in place.
    assert abs(cv2.imread(str(index.root / c['image'][0])).mean() - 40) < 2 and not (tmp_path / 'out/images').exists()


# An iPhone 6, 58.5 x 104.05 mm: the camera stands 18.61 mm from the left edge and 8.03 mm above the top in portrait.
# (orientation, camera on the screen in mm from its upper left corner as the user sees it)
CAMERA_MM = {
    1: (18.61, -8.03),
    2: (58.5 - 18.61, 104.05 + 8.03),
    # Home button right: the top of the device is on the left, its left edge at the bottom.
    3: (-8.03, 58.5 - 18.61),
    # Home button left: the top is on the right, the left edge on top.
    4: (104.05 + 8.03, 18.61),
}


@pytest.mark.parametrize('orientation', [1, 2, 3, 4])
def test_each_orientation_puts_the_camera_at_the_origin(tmp_path, orientation):
    portrait = orientation in (1, 2)
    points, size = ((375, 667), (58.5, 104.05)) if portrait else ((667, 375), (104.05, 58.5))
    camera = np.divide(CAMERA_MM[orientation], size) * points
    shape = {'W': points[0], 'H': points[1], 'Orientation': orientation, 'picture': (128, 96)}
    # The second dot is 12 mm to the user's right of the camera and 34 mm above it: XCam, YCam = 1.2, 3.4 cm.
    aside = np.divide(np.add(CAMERA_MM[orientation], (12, -34)), size) * points
    frames = [
        frame(XPts=camera[0], YPts=camera[1], XCam=0.0, YCam=0.0, **shape),
        frame(XPts=aside[0], YPts=aside[1], XCam=1.2, YCam=3.4, DotNum=1, **shape),
    ]
    write_session(tmp_path / 'src', frames, device='iPhone 6')
    index, summary = convert(tmp_path / 'src', tmp_path / 'out')
    c = index.columns
    for name in ('pog_plane_offset_mm', 'pog_plane_pose_mm'):
        assert np.allclose(c[name], [(0, 0), (12, -34)], atol=1e-9), name
    assert np.allclose(c['target_cam_mm'], [(0, 0, 0), (-12, -34, 0)], atol=1e-9)
    (rig,) = index.rigs.values()
    assert rig.screen_size_mm == size and rig.screen_size_px == points
    assert np.allclose(rig.screen_px_to_camera(aside), (-12, -34, 0), atol=1e-9)
    assert rig.image_size == (128, 96)
    assert summary['checks'][SIGN_CHECK]['max'] == 0


def test_the_plane_may_be_centred_on_the_screen(tmp_path):
    write_session(tmp_path / 'src', [frame()])
    index, _ = convert(tmp_path / 'src', tmp_path / 'out', offset='none')
    c = index.columns
    # EVG's published commands: the virtual plane's centre is the screen's. The true place stays in the pose columns.
    expected = (51.7 * (280 / 320 - 0.5), 90.39 * (528 / 568 - 0.5))
    assert np.allclose(c['pog_plane_offset_mm'][0], expected, atol=1e-9)
    assert np.allclose(c['pog_plane_pose_mm'][0], (19.3875, 94.67451), atol=1e-9)
    (rig,) = index.rigs.values()
    assert rig.screen_center_plane_mm == (0, 0)
    assert np.allclose(rig.offset_plane_to_screen_px(expected), (280, 528))
    assert index.info['settings']['offset'] == 'none'


def test_first_or_all_valid_frames_of_a_dot(tmp_path):
    valid = [(1, 1, 1, 1)] * 9
    valid[0], valid[1], valid[2], valid[3] = (0, 1, 1, 0), (1, 0, 1, 0), (1, 1, 0, 0), (1, 1, 1, 0)
    # Dot 1 comes back after dot 2: a run of its own, as in the original.
    dots = [0, 0, 0, 0, 0, 0, 1, 2, 1]
    frames = [frame(DotNum=dot, valid=v) for dot, v in zip(dots, valid, strict=True)]
    write_session(tmp_path / 'src', frames)
    index, summary = convert(tmp_path / 'src', tmp_path / 'first')
    assert index.columns['frame'].tolist() == [4, 6, 7, 8]
    names = ('appleFace', 'appleLeftEye', 'appleRightEye', 'faceGrid')
    assert summary['dropped'] == {
        **{f'frames without a valid {name}': 1 for name in names},
        'later frames of the same dot (--frames all keeps them)': 1,
    }
    index, _ = convert(tmp_path / 'src', tmp_path / 'all', frames='all')
    assert index.columns['frame'].tolist() == [4, 5, 6, 7, 8]
    assert index.columns['sequence'].tolist() == ['dot000', 'dot000', 'dot001', 'dot002', 'dot001']


def test_unusable_frames_are_counted_by_reason(tmp_path):
    frames = [
        frame(DotNum=0),
        frame(DotNum=None),
        frame(DotNum=-1),
        frame(DotNum=1, Orientation=5),
        frame(DotNum=2, XCam=float('nan')),
        frame(DotNum=3, W=0),
        # As in a change of orientation: the dot of one, the screen of the other.
        frame(DotNum=4, Orientation=3, W=568, H=320),
        frame(DotNum=5, name='5.jpg'),
        frame(DotNum=6, picture=None),
        frame(DotNum=7, picture=(90, 120)),
        frame(DotNum=8, face=(30, 40, 0, 60)),
        frame(DotNum=9, Time=None),
    ]
    cut(write_session(tmp_path / 'src', frames) / 'frames/00009.jpg')
    index, summary = convert(tmp_path / 'src', tmp_path / 'out')
    assert index.columns['frame'].tolist() == [0, 11]
    assert np.isnan(index.columns['time_s'][1])
    assert summary['dropped'] == {
        'frames without a dot': 2,
        'frames without an orientation of 1 to 4': 1,
        'frames whose dot or screen size is not a number': 2,
        'frames whose dot and device table disagree (in a change of orientation, say)': 1,
        'frames whose name is not five digits and .jpg': 1,
        'frames whose picture is missing': 1,
        'frames whose picture is damaged': 1,
        'frames without a usable face box': 1,
    }


@pytest.mark.parametrize(
    ('face', 'expected'),
    [
        # 50 px become 60; moved, not cut, to stay inside 96 x 128.
        ((0, 70, 50, 50), (0, 65, 60, 125)),
        ((46, 90, 50, 50), (36, 68, 95, 127)),
        # Not larger than the picture.
        ((0, 10, 90, 90), (0, 1, 95, 109)),
    ],
)
def test_face_box_is_moved_inside_the_picture(tmp_path, face, expected):
    write_session(tmp_path / 'src', [frame(face=face)])
    index, _ = convert(tmp_path / 'src', tmp_path / 'out')
    assert np.allclose(index.columns['face_box_px'][0], expected)


def test_devices_splits_and_zoom(tmp_path):
    src = tmp_path / 'src'
    write_session(src, [frame()], '00002', 'IPHONE 5S', 'val')
    # An iPhone 6 in zoom mode: the same millimetres from other points. (29.25 - 18.61, 52.025 + 8.03) mm.
    zoomed = frame(W=320, H=568, XPts=160, YPts=284, XCam=1.064, YCam=-6.0055)
    write_session(src, [zoomed], '00003', 'iPhone 6', 'test')
    # The middle of an iPad Mini, in points that are not its own: still a half.
    odd = frame(W=700, H=1000, XPts=350, YPts=500, XCam=-0.005, YCam=-8.93)
    write_session(src, [odd], '00004', 'iPad Mini', 'train')
    index, summary = convert(src, tmp_path / 'out')
    c = index.columns
    assert c['split'].tolist() == ['val', 'test', 'train']
    assert c['device'].tolist() == ['iPhone 5s', 'iPhone 6', 'iPad Mini']
    assert [is_tablet(name) for name in c['device']] == [False, False, True]
    assert np.allclose(c['pog_plane_offset_mm'][1:], [(10.64, 60.055), (-0.05, 89.3)], atol=1e-9)
    assert summary['notes'] == {"frames whose screen size is not one of the device's (screen.json is used)": 1}
    assert len(index.rigs) == 3 and summary['checks'][CHECK]['max'] < 1e-4


def test_the_device_table():
    assert len({device.name.lower() for device in DEVICES}) == len(DEVICES) == 15
    assert sum(is_tablet(device.name) for device in DEVICES) == 7
    for device in DEVICES:
        # Screen and points have one shape, and the camera is beside the screen's middle third or so.
        width, height = device.screen_mm
        assert abs(width / height - device.screen_points[0] / device.screen_points[1]) < 0.02, device
        assert 0 < device.camera_x_mm < width and 0 < device.camera_y_mm < 15
    with pytest.raises(LookupError, match=r"'iPhone 7'.*did you mean"):
        find_device('iPhone 7')


def test_damaged_sessions_are_counted_and_skipped(tmp_path):
    src = tmp_path / 'src'
    frames = [frame(), frame(DotNum=1)]
    write_session(src, frames, '00002')
    (write_session(src, frames, '00003') / 'screen.json').unlink()
    cut(write_session(src, frames, '00004') / 'dotInfo.json')
    folder = write_session(src, frames, '00005')
    content = json.loads((folder / 'faceGrid.json').read_text())
    content['IsValid'].append(1)
    write(folder / 'faceGrid.json', content)
    write_session(src, frames, '00006', device='iPhone 42')
    write_session(src, frames, '00007', split='validation')
    write(write_session(src, frames, '00008') / 'frames.json', {'a': 1})
    write(write_session(src, frames, '00009') / 'dotInfo.json', [1, 2])
    write_session(src, frames, '01185')
    (src / 'metadata').mkdir()
    index, summary = convert(src, tmp_path / 'out')
    assert set(index.columns['subject']) == {'00002'}
    assert summary['dropped'] == {'frames of the sessions 01185, 01730, 02065, which other readers exclude too': 2}
    for message, part in zip(
        summary['failed'].values(),
        [
            'screen.json is missing',
            'dotInfo.json cannot be read',
            'faceGrid.json: IsValid has 3 values, frames.json has 2',
            "no size and camera place is known of the device 'iPhone 42'",
            "Dataset is 'validation'",
            'frames.json is not a list of file names',
            'dotInfo.json: DotNum has no values',
        ],
        strict=True,
    ):
        assert part in message


def test_wrong_source_is_one_clear_line(tmp_path):
    write_session(tmp_path / 'src/GazeCapture', [frame()])
    for src, part in ((tmp_path / 'nowhere', 'is not a folder'), (tmp_path / 'src', f'did you mean --src {tmp_path}')):
        with pytest.raises(UserError, match=rf'{part}.*gazecapture.csail.mit.edu'):
            convert(src, tmp_path / 'out')
    done = run_tool('prepare_data', 'gazecapture', '--src', tmp_path / 'src', '--out', tmp_path / 'out', code=2)
    assert done.stdout == '' and done.stderr.count('\n') == 1
    done = run_tool(
        'prepare_data',
        'gazecapture',
        '--src',
        tmp_path / 'src/GazeCapture',
        '--out',
        tmp_path / 'out',
        '--frames',
        'all',
    )
    assert '1 rows in the index' in done.stdout and 'check: dotInfo' in done.stdout
