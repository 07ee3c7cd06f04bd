"""The page in Chromium, with a camera whose colour says where a person looks: exact figures, and all its words."""

import json
import re
import threading

import numpy as np
import pytest
from page_browser import SIZE, Live, chromium
from page_person import ColourPredictor, FakeCamera
from serve_fakes import serving

from evg.inference import Screen
from evg.inference.accuracy import fifteen_points
from evg.inference.accuracy_measures import offset
from evg.inference.calibration import target_points
from evg.serve.settings import Settings

pytestmark = pytest.mark.xdist_group('page')

WRONG = (0.05, -0.04)  # how far the answers are off, shares of the screen
COLOUR_PX = 2.5 * SIZE[0] / 255  # half a grey level, and what the video's colours add
TOKEN = 'a-token-of-sixteen-letters'


@pytest.fixture(scope='module')
def camera(tmp_path_factory):
    return FakeCamera(tmp_path_factory.mktemp('camera') / 'camera.y4m', person=3)


@pytest.fixture(scope='module')
def browser(camera):
    with chromium(camera) as browser:
        yield browser


@pytest.fixture(scope='module')
def host():
    with serving(factory=ColourPredictor) as (host, _):
        yield host


@pytest.fixture
def live(browser, camera, host):
    with Live(browser, camera, host) as live:
        live.connected()
        yield live


def looks_at(camera):
    """For `Live.follow`: the model will answer a little beside it."""
    return lambda x, y: camera.show((255 * (x + WRONG[0]), 255 * (y + WRONG[1]), 40))


def seen(live) -> list[float]:
    """(px, x px, y px) of the text about the reference dot."""
    px, x, y = re.match(r'(\d+) px · .*\nx (.\d+) px .* y (.\d+) px', live.text('stage-text')).groups()
    return [float(number.replace('−', '-')) for number in (px, x, y)]


def test_a_machine_without_a_browser_fails(camera, monkeypatch):
    monkeypatch.setenv('PATH', '')
    with pytest.raises(pytest.fail.Exception, match='apt-get install chromium'), chromium(camera):
        pass


def test_points_and_errors_are_those_of_the_package(live):
    screen = Screen((1728, 1117), (345.5, 223.3), (170.0, -9.0, -4.0), -7.0)
    given = {'screen': screen.to_json(), 'point': [300.5, 950.0], 'target': [1200.0, 20.0], 'origin': [-30, 60, 580]}
    told = live.page.evaluate(
        """async ({ screen, point, target, origin }) => {
          const page = await import('/static/screen.js');
          return {
            grids: [4, 5, 9, 13].map((n) => page.calibrationPoints(n, screen.size_px)),
            fifteen: page.fifteenPoints(screen.size_px),
            keys: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map((key) => page.ninePoint(key, [1920, 1080])),
            camera: page.toCamera(screen, point),
            error: page.errorOf(screen, point, target, origin),
            blind: page.errorOf(screen, point, target, null).deg,
          };
        }""",
        given,
    )
    for n, points in zip((4, 5, 9, 13), told['grids'], strict=True):
        np.testing.assert_allclose(points, target_points(n, screen), atol=1e-9)
    np.testing.assert_allclose(told['fifteen'], fifteen_points(screen), atol=1e-9)
    # As on a number pad, on EVG's screen.
    np.testing.assert_allclose(told['keys'], [[960, 540], *([x, y] for y in (940, 540, 100) for x in (200, 960, 1720))])
    np.testing.assert_allclose(told['camera'], screen.px_to_camera(given['point']), atol=1e-9)
    expected = offset(screen, given['point'], given['target'], given['origin'])
    assert told['error'] == pytest.approx({name: expected[name] for name in told['error']})
    assert told['blind'] is None


def test_a_calibration_by_keyboard_takes_the_error_away(live, camera):
    page = live.page

    def error_at_nine() -> list[float]:
        page.focus('#live')
        page.keyboard.press('Enter')
        live.shows('stage-keys', '1 to 9')
        looks_at(camera)(1720 / 1920, 100 / 1080)
        live.arrived()
        page.keyboard.press('9')
        live.shows('stage-text', 'mean of the last second')
        yellow = page.evaluate(
            """([x, y]) => {
              const context = new OffscreenCanvas(1, 1).getContext('2d');
              context.drawImage(document.getElementById('stage-canvas'), -x, -y);
              return [...context.getImageData(0, 0, 1, 1).data];
            }""",
            [round(1720 * SIZE[0] / 1920), round(100 * SIZE[1] / 1080)],
        )
        error = seen(live)
        page.keyboard.press('9')
        live.until(lambda: live.text('stage-text') == '')
        page.keyboard.press('q')
        live.back()
        live.until(lambda: page.evaluate('document.activeElement.id') == 'live')
        return [*error, yellow]

    page.focus('#camera-start')
    page.keyboard.press('Enter')
    live.shows('camera-facts', 'found')
    page.select_option('#filter', 'none')
    page.focus('#points')
    page.keyboard.press('4')
    assert page.input_value('#method') == 'affine'
    page.select_option('#method', 'translation')
    *before, dot = error_at_nine()
    assert dot == [0xF2, 0xB6, 0, 255]
    np.testing.assert_allclose(before[1:], np.multiply(WRONG, SIZE), atol=COLOUR_PX)
    assert before[0] == pytest.approx(np.hypot(*before[1:]), abs=1)
    page.focus('#calibrate')
    page.keyboard.press('Enter')
    places = live.follow(4, looks_at(camera))
    np.testing.assert_allclose(places, target_points(4, Screen(SIZE, (340, 190), (170, -10, 0))), atol=0.6)
    live.back()
    live.shows('calibrate-result', 'Translation, from 4 points')
    assert np.abs(error_at_nine()[1:3]).max() < COLOUR_PX


def test_a_calibration_is_kept_loaded_and_dropped(live, camera):
    page = live.page
    live.start_camera()
    page.select_option('#points', '5')
    page.click('#calibrate')
    live.follow(5, looks_at(camera), 'click')
    live.shows('calibrate-result', 'Affine, from 5 points')
    told = live.text('calibrate-result')
    with page.expect_download() as download:
        page.click('#calibration-save')
    file = download.value.path()
    assert json.loads(file.read_text())['screen']['size_px'] == list(SIZE)
    page.click('#calibration-forget')
    live.until(lambda: live.text('calibrate-result') == '')
    page.set_input_files('#calibration-file', file)
    live.until(lambda: live.text('calibrate-result') == told)
    live.declare(300)
    live.shows('calibrate-message', 'The screen has changed')
    assert live.text('calibrate-result') == ''
    page.set_input_files('#calibration-file', {'name': 'x.json', 'mimeType': '', 'buffer': b'no'})
    live.shows('calibrate-message', 'This file is no calibration')


OTHER_SETTINGS = """(changed) => {
  const real = MediaStreamTrack.prototype.getSettings;
  MediaStreamTrack.prototype.getSettings = function () { return { ...real.call(this), ...changed }; };
}"""


@pytest.mark.parametrize('changed', [{'deviceId': 'another'}, {'width': 320, 'height': 240}])
def test_a_calibration_is_for_one_camera(live, camera, changed):
    page = live.page

    def again():
        page.click('#camera-stop')
        live.start_camera()
        live.shows('camera-facts', 'found')

    live.start_camera()
    page.select_option('#points', '4')
    page.click('#calibrate')
    live.follow(4, looks_at(camera))
    live.shows('calibrate-result', 'Affine, from 4 points')
    told = live.text('calibrate-result')
    with page.expect_download() as download:
        page.click('#calibration-save')
    file = download.value.path()
    again()
    assert live.text('calibrate-result') == told
    page.evaluate(OTHER_SETTINGS, changed)
    again()
    live.shows('calibrate-message', 'Another camera')
    assert live.text('calibrate-result') == ''
    # The file tells no camera: it is for the one that runs, here the same but for what the browser says of it.
    page.set_input_files('#calibration-file', file)
    live.until(lambda: live.text('calibrate-result') == told)
    again()
    assert live.text('calibrate-result') == told
    page.evaluate(OTHER_SETTINGS, {'deviceId': 'a third'})
    page.click('#live')  # as when a tablet is turned: nothing was started anew
    live.shows('stage-keys', '1 to 9')
    page.keyboard.press('q')
    live.back()
    live.shows('calibrate-message', 'Another camera')


def test_the_screen_is_asked_for_checked_and_remembered(live):
    page = live.page
    live.shows('screen-summary', '340 x 191')  # the server's width; the browser's screen has square pixels
    page.select_option('#size-kind', 'diagonal')
    assert float(page.input_value('#size')) == pytest.approx(np.hypot(340, 340 * 9 / 16) / 25.4, abs=0.01)
    page.fill('#size', '24')
    page.press('#size', 'Tab')
    live.shows('screen-summary', '531 x 299')  # 24 inches, by 16 and by 9 over the root of 337
    page.fill('#size', '')
    page.press('#size', 'Tab')
    live.shows('screen-summary', 'missing or out of range')
    page.click('#card-check')
    slider = page.locator('input[type=range]')
    slider.wait_for()
    slider.fill('320')
    outline = page.locator('.bank-card').bounding_box()
    assert outline['width'] / outline['height'] == pytest.approx(85.6 / 53.98, rel=1e-3)
    page.keyboard.press('Enter')
    live.back()
    live.shows('screen-summary', '342 x 193')  # 1280 px, of which 320 are 85.6 mm
    page.reload()
    live.connected()
    live.shows('screen-summary', '342 x 193')


@pytest.mark.parametrize(
    ('stored', 'shown'),
    [
        # What an older page left when the card was checked before the server's first word.
        ({'kind': 'width', 'width': 320, 'above': None, 'right': None, 'front': None, 'tilt': None}, '320 x 180'),
        ({'kind': 'feet', 'width': 320, 'above': '5', 'right': 'x', 'front': {}, 'tilt': [0]}, '320 x 180'),
        ({'kind': 'diagonal', 'width': '320', 'above': 5}, '340 x 191'),
        ([1, 2], '340 x 191'),
        (None, '340 x 191'),
    ],
)
def test_damaged_numbers_of_the_screen_are_made_good(live, stored, shown):
    live.page.evaluate("(stored) => localStorage.setItem('evg-screen', JSON.stringify(stored))", stored)
    live.page.reload()
    live.start_camera()
    live.shows('screen-summary', shown)
    assert live.page.input_value('#size-kind') in ('width', 'diagonal')
    live.shows('camera-facts', 'found')  # pictures are sent and answered
    live.page.click('#live')
    live.shows('stage-keys', '1 to 9')


def test_the_screen_is_not_asked_for_before_the_server_has_proposed_one(live):
    opened = threading.Event()
    live.page.route_web_socket('**/v1/stream', lambda _: opened.set())  # the socket is open and says nothing
    live.page.reload()
    live.until(opened.is_set)
    for name in ('card-check', 'size-kind'):
        assert live.page.locator(f'#{name}').is_disabled()


def test_leaving_the_dots_leaves_everything_as_it_was(live):
    live.start_camera()
    for key in ('Escape', 'q'):
        live.page.click('#accuracy')
        live.page.locator('[aria-label="Dot 1 of 15"]').wait_for()
        live.page.keyboard.press(key)
        live.back()
        assert live.text('accuracy-result') == '' and live.page.locator('.dot').count() == 0
        assert not live.page.locator('#accuracy-message').is_visible()


class Slow:
    """Keeps the server's answers to `configure` from the page until they are released."""

    def __init__(self, page):
        self.held, self.holding, self.socket = [], True, None
        page.route_web_socket('**/v1/stream', self.connect)

    def connect(self, socket):
        self.socket = socket
        socket.connect_to_server().on_message(self.answer)

    def answer(self, message):
        if self.holding and json.loads(message).get('configured'):
            self.held.append(message)
        else:
            self.socket.send(message)

    def release(self):
        self.holding = False
        for message in self.held:
            self.socket.send(message)
        self.held.clear()


@pytest.fixture
def slow(live):
    slow = Slow(live.page)
    live.page.reload()
    live.start_camera()
    return slow


PAINTED = """() => {
  const { width, height } = document.getElementById('stage-canvas');
  const context = document.getElementById('stage-canvas').getContext('2d');
  return context.getImageData(0, 0, width, height).data.some((value) => value > 0);
}"""


@pytest.mark.parametrize('left', ['live', 'calibrate', 'accuracy'])
def test_what_is_left_while_the_server_is_told_does_not_go_on(live, slow, camera, left):
    page = live.page
    looks_at(camera)(0.5, 0.5)
    page.click(f'#{left}')
    live.until(lambda: slow.held)
    page.keyboard.press('q')
    live.back()
    slow.release()
    page.wait_for_timeout(300)
    assert page.locator('.dot').count() == 0
    page.focus('summary')
    page.keyboard.press(' ')  # nobody else waits for it
    assert page.locator('details').get_attribute('open') is not None
    page.click('#accuracy')
    page.locator('[aria-label="Dot 1 of 15"]').wait_for()
    page.wait_for_timeout(500)  # several results
    assert page.locator('.dot').count() == 1 and not page.evaluate(PAINTED)
    page.keyboard.press('q')
    live.back()


def test_what_was_left_does_not_end_what_came_after(live, slow):
    live.page.click('#live')
    live.until(lambda: slow.held)
    live.page.keyboard.press('q')
    live.back()
    slow.holding = False
    slow.held.clear()  # the first answer is lost
    live.page.click('#accuracy')
    live.page.locator('[aria-label="Dot 1 of 15"]').wait_for()
    assert not live.page.locator('#live-message').text_content()
    live.page.keyboard.press('q')
    live.back()


def test_a_person_who_is_not_seen_is_told(live, camera):
    live.start_camera()
    camera.show((0, 0, 0))
    live.shows('camera-facts', 'no face')
    live.page.click('#live')
    live.shows('stage-text', 'No gaze: no face')
    live.page.keyboard.press('q')
    live.back()
    live.page.click('#calibrate')
    live.page.locator('[aria-label="Dot 1 of 9"]').click()
    live.shows('stage-text', 'Your eyes were not seen (no face)')
    live.page.keyboard.press('q')


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('NotAllowedError', 'The camera was refused. Allow it for this page'),
        ('NotFoundError', 'No camera was found. Plug one in'),
        ('NotReadableError', 'Another program may be using it'),
        ('StrangeError', 'The camera cannot be used: as if'),
    ],
)
def test_what_is_wrong_with_a_camera_is_said(live, name, words):
    live.page.evaluate(
        "(name) => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('as if', name)); }",
        name,
    )
    live.page.click('#camera-start')
    live.shows('camera-message', words)
    assert live.page.locator('#camera-start').is_visible() and live.page.locator('#live').is_disabled()


SLOW_CAMERA = """
  window.given = [];
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    const stream = await ask(wanted);
    given.push(stream);
    await new Promise((resolve) => setTimeout(resolve, 300));
    return stream;
  };
"""
RUNNING = "given.map((stream) => stream.getVideoTracks()[0].readyState === 'live')"


def test_two_presses_start_one_camera_that_can_be_stopped(live):
    page = live.page
    page.context.add_init_script(SLOW_CAMERA)
    page.reload()
    live.connected()
    page.evaluate("for (let i = 0; i < 2; i++) document.getElementById('camera-start').click()")
    assert page.locator('#camera-start').is_disabled()
    page.locator('#camera-stop').wait_for()
    assert page.evaluate(RUNNING) == [True]
    assert page.locator('#camera-message').is_hidden()
    page.click('#camera-stop')
    assert page.evaluate(RUNNING) == [False]
    assert page.locator('#camera-start').is_enabled()


def test_a_camera_whose_start_was_overtaken_is_let_go(live):
    page = live.page
    page.context.add_init_script(SLOW_CAMERA)
    page.reload()
    overtaken = """async (step) => {
      given.length = 0;
      const { Camera } = await import('/static/camera.js');
      const camera = new Camera([document.createElement('video')], () => {});
      const first = camera.start();
      if (step === 'later') await new Promise((resolve) => setTimeout(resolve, 200)); // the first stream is on its way
      const second = step === 'stop' ? camera.stop() : camera.start();
      return [await first, await second];
    }"""
    assert page.evaluate(overtaken, 'at once') == [False, True]
    assert page.evaluate(RUNNING) == [False, True]
    assert page.evaluate(overtaken, 'later') == [False, True]
    assert page.evaluate(RUNNING) == [False, True]
    assert page.evaluate(overtaken, 'stop') == [False, None]
    assert page.evaluate(RUNNING) == [False]


def test_a_page_without_https_is_told_why_there_is_no_camera(live):
    live.page.evaluate("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")
    live.page.click('#camera-start')
    live.shows('camera-message', 'only to pages at localhost or with https')


def test_a_camera_that_goes_away_ends_what_ran(live):
    live.start_camera()
    live.page.click('#live')
    live.shows('stage-keys', '1 to 9')
    live.page.evaluate(
        "document.getElementById('source').srcObject.getVideoTracks()[0].dispatchEvent(new Event('ended'))"
    )
    live.back()
    live.shows('camera-message', 'The camera is gone')


def test_a_server_that_comes_back_gets_the_calibration_again(browser, camera):
    with serving() as (host, _):
        live = Live(browser, camera, host)
        live.start_camera()
        live.page.select_option('#points', '4')
        live.page.click('#calibrate')
        live.follow(4, looks_at(camera))
        live.shows('calibrate-result', 'Affine, from 4 points')
    live.shows('connection', 'The server is away; trying again')
    assert live.page.locator('#live').is_disabled()
    with serving(port=int(host.partition(':')[2])):
        live.connected()
        live.complaints.clear()  # Chromium writes a line for each connection that was refused
        with live:
            live.page.select_option('#filter', 'none')
            live.page.click('#live')
            live.shows('stage-keys', '1 to 9')
            looks_at(camera)(0.5, 0.5)
            live.arrived()
            live.page.keyboard.press('5')
            live.shows('stage-text', 'mean of the last second')
            assert np.abs(seen(live)).max() < 2 * COLOUR_PX


def test_the_token_opens_the_page_and_its_loss_is_said(browser, camera):
    password = {'username': 'anybody', 'password': TOKEN}
    with serving(Settings(token=TOKEN)) as (host, _):
        live = Live(browser, camera, host, http_credentials=password)
        live.connected()
    live.shows('connection', 'The server is away')
    # Another server at the same address, which this browser has no token for.
    live.context.clear_cookies()
    live.page.route('**/v1/info', lambda route: route.fulfill(status=401, body='{"detail": "no"}'))
    with serving(Settings(token=TOKEN + 'x'), port=int(host.partition(':')[2])):
        live.shows('connection', 'reload the page and enter the token')
    live.context.close()


def test_every_control_has_a_name(live):
    live.page.click('summary')
    controls = live.page.locator('button:visible, select:visible, input:visible, video:visible').all()
    assert len(controls) > 15
    for control in controls:
        name = control.evaluate(
            "(e) => e.getAttribute('aria-label') || e.labels?.[0]?.innerText || (e.tagName === 'BUTTON' && e.innerText)"
        )
        hidden = control.get_attribute('aria-hidden') == 'true'
        assert hidden or name.strip(), control.evaluate('(e) => e.outerHTML')
