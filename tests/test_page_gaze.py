"""The whole of it: a synthetic person before the camera, the landmark model in the server, the page in Chromium.

The person looks at the dots that the page shows. The answers are those of the model that real people get.
"""

import functools
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from page_browser import SIZE, Live, chromium
from page_person import FakeCamera
from serve_fakes import serving

from evg.inference import Screen
from evg.inference.accuracy import fifteen_points
from evg.serve.worker import load_predictor

pytestmark = pytest.mark.xdist_group('page')

MODELS = Path(os.environ.get('EVG_TEST_MODELS', ROOT.parent / 'shared' / 'models'))
# On a calibrated screen less than this share of the error is left; it is about a third.
LEFT = 0.6


@pytest.fixture(scope='module')
def live(tmp_path_factory):
    camera = FakeCamera(tmp_path_factory.mktemp('camera') / 'camera.y4m', person=1)
    model = functools.partial(
        load_predictor, 'landmark', Screen.from_diagonal(), camera.camera, str(MODELS / 'face_landmarker.task')
    )
    with (
        serving(factory=model) as (host, _),
        chromium(camera) as browser,
        Live(browser, camera, host) as live,
    ):
        live.start_camera()
        declare(live)
        live.page.select_option('#filter', 'none')
        yield live


def declare(live):
    """Fill in the synthetic person's screen."""
    screen = live.camera.screen(SIZE)
    x, y, z = screen.camera_mm
    live.declare(screen.size_mm[0], -y, x - screen.size_mm[0] / 2, -z, screen.tilt_deg)


def looks_at(live):
    return lambda x, y: live.camera.look_at((x, y))


def calibrate(live, points: int, method: str) -> list[float]:
    """Calibrate; the error before and after at points left out, mm."""
    page = live.page
    page.select_option('#points', str(points))
    assert page.input_value('#method') == method  # what is proposed
    page.click('#calibrate')
    live.follow(points, looks_at(live))
    live.shows('calibrate-result', f', from {points} points')
    assert live.text('calibrate-result').lower().startswith(method)
    return [float(error) for error in re.findall(r'([\d.]+) mm', live.text('calibrate-result'))]


def nine_grid(live) -> float:
    """Mean error at the keys 1 to 9, mm."""
    live.page.click('#live')
    live.shows('stage-keys', '1 to 9')
    errors = []
    for key in range(1, 10):
        looks_at(live)((200, 960, 1720)[(key - 1) % 3] / 1920, (940, 540, 100)[(key - 1) // 3] / 1080)
        live.arrived()
        live.page.keyboard.press(str(key))
        live.shows('stage-text', 'mean of the last second')
        live.page.wait_for_timeout(300)
        px, mm = re.search(r'last second: (\d+) px, (\d+) mm', live.text('stage-text')).groups()
        assert int(mm) == pytest.approx(int(px) * live.camera.rig.screen_size_mm[0] / SIZE[0], abs=1)
        errors.append(int(mm))
    live.page.keyboard.press('Escape')
    live.back()
    return float(np.mean(errors))


def fifteen(live) -> dict:
    """The figures of the accuracy test, from the file that the page offers."""
    page = live.page
    page.click('#accuracy')
    places = live.follow(15, looks_at(live))
    np.testing.assert_allclose(places, fifteen_points(live.camera.screen(SIZE)), atol=0.6)
    live.back()
    page.locator('#report-json').wait_for()
    with page.expect_download() as download:
        page.click('#report-json')
    told = json.loads(download.value.path().read_text())
    with page.expect_download() as download:
        page.click('#report-html')
    assert '<svg' in download.value.path().read_text()
    live.shows('accuracy-result', f'{told["mean"]["mm"]:.1f} mm')
    return told


def test_calibration_makes_the_errors_smaller(live):
    nine_before, fifteen_before = nine_grid(live), fifteen(live)
    assert fifteen_before['facts']['calibration'] == 'none'
    calibrate(live, 4, 'affine')
    assert nine_grid(live) < LEFT * nine_before
    left_out_before, left_out = calibrate(live, 9, 'ridge')
    assert left_out < left_out_before
    after = fifteen(live)
    assert after['facts']['calibration'] == 'ridge, 9 points'
    assert after['mean']['mm'] < LEFT * fifteen_before['mean']['mm']
    assert after['mean']['deg'] < LEFT * fifteen_before['mean']['deg']

    # The figures by hand, from the samples that the report holds.
    per_px = live.camera.rig.screen_size_mm[0] / SIZE[0]
    means = np.array([np.mean(point['samples_px'], axis=0) for point in after['points']])
    targets = np.array([point['target_px'] for point in after['points']])
    assert after['mean']['mm'] == pytest.approx(np.linalg.norm(means - targets, axis=1).mean() * per_px, rel=1e-6)
    spread = [np.sqrt(np.var(p['samples_px'], axis=0).sum()) for p in after['points']]
    assert after['mean']['sd_mm'] == pytest.approx(np.mean(spread) * per_px, rel=1e-6)
    assert after['mean']['data_loss'] < 0.2 and after['latency_ms']['round_trip']['mean'] > 0
