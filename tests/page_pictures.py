"""The pictures of docs/live.md, light and dark: python tests/page_pictures.py [docs/images]."""

import functools
import io
import sys
import tempfile
from pathlib import Path

from page_browser import Live, chromium
from page_person import FakeCamera
from PIL import Image
from serve_fakes import serving
from test_page_gaze import MODELS, declare, looks_at

from evg.inference import Screen
from evg.serve.worker import load_predictor

SCALE = 0.75


def shoot(live: Live, scheme: str, out: Path) -> None:
    """Walk through the page as docs/live.md does."""
    page, look = live.page, looks_at(live)

    def picture(name: str, place: str | None = None) -> None:
        shot = page.locator(place).screenshot() if place else page.screenshot()
        image = Image.open(io.BytesIO(shot)).convert('RGB')
        image = image.resize((round(image.width * SCALE), round(image.height * SCALE)), Image.Resampling.LANCZOS)
        path = out / f'live_{name}{"" if scheme == "light" else "_dark"}.png'
        image.save(path, optimize=True)
        print(path, path.stat().st_size)

    def dots(n: int, shot: str | None = None) -> None:
        seen = []

        def look_and_shoot(x: float, y: float) -> None:
            look(x, y)
            if shot and not seen:
                picture(shot)
            seen.append((x, y))

        live.follow(n, look_and_shoot)
        live.back()

    live.start_camera()
    look(0.5, 0.5)
    live.arrived()
    live.shows('camera-facts', 'found')
    page.wait_for_timeout(1500)
    picture('start')
    page.click('#card-check')
    page.locator('.bank-card').wait_for()
    picture('card')
    page.keyboard.press('Escape')
    live.back()
    declare(live)
    page.click('#calibrate')
    dots(9, 'dot')
    live.shows('calibrate-result', 'Ridge')
    picture('calibrated', '#calibrate-card')
    page.click('#live')
    look(0.35, 0.6)
    live.arrived()
    page.wait_for_timeout(1500)
    look(1720 / 1920, 100 / 1080)
    live.arrived()
    page.wait_for_timeout(500)
    page.keyboard.press('9')
    page.wait_for_timeout(350)
    picture('point')
    page.keyboard.press('q')
    live.back()
    page.click('#accuracy')
    dots(15)
    page.locator('#report-html').wait_for()
    picture('accuracy', '#accuracy-card')


def main() -> None:
    """Both colour schemes, one person."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / 'docs' / 'images')
    with tempfile.TemporaryDirectory() as folder:
        camera = FakeCamera(Path(folder) / 'camera.y4m', person=1)
        model = functools.partial(
            load_predictor, 'landmark', Screen.from_diagonal(), camera.camera, str(MODELS / 'face_landmarker.task')
        )
        with serving(factory=model) as (host, _), chromium(camera) as browser:
            for scheme in ('light', 'dark'):
                with Live(browser, camera, host, color_scheme=scheme) as live:
                    shoot(live, scheme, out)


if __name__ == '__main__':
    main()
