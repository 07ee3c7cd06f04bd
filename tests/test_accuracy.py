"""The accuracy test on errors that are known in closed form, its report, and scripts of recorded videos."""

import json
import math
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from evg.errors import UserError
from evg.inference.accuracy import AccuracyTest, fifteen_points
from evg.inference.accuracy_html import accuracy_html
from evg.inference.accuracy_script import Look, read_script, run_script, video_frames
from evg.inference.calibration import CalibrationSample, fit_calibration
from evg.inference.result import GazeResult
from evg.inference.screen import Screen

SCREEN = Screen((1920, 1080), (480, 270), (240, -12, 0))  # 4 px per mm, the camera in the screen's plane


def result(point_px, **more) -> GazeResult:
    return GazeResult(**{**dict(found=True, screen_px=np.array(point_px, np.float64), score=1.0), **more})


def in_front_of(point_px, distance_mm=600.0) -> np.ndarray:
    """The eye on the screen's normal through a point, so that r mm from there are atan(r / distance)."""
    return SCREEN.px_to_camera(point_px) + np.array([0, 0, distance_mm])


def shaking(target, sides, offset=(8, -6)) -> list[GazeResult]:
    """Samples 4 px = 1 mm to the sides ('+', '-') of target + offset, or lost ('L'); the eye in front of their mean."""
    middle = np.add(target, offset)
    lost = GazeResult(False, 'no face')
    return [
        lost if side == 'L' else result(np.add(middle, (4 if side == '+' else -4, 0)), origin_mm=in_front_of(middle))
        for side in sides
    ]


def test_the_atlas_grid():
    points = fifteen_points(SCREEN)
    assert points[[0, 1, 4, 5, 14]].tolist() == [[250, 200], [604, 200], [1655, 200], [250, 533], [1655, 865]]
    assert np.allclose(fifteen_points(Screen((960, 2160), (480, 270), (0, 0, 0))), points * (0.5, 2))


def test_one_point_in_closed_form():
    test = AccuracyTest(SCREEN)
    test.add((500, 300), shaking((500, 300), '+-L-+'))
    (point,) = test.report()['points']
    assert (point['n'], point['n_valid'], point['data_loss'], point['lost']) == (
        5,
        4,
        pytest.approx(0.2),
        {'no face': 1},
    )
    assert point['mean_px'] == [508, 294]
    # 8 px right and 6 up are 2 and 1.5 mm: 2.5 mm, seen from 600 mm.
    expected = {'x_px': 8, 'y_px': -6, 'x_mm': 2, 'y_mm': -1.5, 'px': 10, 'mm': 2.5, 'cm': 0.25}
    assert point['error'] == pytest.approx({**expected, 'deg': math.degrees(math.atan(2.5 / 600))})
    # Two samples at (12, -6) px, two at (4, -6).
    assert point['sample_error']['mm'] == pytest.approx((math.hypot(12, 6) + math.hypot(4, 6)) / 2 / 4)
    assert point['sd'] == pytest.approx({'mm': 1, 'deg': math.degrees(math.atan(1 / 600))})
    # Two pairs of neighbours 2 mm apart; the lost sample parts the two at the same place.
    assert point['rms_s2s'] == pytest.approx({'mm': 2, 'deg': 2 * math.degrees(math.atan(1 / 600))})
    assert point['ellipse']['semi_mm'] == pytest.approx([1, 0])
    assert abs(math.sin(math.radians(point['ellipse']['angle_deg']))) < 1e-9


def test_angles_of_the_samples_are_from_the_eye():
    test = AccuracyTest(SCREEN)
    eye = in_front_of((500, 300))
    test.add((500, 300), [result((500 + 4 * mm, 300), origin_mm=eye) for mm in (30, 60)])
    error = test.report()['points'][0]
    assert error['sample_error']['deg'] == pytest.approx(
        math.degrees(math.atan(30 / 600) + math.atan(60 / 600)) / 2, rel=1e-12
    )
    assert error['error']['deg'] == pytest.approx(math.degrees(math.atan(45 / 600)), rel=1e-12)


def test_the_ellipse_lies_along_the_scatter():
    # Samples on a line down to the right, 30 degrees, +-2 mm, and +-1 mm across it.
    along, across = np.array([math.cos(math.pi / 6), 0.5]), np.array([-0.5, math.cos(math.pi / 6)])
    test = AccuracyTest(SCREEN)
    steps = (2 * along, -2 * along, across, -across)
    test.add((900, 500), [result((900, 500) + 4 * step) for step in steps])
    point = test.report()['points'][0]
    assert point['ellipse']['semi_mm'] == pytest.approx([2 / math.sqrt(2), 1 / math.sqrt(2)])
    assert point['ellipse']['angle_deg'] % 180 == pytest.approx(30)
    assert point['sd']['mm'] == pytest.approx(math.sqrt(2.5))
    assert (point['error']['deg'], point['sd']['deg'], point['rms_s2s']['deg']) == (None, None, None)


def test_means_over_points():
    test = AccuracyTest(SCREEN)
    test.add((500, 300), shaking((500, 300), '+-'))
    test.add((900, 300), shaking((900, 300), '+-+-LLLL', offset=(-40, 30)))
    test.add((900, 700), [result((1, 1), eyes_open=0.1), result((1, np.nan)), result((1e9, 0)), GazeResult(False)])
    report = test.report({'model': 'nano'})
    mean = report['mean']
    assert (report['n_points'], report['n_points_missing'], report['facts']) == (3, 1, {'model': 'nano'})
    lost = {'eyes closed': 1, 'no point on the screen': 1, 'far off the screen': 1, 'no face': 1}
    assert report['points'][2]['lost'] == lost
    assert report['points'][2]['error'] is None
    # 2.5 and 12.5 mm; 8 and -40 px.
    assert mean['mm'] == pytest.approx(7.5)
    assert mean['cm'] == pytest.approx(0.75)
    assert mean['deg'] == pytest.approx(math.degrees(math.atan(2.5 / 600) + math.atan(12.5 / 600)) / 2)
    assert (mean['x_px'], mean['bias_x_px'], mean['y_px'], mean['bias_y_px']) == pytest.approx((24, -16, 18, 12))
    assert mean['rms_s2s_mm'] == pytest.approx(2)
    assert mean['data_loss'] == pytest.approx(8 / 14)


def test_latency_and_json():
    test = AccuracyTest(SCREEN)
    test.add((0, 0), [result((1, 1), times_ms={'total': t, 'network': 2.0}) for t in (10.0, 20.0, 30.0)])
    report = test.report()
    # The 95th percentile of three lies 0.9 of the way from the second to the third.
    assert report['latency_ms'] == {'network': {'mean': 2, 'p95': 2}, 'total': {'mean': 20, 'p95': pytest.approx(29)}}
    assert json.loads(json.dumps(report, allow_nan=False)) == report


@pytest.mark.parametrize('target', [(1, math.nan), (1, 2, 3), (1e12, 0)])
def test_mistakes_have_a_message(target):
    test = AccuracyTest(SCREEN)
    with pytest.raises(UserError, match='no point yet'):
        test.report()
    with pytest.raises(UserError, match='must be two px'):
        test.add(target, [result((0, 0))])
    with pytest.raises(UserError, match='no result'):
        test.add((5, 5), [])


class Tags(HTMLParser):
    """Opening and closing tags must match."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], ''

    def handle_starttag(self, tag, attrs):
        if tag not in ('meta', 'br'):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_shows_the_figures_and_needs_nothing_else():
    test = AccuracyTest(SCREEN)
    for target in fifteen_points(SCREEN)[:14]:
        test.add(target, shaking(target, '+-L+-'))
    test.add(fifteen_points(SCREEN)[14], [GazeResult(False, 'no <face>')])
    page = accuracy_html(test.report({'model': 'a & b <c>'}), 'Test of <me>')
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    for text in (
        'Test of <me>',
        'a & b <c>',
        '1 no <face>',
        '15 points, 71 samples',
        'left out of the means: 1',
        '0.24',
    ):
        assert text in tags.text
    assert 'nan' not in page.lower()
    assert not any(word in page for word in ('http', 'src=', 'url(', '<script'))
    assert 'prefers-color-scheme: dark' in page
    drawing = ET.fromstring(page[page.index('<svg') : page.index('</svg>') + 6])
    shapes = {}
    for shape in drawing:
        shapes.setdefault(shape.get('class', shape.tag), []).append(shape)
    counts = {name: len(found) for name, found in shapes.items()}
    assert counts == {
        **{'screen': 1, 'target': 15, 'target-dot': 15, 'text': 15},
        **{'mean': 14, 'ellipse': 14, 'error': 14, 'sample': 56},
    }
    # The first target at (250, 200) px is (62.5, 50) mm; its mean 2 mm to the right and 1.5 up.
    assert (shapes['target'][0].get('cx'), shapes['target'][0].get('cy')) == ('62.50', '50.00')
    assert (shapes['mean'][0].get('cx'), shapes['mean'][0].get('cy')) == ('64.50', '48.50')
    assert shapes['ellipse'][0].get('rx') == '2.00'
    assert shapes['text'][0].text == '1: 2'


SCRIPT = [Look(0, 300, 500, 300), Look(400, 700, 900, 600)]


def write_csv(path, rows=SCRIPT, header='t_start_ms,t_end_ms,x_px,y_px'):
    path.write_text('\n'.join([header, *(f'{r.t_start_ms}, {r.t_end_ms}, {r.x_px}, {r.y_px}' for r in rows)]))
    return path


def test_scripts_as_csv_and_json(tmp_path):
    assert read_script(write_csv(tmp_path / 'a.csv', SCRIPT[::-1])) == SCRIPT
    (tmp_path / 'a.json').write_text(json.dumps([vars(look) for look in SCRIPT]))
    assert read_script(tmp_path / 'a.json') == SCRIPT


@pytest.mark.parametrize(
    ('rows', 'words'),
    [
        ([], 'a list of stretches'),
        ([{'t_start_ms': 0}], 'stretch 1: needs t_start_ms, t_end_ms, x_px, y_px'),
        ([7], 'stretch 1: needs'),
        ([vars(Look(5, 5, 1, 1))], 't_start_ms before t_end_ms'),
        ([vars(SCRIPT[0]), vars(Look(300, 400, 1, 'left'))], 'stretch 2: .* must be numbers'),
        ([vars(SCRIPT[0]), vars(Look(299, 400, 1, 1))], 'at 0 and 299 ms overlap'),
    ],
)
def test_scripts_with_mistakes(rows, words, tmp_path):
    (tmp_path / 'a.json').write_text(json.dumps(rows))
    with pytest.raises(UserError, match=words):
        read_script(tmp_path / 'a.json')
    with pytest.raises(UserError, match='cannot read'):
        read_script(tmp_path / 'missing.csv')


class AlwaysOff:
    """A predictor that answers 20 px right of what the frame's grey says: (grey * 10, 300)."""

    def __init__(self):
        self.asked = []

    def predict(self, image, timestamp_ms=None):
        self.asked.append(timestamp_ms)
        return [result((10.0 * image[0, 0, 0] + 20, 300)), result((0, 0))]


def test_a_script_is_run_over_the_frames_of_its_stretches():
    frames = [(100.0 * i, np.full((2, 2, 3), 50 if i < 4 else 90, np.uint8)) for i in range(9)]
    predictor = AlwaysOff()
    report = run_script(predictor, iter(frames), SCRIPT, SCREEN).report()
    assert predictor.asked == [0, 100, 200, 400, 500, 600]
    assert [point['error']['x_px'] for point in report['points']] == [20, 20]
    assert [point['error']['y_px'] for point in report['points']] == [0, -300]
    shift = fit_calibration([CalibrationSample(np.array([0.0, 0]), result((20, 0)))], SCREEN, 'translation')
    corrected = run_script(predictor, iter(frames), SCRIPT, SCREEN, shift).report()
    assert corrected['points'][0]['error']['px'] == 0
    with pytest.raises(UserError, match='no frame from 400 to 700 ms; its last one is at 300 ms'):
        run_script(predictor, iter(frames[:4]), SCRIPT, SCREEN)


def test_frames_of_a_video_have_their_times(tmp_path):
    path = tmp_path / 'v.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 20, (64, 48))
    for grey in range(0, 250, 25):
        writer.write(np.full((48, 64, 3), grey, np.uint8))
    writer.release()
    times, frames = zip(*video_frames(path), strict=True)
    assert times == pytest.approx(range(0, 500, 50))
    assert [int(frame.mean().round()) for frame in frames] == pytest.approx(range(0, 250, 25), abs=2)
    path.write_text('no video')
    for wrong in (path, tmp_path / 'missing.mp4'):
        with pytest.raises(UserError, match='cannot read the video'):
            next(video_frames(wrong))


def test_calibration_and_report_need_numpy_alone():
    modules = 'evg.inference.calibration, evg.inference.filters, evg.inference.accuracy, evg.inference.accuracy_html'
    absent = ('torch', 'cv2', 'mmengine', 'pyarrow', 'scipy')
    code = f'import sys, {modules}; print([name for name in {absent!r} if name in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ('[]', '')
