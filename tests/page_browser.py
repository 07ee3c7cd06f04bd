"""Chromium without a window, with a fake camera, for the tests of the page."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator

import pytest
from page_person import READ_CODE, FakeCamera
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

PATIENCE_S = 60.0
SIZE = (1280, 720)  # of the browser's screen, px
_NAMES = ('chromium', 'chromium-browser', 'google-chrome')


@contextlib.contextmanager
def chromium(camera: FakeCamera) -> Iterator[Browser]:
    """The browser; a machine without one fails the test."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.fail('the tests of the page need Chromium: apt-get install chromium', pytrace=False)
    options = [
        '--use-fake-device-for-media-stream',
        '--use-fake-ui-for-media-stream',
        f'--use-file-for-fake-video-capture={camera.path}',
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=options)
        yield browser
        browser.close()


class Live:
    """The page in a browser of its own memory. At its end nothing may have gone wrong unseen.

    Args:
        browser: Chromium.
        camera: its camera.
        host: of the server, 'localhost:port'.
        context: what `Browser.new_context` takes.
    """

    def __init__(self, browser: Browser, camera: FakeCamera, host: str, **context):
        self.camera, self.host = camera, host
        self.context: BrowserContext = browser.new_context(
            viewport={'width': SIZE[0], 'height': SIZE[1]}, accept_downloads=True, **context
        )
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_S * 1000)
        self.complaints: list[str] = []
        self.page.on('console', lambda m: self.complaints.append(m.text) if m.type in ('error', 'warning') else None)
        self.page.on('pageerror', lambda error: self.complaints.append(str(error)))
        self.asked: list[str] = []
        self.page.on('request', lambda request: self.asked.append(request.url))
        self.page.goto(f'http://{host}/')

    def __enter__(self) -> 'Live':
        return self

    def __exit__(self, kind, *_) -> None:
        self.context.close()
        if kind is None:
            hosts = {url.split('/')[2] for url in self.asked if not url.startswith('blob:')}
            if self.complaints or hosts != {self.host}:
                raise AssertionError(f'the page complained: {self.complaints}; it asked {hosts}, not only {self.host}')

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that must happen; the page's policy forbids to evaluate a condition in the page."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f'this did not happen in time; the page complained of {self.complaints}')
            self.page.wait_for_timeout(30)

    def text(self, name: str) -> str:
        """What an element shows; '' where it shows nothing."""
        return self.page.locator(f'#{name}').inner_text()

    def shows(self, name: str, words: str) -> None:
        """Wait until an element says something."""
        self.until(lambda: words in self.text(name))

    def connected(self) -> None:
        """Wait for the stream."""
        self.page.locator('#connection[data-state=good]').wait_for()

    def start_camera(self) -> None:
        """As a person does."""
        self.connected()
        self.page.click('#camera-start')
        self.page.locator('#camera-stop').wait_for()

    def declare(self, width: float, above: float = 8, right: float = 0, front: float = 0, tilt: float = 0) -> None:
        """Fill in the screen."""
        if not self.page.locator('#camera-above').is_visible():
            self.page.click('summary')
        values = {'size': width, 'camera-above': above, 'camera-right': right, 'camera-front': front}
        for name, value in {**values, 'camera-tilt': tilt}.items():
            self.page.fill(f'#{name}', f'{value:.1f}')
            self.page.press(f'#{name}', 'Tab')

    def arrived(self) -> None:
        """Wait until the page's camera shows what the fake camera was given last."""
        self.until(lambda: self.page.evaluate(READ_CODE) == self.camera.code)

    def follow(self, n: int, look: Callable[[float, float], None], press: str = ' ') -> list[tuple[float, float]]:
        """Look at n dots as they are shown and press a key at each, or click ('click').

        Args:
            n: how many.
            look: gets the dot's place, shares of the screen.
            press: what is pressed.

        Returns:
            The dots' places, px.
        """
        places = []
        for i in range(n):
            dot = self.page.locator(f'[aria-label="Dot {i + 1} of {n}"]')
            box = dot.bounding_box()
            places.append((box['x'] + box['width'] / 2, box['y'] + box['height'] / 2))
            look(places[-1][0] / SIZE[0], places[-1][1] / SIZE[1])
            self.arrived()
            if press == 'click':
                dot.click()
            else:
                self.page.keyboard.press(press)
            dot.wait_for(state='detached')
        return places

    def back(self) -> None:
        """Wait until the full screen is left."""
        self.page.locator('#stage').wait_for(state='hidden')
