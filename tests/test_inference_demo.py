"""Sources of frames, pictures of results, tables and videos, and the tools that use them."""

import csv
import json

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import skimage.data
from conftest import run_tool
from test_inference_face import MODELS
from test_inference_predictor import CAMERA, SCREEN, WORLD, LabelledFaces

from evg.datasets.index import read_index
from evg.errors import UserError
from evg.inference import GazePredictor, GazeResult, Screen
from evg.inference.calibration import CalibrationSample, fit_calibration
from evg.inference.demo import check_frames, run_demo
from evg.inference.draw import NORMALISED, Overlay, draw_frame, draw_normalised, view
from evg.inference.filters import Gate
from evg.inference.landmark_model import VERSION
from evg.inference.records import COLUMNS, ResultTable, VideoFile
from evg.inference.sources import RigScreen, Shot, Source, open_source
from evg.visualization import GT, PRED

FACES = {'EVG_FACE_MODELS': str(MODELS)}


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    """12 frames of somebody at 10 frames per second."""
    path = tmp_path_factory.mktemp('video') / 'clip.mp4'
    with_codec = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), 10, (320, 240))
    for frame in WORLD.sequence(1, 0, 12, 10):
        with_codec.write(frame.image)
    with_codec.release()
    return path


def test_pictures_and_folders(tmp_path):
    for i, name in enumerate(('b.png', 'a.jpg', 'notes.txt')):
        if name.endswith('txt'):
            (tmp_path / name).write_text('x')
        else:
            cv2.imwrite(str(tmp_path / name), np.full((20, 30, 3), 100 * i, np.uint8))
    source = open_source(str(tmp_path))
    shots = list(source.shots)
    assert source.kind == 'picture' and [shot.name for shot in shots] == ['a.jpg', 'b.png']
    assert shots[1].image.shape == (20, 30, 3) and shots[1].image.max() == 0
    assert [shot.name for shot in open_source(str(tmp_path / 'b.png')).shots] == ['b.png']
    assert len(list(open_source(str(tmp_path), count=1).shots)) == 1


def test_video_frames_have_their_times(video):
    source = open_source(str(video))
    assert (source.kind, source.fps) == ('video', 10)
    shots = list(source.shots)
    np.testing.assert_allclose([shot.time_ms for shot in shots], np.arange(12) * 100, atol=1)
    assert shots[0].image.shape == (240, 320, 3)


def test_what_cannot_be_read_is_named(tmp_path, video):
    cut = tmp_path / 'cut.mp4'
    cut.write_bytes(video.read_bytes()[:300])
    (tmp_path / 'bad.png').write_bytes(b'x')
    (tmp_path / 'empty').mkdir()
    cases = {
        'nothing.mp4': 'there is no',
        'cut.mp4': r'cannot read the video .*cut\.mp4',
        'bad.png': r'bad\.png is not a picture',
        'empty': 'holds no pictures',
    }
    for name, message in cases.items():
        with pytest.raises(UserError, match=message):
            list(open_source(str(tmp_path / name)).shots)
    with pytest.raises(UserError, match='there is no camera 97'):
        open_source('camera:97')


def test_data_sets_bring_labels_screen_and_camera(synth_close):
    index = read_index(synth_close, ['test'])
    shots = list(open_source(str(synth_close), 'test', 3).shots)
    assert len(shots) == 3
    rows = index.columns.rows_of([shot.name for shot in shots])
    np.testing.assert_allclose([shot.truth_px for shot in shots], index.columns['pog_screen_px'][rows])
    rig = index.rigs[index.columns.text('rig', rows[0])]
    np.testing.assert_allclose(shots[0].camera.matrix, rig.camera_matrix)
    # The pose is any here: the true gaze ends at the labelled point.
    for shot, row in zip(shots, rows, strict=True):
        origin, target = index.columns['face_origin_mm'][row], index.columns['target_cam_mm'][row]
        expected = (target - origin) / np.linalg.norm(target - origin)
        np.testing.assert_allclose(shot.true_gaze(origin, shot.screen), expected, atol=1e-5)
        np.testing.assert_allclose(shot.screen.ray_to_px(origin, expected), shot.truth_px, atol=0.05)
    with pytest.raises(UserError, match='has no rows'):
        open_source(str(synth_close), 'nosplit')


def test_a_rig_without_a_pose_leads_nowhere():
    rig = WORLD.rig
    bare = RigScreen(type(rig)(rig.image_size, rig.screen_size_px, rig.screen_size_mm))
    origin = np.array([0, 0, 600.0])
    for point in (
        bare.ray_to_px(origin, -origin), bare.px_to_camera((5, 5)), bare.plane_mm_to_px((1, 2)),
        bare.offset_plane_mm_to_px((1, 2)),
    ):  # fmt: skip
        assert np.isnan(point).all()
    assert Shot(None, truth_px=np.zeros(2)).true_gaze(origin, bare) is None
    np.testing.assert_allclose(RigScreen(rig).ray_to_px(origin, -origin), rig.ray_to_screen_px(origin, -origin))
    offset = rig.offset_plane_to_screen_px((10, 20))
    np.testing.assert_allclose(RigScreen(rig).offset_plane_mm_to_px((10, 20)), offset)


def looking(gaze, **known) -> GazeResult:
    gaze = np.array(gaze) / np.linalg.norm(gaze)
    box = np.array([100, 80, 180, 180.0])
    return GazeResult(True, gaze=gaze, origin_mm=np.array([0, 0, 600.0]), face_box_px=box, **known)


def painted(image, color):
    """Mean place of the pixels of a colour."""
    y, x = np.nonzero(np.abs(image.astype(int) - color).max(axis=2) < 30)
    return np.array([x.mean(), y.mean()]) if len(x) else None


def test_the_arrow_points_where_the_picture_has_the_target():
    # To the user's right and up: left and up in the picture, from where the origin is seen.
    shot = Shot(np.zeros((240, 320, 3), np.uint8))
    start = CAMERA.project([0, 0, 600.0])
    drawn = draw_frame(shot, [looking([-1, -1, -1])], CAMERA, SCREEN, Overlay())
    # 80 px long, the width of the box, times 1 / sqrt(3) in x and y: its middle is 23 px away.
    np.testing.assert_allclose(painted(drawn, PRED), start - 23, atol=8)  # the head of the arrow weighs, too
    assert not shot.image.any()
    assert painted(draw_frame(shot, [looking([-1, -1, -1])], CAMERA, SCREEN, Overlay(input_gaze=False)), PRED) is None
    truth = Shot(shot.image, truth_px=np.array([1900.0, 540.0]))  # right of the middle of the screen
    both = draw_frame(truth, [looking([1, 0, -1])], CAMERA, SCREEN, Overlay())
    assert painted(both, GT)[0] < start[0] < painted(both, PRED)[0]


def test_the_normalised_face_is_level_and_has_its_arrow():
    frame = WORLD.frame(0, 0)
    truth = frame.target_cam_mm - frame.face_origin_mm
    result = looking(truth, head_rotation=frame.head_rotation)
    result.origin_mm = frame.face_origin_mm
    patch = draw_normalised(frame.image, result, CAMERA, NORMALISED, Overlay(normalised_gaze=False))
    assert patch.shape == (224, 224, 3)
    norm = NORMALISED.apply(frame.face_origin_mm, frame.head_rotation, CAMERA.matrix)
    eyes = norm.points_to(np.stack([frame.eye_landmarks_px[:6], frame.eye_landmarks_px[6:]]).mean(axis=1))
    assert abs(eyes[1, 1] - eyes[0, 1]) < 5 < eyes[1, 0] - eyes[0, 0]
    with_arrow = draw_normalised(frame.image, result, CAMERA, NORMALISED, Overlay())
    middle = painted(np.where(with_arrow == patch, 0, with_arrow), PRED) - 112
    assert middle @ norm.gaze_to(truth)[:2] > 0
    assert draw_normalised(frame.image, GazeResult(False, 'no face'), CAMERA, NORMALISED, Overlay()) is None


def test_keys_of_the_seed_switch_what_is_drawn():
    overlay = Overlay()
    assert [overlay.press(key) for key in 'invfxq'] == [False] * 5 + [True]
    assert overlay == Overlay(False, False, True, False)
    overlay.press('i')
    assert overlay.input_gaze


@pytest.mark.parametrize('size', [(320, 240), (1280, 720), (300, 500)])
def test_views_have_one_size_whatever_was_found(size):
    shot = Shot(np.zeros((size[1], size[0], 3), np.uint8), truth_px=np.array([5.0, 5.0]))
    camera = type(CAMERA).from_field_of_view(size)
    found = looking([0, 0, -1], head_rotation=np.eye(3), screen_px=np.array([100.0, 50.0]))
    sheets = [
        view(shot, [result], camera, SCREEN, Overlay(landmarks=True), 25.0)
        for result in (GazeResult(False, 'no face'), found, looking([0, 0, 1], landmarks_px=np.zeros((3, 2))))
    ]
    assert {sheet.shape for sheet in sheets} == {(max(480, round(size[1] * 640 / size[0])), 960, 3)}


def test_the_table_says_what_the_results_say(tmp_path):
    table = ResultTable()
    seen = looking([-0.5, -np.sqrt(0.5), -0.5], screen_px=np.array([103.0, 204.0]), plane_mm=np.array([1.5, -2.0]))
    seen.times_ms = {'total': 12.5}
    table.add(Shot(None, 'a', 40.0, np.array([100.0, 200.0])), [seen, GazeResult(True)], SCREEN)
    table.add(Shot(None), [GazeResult(False, 'no face')], SCREEN)
    for name in ('t.csv', 't.parquet'):
        table.write(tmp_path / name)
    with open(tmp_path / 't.csv', newline='') as file:
        first, second, third = csv.DictReader(file)
    stored = pq.read_table(tmp_path / 't.parquet')
    assert tuple(first) == COLUMNS == tuple(stored.column_names)
    assert (first['frame'], second['frame'], third['frame'], second['face']) == ('0', '0', '1', '1')
    assert float(first['pitch_rad']) == pytest.approx(np.radians(45)) == float(first['yaw_rad'])
    assert (first['error_px'], first['time_ms'], first['total_ms']) == ('5.0', '40.0', '12.5')
    # The angle at the origin between the gaze and the way to the true point.
    towards = SCREEN.px_to_camera((100, 200)) - [0, 0, 600]
    expected = np.degrees(np.arccos(seen.gaze @ towards / np.linalg.norm(towards)))
    assert float(first['error_deg']) == pytest.approx(expected)
    assert (third['found'], third['reason'], third['gaze_x']) == ('False', 'no face', '')
    rows = stored.to_pylist()
    assert rows[0]['plane_v_mm'] == -2 and rows[2]['gaze_x'] is None and rows[2]['found'] is False
    with pytest.raises(UserError, match=r'\.csv or \.parquet'):
        table.write(tmp_path / 't.xlsx')
    assert check_frames(table) == '2 frames, a gaze in 1 of them, mean error 5.0 px'
    with pytest.raises(UserError, match='not one frame'):
        check_frames(ResultTable())


def ending(error, frames=3):
    """A live source that ends in an error after some frames."""
    for i in range(frames):
        yield Shot(WORLD.frame(i, 0).image, time_ms=i * 100.0)
    raise error


@pytest.mark.parametrize(('error', 'kept'), [(KeyboardInterrupt(), True), (UserError('unplugged'), False)])
def test_a_run_ends_with_whole_files_or_none(tmp_path, error, kept):
    with GazePredictor('landmark', SCREEN, face=LabelledFaces(WORLD.frame(0, 0)), camera=CAMERA) as predictor:
        source = Source(ending(error), 'camera')
        if kept:
            table = run_demo(source, predictor, Overlay(), tmp_path)
            assert len(table.rows) == 3
        else:
            with pytest.raises(UserError, match='unplugged'):
                run_demo(source, predictor, Overlay(), tmp_path)
        assert predictor.camera is CAMERA
    assert sorted(p.name for p in tmp_path.iterdir()) == (['annotated.mp4', 'results.csv'] if kept else [])


class Window:
    """OpenCV's window, whose keys are pressed by a script; at each, the picture that was shown is kept."""

    def __init__(self, monkeypatch, keys):
        self.keys, self.shown, self.waits = list(keys), [], []
        monkeypatch.setattr(cv2, 'imshow', lambda _, picture: self.shown.append(picture.copy()))
        monkeypatch.setattr(cv2, 'waitKey', self.wait)
        monkeypatch.setattr(cv2, 'destroyAllWindows', lambda: None)

    def wait(self, ms):
        self.waits.append(ms)
        return ord(self.keys.pop(0))


def pressed(monkeypatch, keys, kind='picture'):
    """(pictures that were shown, how long each waited, results) of three frames of one person."""
    window = Window(monkeypatch, keys)
    frame = WORLD.frame(0, 0)
    shots = (Shot(WORLD.frame(0, i).image, f'{i}.png') for i in range(3))
    with GazePredictor('landmark', SCREEN, face=LabelledFaces(frame), camera=CAMERA) as predictor:
        table = run_demo(Source(shots, kind), predictor, Overlay(), window=True)
    assert not window.keys
    return window.shown, window.waits, table.rows


def test_a_key_redraws_a_picture_and_another_one_goes_on(monkeypatch):
    shown, waits, rows = pressed(monkeypatch, 'viq')
    assert (len(shown), waits, len(rows)) == (3, [0, 0, 0], 1)  # v and i redraw the first picture, q ends at it
    plain, with_box, without_arrow = shown
    box = (slice(None, 480), slice(None, 640))  # the frame, left of the side
    assert (with_box[box] != plain[box]).any() and (without_arrow[box] != with_box[box]).any()
    shown, _, rows = pressed(monkeypatch, 'vv n q')
    assert len(shown) == 6 and [row['name'] for row in rows] == ['0.png', '1.png', '2.png']
    np.testing.assert_array_equal(shown[2], shown[0])  # switched twice
    assert (shown[3] != shown[2]).any()  # a space goes on to the second, where n takes the other arrow away


def test_keys_do_not_hold_a_video(monkeypatch):
    shown, waits, rows = pressed(monkeypatch, 'viv', 'video')
    assert (len(shown), waits, len(rows)) == (3, [1, 1, 1], 3)


def test_a_low_score_counts_as_not_seen(tmp_path):
    frame = WORLD.frame(0, 0)

    def rows(gate=None):
        with GazePredictor('landmark', SCREEN, face=LabelledFaces(frame), camera=CAMERA) as predictor:
            source = Source(iter([Shot(frame.image, 'a', truth_px=np.zeros(2))]), 'picture')
            return run_demo(source, predictor, Overlay(landmarks=True), tmp_path, gate=gate).rows

    def yellow():
        side = cv2.imread(str(tmp_path / '00000_a.jpg'))[:, 640:]
        return painted(side, PRED)

    (seen,), with_point = rows(), yellow()
    assert seen['found'] and with_point is not None and 0 < seen['score'] < 1
    (passed,) = rows(Gate(seen['score'], 0))
    assert passed['found'] and passed['gaze_x'] == seen['gaze_x']
    table = rows(Gate(seen['score'] + 1e-6, 0))
    (low,) = table
    assert (low['found'], low['reason'], low['on_screen'], low['score']) == (False, 'low score', False, seen['score'])
    gone = ('gaze_x', 'pitch_rad', 'plane_u_mm', 'screen_x_px', 'error_px', 'error_deg')
    assert [low[name] for name in gone] == [None] * len(gone)
    assert (low['box_x1_px'], low['origin_z_mm']) == (seen['box_x1_px'], seen['origin_z_mm'])
    assert yellow() is None


def test_nothing_of_a_result_that_is_not_found_is_drawn_as_a_prediction():
    shot = Shot(np.zeros((240, 320, 3), np.uint8))
    unseen = GazeResult(False, 'low score', origin_mm=np.array([0, 0, 600.0]))
    assert not draw_frame(shot, [unseen], CAMERA, SCREEN, Overlay()).any()
    without_vector = GazeResult(True, origin_mm=np.array([0, 0, 600.0]))
    assert painted(draw_frame(shot, [without_vector], CAMERA, SCREEN, Overlay()), PRED) is not None


def test_demo_gates_by_score_and_keeps_calibrations_from_data_sets(tmp_path, video, synth_close):
    options = ['--headless', '--count', 2, '--out', tmp_path / 'out']
    done = run_tool('demo', video, *options, '--min-score', 1, env=FACES)
    assert '2 frames, a gaze in 0 of them' in done.stdout
    done = run_tool('demo', video, *options, '--min-score', 1.5, code=2, env=FACES)
    assert done.stderr == 'error: --min-score must be from 0 to 1, not 1.5\n'
    answer = GazeResult(True, screen_px=np.array([900.0, 500.0]), plane_mm=np.zeros(2))
    screen = Screen.from_diagonal()
    sample = CalibrationSample((960.0, 540.0), answer)
    # The demo's own model, screen and camera: nothing else is wrong with it.
    made = fit_calibration([sample], screen, 'translation', f'landmark-{VERSION}-mediapipe')
    made.save(tmp_path / 'me.json')
    calibrated = [*options, '--calibration', tmp_path / 'me.json']
    assert 'a gaze in 2' in run_tool('demo', video, *calibrated, env=FACES).stdout
    done = run_tool('demo', synth_close, *calibrated, code=2, env=FACES)
    assert 'a data set has its own: leave --calibration out' in done.stderr and 'Traceback' not in done.stderr


def test_video_file_takes_other_sizes_and_refuses_folders_that_are_none(tmp_path):
    video = VideoFile(tmp_path / 'a' / 'v.mp4', 20)
    for size in ((61, 41), (122, 82)):
        video.add(np.full((size[1], size[0], 3), 200, np.uint8))
    video.close()
    read = cv2.VideoCapture(str(tmp_path / 'a' / 'v.mp4'))
    assert (read.get(cv2.CAP_PROP_FRAME_COUNT), read.get(cv2.CAP_PROP_FPS)) == (2, 20)
    assert abs(float(read.read()[1].mean()) - 200) < 5
    (tmp_path / 'file').write_text('x')
    with pytest.raises(UserError, match='cannot make the folder'):
        VideoFile(tmp_path / 'file' / 'v.mp4', 20).add(np.zeros((8, 8, 3), np.uint8))


def test_demo_of_a_video_a_photograph_and_a_data_set(tmp_path, video, synth_close):
    done = run_tool('demo', video, '--headless', '--out', tmp_path / 'video', '--table', 'parquet', env=FACES)
    assert '12 frames, a gaze in 12 of them' in done.stdout
    rows = pq.read_table(tmp_path / 'video' / 'results.parquet').to_pylist()
    assert [row['time_ms'] for row in rows] == pytest.approx([100 * i for i in range(12)], abs=1)
    read = cv2.VideoCapture(str(tmp_path / 'video' / 'annotated.mp4'))
    assert read.get(cv2.CAP_PROP_FRAME_COUNT) == 12 and read.read()[1].shape == (480, 960, 3)
    cv2.imwrite(str(tmp_path / 'portrait.png'), skimage.data.astronaut()[..., ::-1])
    run_tool('demo', tmp_path / 'portrait.png', '--headless', '--out', tmp_path / 'portrait', '--verbose', env=FACES)
    names = sorted(p.name for p in (tmp_path / 'portrait').iterdir())
    assert names == ['00000_portrait.jpg', 'results.csv']
    options = ['--headless', '--split', 'test', '--count', 4, '--out', tmp_path / 'set']
    done = run_tool('demo', synth_close, *options, env=FACES)
    assert '4 frames' in done.stdout and 'mean error' in done.stdout
    with open(tmp_path / 'set' / 'results.csv', newline='') as file:
        assert all(float(row['error_deg']) < 30 for row in csv.DictReader(file) if row['found'] == 'True')


def test_demo_says_what_is_missing(tmp_path, video):
    nowhere = {'EVG_FACE_MODELS': str(tmp_path), 'HOME': str(tmp_path)}
    done = run_tool('demo', video, '--headless', '--out', tmp_path / 'o', code=2, env=nowhere)
    assert 'curl -fL -o' in done.stderr and 'Traceback' not in done.stderr
    done = run_tool('demo', 'camera:97', '--headless', code=2, env=FACES)
    assert done.stderr.startswith('error: there is no camera 97')
    run_tool('demo', video, '--headless', '--count', 0, code=2, env=FACES)


@pytest.mark.parametrize(
    ('options', 'size_mm', 'camera_mm'),
    [
        (['--width-mm', 320, '--size-px', 1600, 1000], [320, 200], [160, -8, 0]),
        (['--size-mm', 300, 190, '--camera-above-mm', 5], [300, 190], [150, -5, 0]),
        (['--width-mm', 320, '--camera-mm', 10, -20, -3, '--tilt', -5], [320, 180], [10, -20, -3]),
    ],
)
def test_make_screen(tmp_path, options, size_mm, camera_mm):
    path = tmp_path / 'screen.json'
    run_tool('make_screen', path, *options)
    stored = json.loads(path.read_text())
    assert (stored['size_mm'], stored['camera_mm']) == (size_mm, camera_mm)
    assert Screen.load(path).tilt_deg == (-5 if '--tilt' in options else 0)


def test_make_screen_needs_a_size(tmp_path):
    path = tmp_path / 'screen.json'
    for options in (['--width-mm', -3], ['--display', '--size-px', 10, 10], ['--diagonal', -1]):
        run_tool('make_screen', path, *options, code=2)
    for size in ([0, 1080], [1920, 0], [-1920, 1080], ['nan', 1080]):
        for how in (['--width-mm', 344], ['--size-mm', 344, 193], ['--diagonal', 15.6]):
            done = run_tool('make_screen', path, *how, '--size-px', *size, code=2)
            assert done.stderr.startswith('error: --size-px must be two positive numbers of px')
    assert not path.exists()
