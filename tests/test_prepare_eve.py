"""EVE's reader on recordings written by hand from the format description, with labels worked out on paper."""

import subprocess
import sys
from pathlib import Path

import av
import cv2
import h5py
import numpy as np
import pytest

from evg.datasets.eve import CHECK, EveConverter
from evg.datasets.index import read_index
from evg.datasets.prepare import prepare
from evg.datasets.reader_tools import SIGN_CHECK
from evg.datasets.synth import SynthEveConverter, frame_row
from evg.errors import UserError
from evg.geometry import pitchyaw_to_vector
from evg.synthetic.world import SyntheticWorld

VIDEO = (384, 216)
STORED = (96, 54)  # a quarter
FRAMES = 6
# The screen's axes in the camera frame, as columns: x to the user's right is -x of the camera; the screen leans back by
# the angle of the 3-4-5 triangle. Its upper left corner (as the user sees it) is at x = +240 mm.
SCREEN_TO_CAMERA = np.array([[-1, 0, 0, 240], [0, 0.8, 0.6, 20], [0, 0.6, -0.8, 0], [0, 0, 0, 1.0]])
# px (1440, 400) at 0.25 mm/px is (360, 100) mm on the screen: x = 240 - 360, y = 20 + 0.8 * 100, z = 0.6 * 100.
POG_PX, TARGET_MM = (1440, 400), (-120, 100, 60)
# The face is below and left of the target as the user sees it: it looks up and to its right.
FACE_MM = (40, 220, 660)
GAZE = np.array([-160, -120, -600]) / np.sqrt(400000)
# The ray goes on from z = 60 to z = 0, a tenth of its way so far: x = 40 - 176, y = 220 - 132.
PLANE_RAY_MM = (136, 88)
# Offset rule: (360, 100) from the corner of a 480 x 270 mm screen, the camera at the middle of the top edge.
PLANE_OFFSET_MM = (120, 100)
# Two normalisations: none, and a roll; the second turns the gaze to (-200, 0, -600) / |.|.
ROLL = np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, 1]])
LABEL = (np.arcsin(120 / np.sqrt(400000)), np.arctan2(160, 600))
LABEL_ROLL = (0, np.arctan2(200, 600))


def write_video(path, count=FRAMES):
    """Grey pictures, each one brighter than the last by 25."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=30, options={'crf': '12'})
        stream.width, stream.height, stream.pix_fmt = *VIDEO, 'yuv420p'
        for i in range(count):
            picture = np.full((VIDEO[1], VIDEO[0], 3), 40 + 25 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format='bgr24')))
        container.mux(stream.encode(None))


def per_frame_labels(count=FRAMES):
    """The groups of an h5 file as dict of name -> (count, ...)."""
    landmarks = np.full((68, 2), (200.0, 120.0))
    landmarks[0], landmarks[8], landmarks[16] = (160, 100), (200, 160), (240, 80)
    landmarks[36], landmarks[47] = (170, 100), (230, 101)
    one = {
        'facial_landmarks': landmarks,
        'head_rvec': np.array([[0.1], [0.2], [0.3]]),
        'head_tvec': np.array([[40.0], [210], [665]]),
        'face_PoG_tobii': np.array(POG_PX, float),
        'face_g_tobii': np.array(LABEL),
        'face_o': np.array(FACE_MM, float),
        'face_R': np.eye(3),
        'left_o': np.array([71.0, 200, 655]),
        'right_o': np.array([9.0, 201, 656]),
    }
    labels = {name: np.stack([value] * count) for name, value in one.items()}
    labels['face_R'][1::2], labels['face_g_tobii'][1::2] = ROLL, LABEL_ROLL
    return labels


def write_recording(folder, labels=None, invalid=(), flags=bool, tick=1_000_000_000, camera='webcam_c', frames=FRAMES):
    """One recording; `invalid` holds (group, frame); `flags` is the dtype of validity; `tick` is ticks per second."""
    folder.mkdir(parents=True)
    labels = per_frame_labels() if labels is None else labels
    write_video(folder / f'{camera}.mp4', frames)
    with h5py.File(folder / f'{camera}.h5', 'w') as file:
        file['camera_matrix'] = np.array([[290, 0, 191.5], [0, 290, 107.5], [0, 0, 1.0]])
        file['camera_transformation'] = SCREEN_TO_CAMERA
        file['inv_camera_transformation'] = np.linalg.inv(SCREEN_TO_CAMERA)
        file['millimeters_per_pixel'] = np.array([0.25, 0.25])
        file['pixels_per_millimeter'] = np.array([4.0, 4.0])
        for name, values in labels.items():
            validity = np.ones(len(values), flags)
            for group, frame in invalid:
                if group == name:
                    validity[frame] = 0
            file[f'{name}/data'], file[f'{name}/validity'] = values, validity
    start = 1_580_000_000 * tick
    ticks = [start + round(i * tick / (60 if camera == 'basler' else 30)) for i in range(FRAMES)]
    (folder / f'{camera}.timestamps.txt').write_text('\n'.join(map(str, ticks)))
    return folder


def convert(src, out, camera='webcam_c', every=1):
    """(index, summary) of a conversion in this process."""
    summary = prepare(EveConverter(str(src), camera, STORED, every, 95), out, jobs=1)
    return read_index(out), summary


def test_one_recording_by_hand(tmp_path):
    write_recording(tmp_path / 'src/train07/step008_image_MIT-i1')
    index, summary = convert(tmp_path / 'src', tmp_path / 'out')
    c = index.columns
    assert len(index) == FRAMES and summary['dropped'] == {} and summary['failed'] == {}
    assert c['sample_id'][2] == 'train07/step008_image_MIT-i1/webcam_c/000002'
    assert c['image'][2] == 'images/train07/step008_image_MIT-i1/webcam_c/000002.jpg'
    assert set(c['split']) == {'train'} and set(c['subject']) == {'train07'} and set(c['camera']) == {'webcam_c'}
    assert set(c['sequence']) == {'step008_image_MIT-i1'}
    assert c['frame'].tolist() == list(range(FRAMES))
    assert np.allclose(c['time_s'], np.arange(FRAMES) / 30, atol=1e-6)
    for name, expected in {
        'pog_screen_px': POG_PX,
        'target_cam_mm': TARGET_MM,
        'pog_plane_pose_mm': PLANE_RAY_MM,
        'pog_plane_offset_mm': PLANE_OFFSET_MM,
        'face_origin_mm': FACE_MM,
        'left_eye_mm': (71, 200, 655),
        'right_eye_mm': (9, 201, 656),
        'gaze': GAZE,
        'head_rvec': (0.1, 0.2, 0.3),
        'head_tvec_mm': (40, 210, 665),
    }.items():
        assert np.allclose(c[name], expected, atol=1e-9), name
    assert np.array_equal(c['norm_rotation'][1].reshape(3, 3), ROLL)
    # Landmarks span 160..240, 80..160: 1.2 times as large 152..248, 72..168; stored x = (x + 0.5) / 4 - 0.5.
    assert np.allclose(c['face_box_px'], [37.625, 17.625, 61.625, 41.625])
    assert np.allclose(c['eye_landmarks_px'][0].reshape(12, 2)[[0, 11]], [[42.125, 24.625], [57.125, 24.875]])
    # A gaze up and to the user's right has positive pitch and yaw, and g_tobii lives behind R.
    assert LABEL[0] > 0 and LABEL[1] > 0
    assert np.allclose(c['gaze'][0], pitchyaw_to_vector(LABEL))
    assert np.allclose(c['gaze'][1], ROLL.T @ pitchyaw_to_vector(LABEL_ROLL))
    assert summary['checks'][CHECK]['n'] == FRAMES and summary['checks'][CHECK]['max'] < 1e-6
    (rig,) = index.rigs.values()
    assert rig.image_size == STORED and rig.screen_size_px == (1920, 1080) and rig.screen_size_mm == (480, 270)
    assert rig.screen_center_plane_mm == (0, 135)
    assert np.allclose(rig.camera_matrix, [[72.5, 0, 47.5], [0, 72.5, 26.5], [0, 0, 1]])
    for i, name in enumerate(c['image']):
        picture = cv2.imread(str(index.root / name))
        assert picture.shape == (STORED[1], STORED[0], 3)
        assert abs(picture.mean() - (40 + 25 * i)) < 3, i


@pytest.mark.parametrize('flags', [bool, np.uint8, np.float32])
def test_every_flag_is_honoured_and_only_those_that_count(tmp_path, flags):
    invalid = [('face_PoG_tobii', 1), ('facial_landmarks', 2), ('face_o', 3), ('face_R', 4)]
    # These cost their own column only.
    invalid += [('face_g_tobii', 5), ('left_o', 5), ('head_rvec', 0)]
    write_recording(tmp_path / 'src/val01/step001_image_x', invalid=invalid, flags=flags)
    index, summary = convert(tmp_path / 'src', tmp_path / 'out')
    assert index.columns['frame'].tolist() == [0, 5]
    names = ('face_PoG_tobii', 'facial_landmarks', 'face_o', 'face_R')
    assert summary['dropped'] == {f'frames without a valid {name}': 1 for name in names}
    assert summary['checks'][CHECK]['n'] == 1
    assert np.isnan(index.columns['left_eye_mm'][1]).all() and np.isfinite(index.columns['left_eye_mm'][0]).all()
    assert np.isnan(index.columns['head_rvec'][0]).all() and np.isfinite(index.columns['head_tvec_mm'][0]).all()
    assert abs(cv2.imread(str(index.root / index.columns['image'][1])).mean() - 165) < 3


def test_nan_behind_a_valid_flag_and_a_face_out_of_the_picture_are_dropped(tmp_path):
    labels = per_frame_labels()
    labels['face_o'][2, 1] = np.nan
    labels['facial_landmarks'][3] -= 1000
    write_recording(tmp_path / 'src/val01/step001_image_x', labels)
    index, summary = convert(tmp_path / 'src', tmp_path / 'out')
    assert index.columns['frame'].tolist() == [0, 1, 4, 5]
    assert summary['dropped'] == {
        'frames marked valid whose labels are not finite': 1,
        'frames whose face is outside the picture': 1,
    }


def test_offset_rule_is_for_the_camera_above_the_screen_only(tmp_path):
    write_recording(tmp_path / 'src/val01/step001_image_x', camera='webcam_l')
    index, _ = convert(tmp_path / 'src', tmp_path / 'out', 'webcam_l')
    assert np.isnan(index.columns['pog_plane_offset_mm']).all()
    assert np.allclose(index.columns['pog_plane_pose_mm'], PLANE_RAY_MM)
    assert next(iter(index.rigs.values())).screen_center_plane_mm is None


@pytest.mark.parametrize(('tick', 'camera'), [(10**9, 'webcam_c'), (10**6, 'webcam_c'), (10**9, 'basler')])
def test_time_unit_is_inferred(tmp_path, tick, camera):
    write_recording(tmp_path / 'src/val01/step001_image_x', tick=tick, camera=camera)
    index, _ = convert(tmp_path / 'src', tmp_path / 'out', camera)
    assert np.allclose(index.columns['time_s'], np.arange(FRAMES) / (60 if camera == 'basler' else 30), atol=1e-6)


def test_every_nth_frame(tmp_path):
    write_recording(tmp_path / 'src/val01/step001_image_x', invalid=[('face_R', 3), ('face_R', 4)])
    index, summary = convert(tmp_path / 'src', tmp_path / 'out', every=3)
    assert index.columns['frame'].tolist() == [0]
    # Frame 4 was never asked for.
    assert summary['dropped'] == {'frames without a valid face_R': 1}


@pytest.mark.parametrize(('frames', 'kept'), [(4, 4), (8, FRAMES)])
def test_video_and_labels_of_different_length(tmp_path, frames, kept):
    write_recording(tmp_path / 'src/val01/step001_image_x', frames=frames)
    index, summary = convert(tmp_path / 'src', tmp_path / 'out')
    assert len(index) == kept
    assert any('differ in length' in note for note in summary['notes'])
    assert summary['dropped'] == ({'frames that the video lacks': 2} if frames < FRAMES else {})


def test_splits_rigs_and_unlabelled_participants(tmp_path):
    src = tmp_path / 'src'
    for name in ('train01/step001_image_a', 'train02/step001_image_b', 'val01/step004_video_c'):
        write_recording(src / name)
    other = write_recording(src / 'val02/step002_image_d')
    with h5py.File(other / 'webcam_c.h5', 'a') as file:
        file['camera_matrix'][0, 0] = 300
    # Only of test participants are labels known to be withheld.
    write_recording(src / 'train03/step001_image_e', withheld())
    index, summary = convert(src, tmp_path / 'out')
    assert summary['splits'] == {'train': [12, 2], 'val': [12, 2]}
    assert summary['dropped'] == {'frames of recordings without gaze labels': FRAMES}
    assert len(index.rigs) == 2
    keys = dict(zip(index.columns['subject'], index.columns['rig'], strict=True))
    assert keys['train01'] == keys['train02'] == keys['val01'] != keys['val02']


def withheld():
    """What the files of test participants hold."""
    labels = per_frame_labels()
    del labels['face_PoG_tobii'], labels['face_g_tobii']
    return labels


def test_test_participants_have_a_row_for_every_frame_and_no_label(tmp_path):
    invalid = [('facial_landmarks', 1), ('face_o', 2), ('face_R', 3), ('left_o', 4)]
    labels = withheld()
    labels['facial_landmarks'][5] -= 1000
    write_recording(tmp_path / 'src/test03/step004_video_x', labels, invalid)
    write_recording(tmp_path / 'src/val01/step001_image_y')
    index, summary = convert(tmp_path / 'src', tmp_path / 'out')
    assert summary['splits'] == {'val': [6, 1], 'test': [6, 1]} and summary['dropped'] == {}
    assert summary['notes'] == {'rows of test participants, whose labels are withheld (for --submission only)': 6}
    assert summary['checks'][CHECK]['n'] == summary['checks'][SIGN_CHECK]['n'] == 6
    c = read_index(tmp_path / 'out', ['test']).columns
    assert c['frame'].tolist() == list(range(6)) and set(c['sequence']) == {'step004_video_x'}
    for name in ('pog_screen_px', 'target_cam_mm', 'pog_plane_pose_mm', 'pog_plane_offset_mm', 'gaze'):
        assert np.isnan(c[name]).all(), name
    # The rest is there where it is valid, and a face outside the picture has no box.
    unknown = {'face_box_px': (1, 5), 'face_origin_mm': (2,), 'norm_rotation': (3,), 'left_eye_mm': (4,)}
    for name, missing in unknown.items():
        assert np.flatnonzero(np.isnan(c[name][:, 0])).tolist() == list(missing), name
    assert np.allclose(c['time_s'], np.arange(6) / 30, atol=1e-6)
    rig = index.rigs[c['rig'][0]]
    assert rig.screen_size_mm == (480, 270) and np.allclose(rig.screen_to_camera, SCREEN_TO_CAMERA)
    assert abs(cv2.imread(str(index.root / c['image'][4])).mean() - 140) < 3


def test_mirrored_calibrations_are_refused(tmp_path):
    """A screen whose x runs with the camera's: its users would be behind it, and labels mirrored."""
    # Without g_tobii, which would tell as well.
    invalid = [('face_g_tobii', number) for number in range(FRAMES)]
    folder = write_recording(tmp_path / 'src/train01/step001_image_x', invalid=invalid)
    with h5py.File(folder / 'webcam_c.h5', 'a') as file:
        file['camera_transformation'][0] = (1, 0, 0, -240)
    with pytest.raises(UserError, match=r'100% of the targets are on the wrong side of the camera'):
        convert(tmp_path / 'src', tmp_path / 'out')


def test_damaged_recordings_are_counted_and_skipped(tmp_path):
    src = tmp_path / 'src'
    write_recording(src / 'train01/step001_image_good')
    for i, name in enumerate(('webcam_c.mp4', 'webcam_c.h5')):
        file = write_recording(src / f'train01/step00{2 + i}_image_cut') / name
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        (write_recording(src / f'train01/step00{4 + i}_image_gone') / name).unlink()
    labels = per_frame_labels()
    labels['face_o'] = labels['face_o'][:3]
    write_recording(src / 'train01/step006_image_short', labels)
    del labels['face_o']
    write_recording(src / 'train01/step007_image_less', labels)
    (write_recording(src / 'train01/step008_image_timeless') / 'webcam_c.timestamps.txt').write_text('1 2 x')
    index, summary = convert(src, tmp_path / 'out')
    assert set(index.columns['sequence']) == {'step001_image_good', 'step008_image_timeless'}
    assert np.isnan(index.columns['time_s'][-1])
    assert summary['notes'] == {'recordings without usable timestamps': 1}
    messages = list(summary['failed'].values())
    assert len(messages) == 6
    for message, part in zip(
        messages,
        [
            'webcam_c.mp4 cannot be read',
            'webcam_c.h5 cannot be read',
            'webcam_c.mp4 is missing',
            'webcam_c.h5 is missing',
            'face_o has 3 rows, facial_landmarks has 6',
            'face_o/data',
        ],
        strict=True,
    ):
        assert part in message


def test_labels_of_another_convention_are_refused(tmp_path):
    labels = per_frame_labels()
    labels['face_g_tobii'] *= [1, -1]
    write_recording(tmp_path / 'src/train01/step001_image_x', labels)
    with pytest.raises(UserError, match=r'differ by \d+\.\d+ deg \(median\).*frames, signs or units'):
        convert(tmp_path / 'src', tmp_path / 'out')


def test_wrong_source_is_one_clear_line(tmp_path):
    write_recording(tmp_path / 'src/data/train01/step001_image_x')
    for src, part in ((tmp_path / 'nowhere', 'is not a folder'), (tmp_path / 'src', f'did you mean --src {tmp_path}')):
        with pytest.raises(UserError, match=rf'{part}.*https://ait.ethz.ch/eve'):
            convert(src, tmp_path / 'out')
    with pytest.raises(UserError, match=r'has a basler.h5 \(of 1 step folders\)'):
        convert(tmp_path / 'src/data', tmp_path / 'out', 'basler')
    tool = Path(__file__).parents[1] / 'tools' / 'prepare_data.py'
    command = [sys.executable, tool, 'eve', '--src', tmp_path / 'nowhere', '--out', tmp_path / 'out']
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ''
    assert done.stderr.count('\n') == 1 and done.stderr.startswith(f'error: {tmp_path}/nowhere is not a folder')


def test_synthetic_world_through_eve_files(tmp_path):
    size, frames = (320, 180), 40
    prepare(SynthEveConverter(size, 3, frames, 0, (1, 1, 1)), tmp_path / 'eve', jobs=1)
    prepare(EveConverter(str(tmp_path / 'eve'), 'webcam_c', size, 1, 100), tmp_path / 'out', jobs=1)
    index = read_index(tmp_path / 'out')
    # Blinks and lost landmarks are missing, most frames are not; the test person has all frames and no labels.
    assert 1.4 * frames < sum(index.columns['split'] != 'test') < 2 * frames
    assert sorted(set(index.columns['subject'])) == ['test01', 'train01', 'val01']
    assert index.info['checks'][CHECK]['max'] < 1e-4
    unlabelled = read_index(tmp_path / 'out', ['test'])
    assert len(unlabelled) == frames and np.isnan(unlabelled.columns['target_cam_mm']).all()
    world = SyntheticWorld('eve', size, 0)
    for person, subject in ((0, 'train01'), (1, 'val01')):
        rows = {n: i for i, n in enumerate(index.columns['frame']) if index.columns['subject'][i] == subject}
        for frame in world.sequence(person, 0, frames, 30):
            if frame.index not in rows:
                continue
            i = rows[frame.index]
            expected = frame_row(frame, world.rig)
            for name in ('pog_plane_offset_mm', 'pog_plane_pose_mm', 'target_cam_mm', 'face_origin_mm', 'head_tvec_mm'):
                assert np.allclose(index.columns[name][i], expected[name], atol=0.01), name
            for name in ('gaze', 'norm_rotation', 'head_rvec'):
                assert np.allclose(index.columns[name][i], np.ravel(expected[name]), atol=1e-6), name
            for name in ('face_box_px', 'eye_landmarks_px'):
                assert np.allclose(index.columns[name][i], np.ravel(expected[name]), atol=1e-3), name
            picture = cv2.imread(str(index.root / index.columns['image'][i]))
            assert np.abs(picture.astype(int) - frame.image).mean() < 4
