"""A person of the synthetic world in front of Chromium's fake camera, who looks where a test says.

Chromium reads its fake camera's file picture by picture, again and again from the start. The file is short, and its
pictures are overwritten while the browser runs. A code in their corner tells when the page has got the new ones.
"""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from serve_fakes import FakePredictor

from evg.inference import Camera, GazeResult, Screen
from evg.synthetic import SyntheticWorld
from evg.synthetic.persons import make_person
from evg.synthetic.renderer import sample_look
from evg.synthetic.scene import SETUPS, face_towards, sample_state

SIZE, FPS, PICTURES = (640, 480), 15, 5
_HEADER = f'YUV4MPEG2 W{SIZE[0]} H{SIZE[1]} F{FPS}:1 Ip A1:1 C420jpeg\n'.encode()
_BITS, _BLOCK, _DARK, _BRIGHT = 8, 8, 60, 180
# The code of the picture that the page has, or null.
READ_CODE = f"""() => {{
  const video = document.getElementById('source');
  if (!video.videoWidth) return null;
  const canvas = document.createElement('canvas');
  canvas.width = {_BITS * _BLOCK};
  canvas.height = {_BLOCK};
  const context = canvas.getContext('2d', {{ willReadFrequently: true }});
  context.drawImage(video, canvas.width - video.videoWidth, canvas.height - video.videoHeight);
  let code = 0;
  for (let bit = 0; bit < {_BITS}; bit++) {{
    const [grey] = context.getImageData(bit * {_BLOCK} + {_BLOCK // 2}, {_BLOCK // 2}, 1, 1).data;
    code += grey > {(_DARK + _BRIGHT) // 2} ? 2 ** bit : 0;
  }}
  return code;
}}"""


class ColourPredictor(FakePredictor):
    """The fake of the server's tests; what is nearly black is no face, whatever the code."""

    def predict(self, frame: np.ndarray, *args) -> list[GazeResult]:
        """One face or none."""
        return super().predict(frame if frame[0, 0].max() > 10 else np.zeros_like(frame), *args)


class FakeCamera:
    """The file, and the person in its pictures.

    The head is held nearly still: it moves by 1 mm and half a degree from picture to picture, and follows the point
    that is looked at by a fifth of the way.

    Args:
        path: of the file, .y4m.
        person: number in the world of seed 0.
    """

    def __init__(self, path: Path, person: int):
        self.path, self.code = path, 0
        self.world = SyntheticWorld('close', SIZE, seed=0)
        self.rig = self.world.rig
        self.rng = np.random.default_rng(person)
        self.subject, self.look = make_person(0, person), sample_look(self.rng)
        self.seat = sample_state(self.rig, SETUPS['close'], self.subject, self.rng)
        path.write_bytes(_HEADER)
        self.nobody()

    @property
    def camera(self) -> Camera:
        """The camera, known."""
        return Camera(self.rig.camera_matrix, SIZE)

    def screen(self, size_px: tuple[int, int]) -> Screen:
        """The screen as a person can measure it: without the half degree by which it is turned and rolled."""
        pose = self.rig.screen_to_camera
        lens = -pose[:3, :3].T @ pose[:3, 3]
        tilt = np.degrees(np.arctan2(-pose[1, 2], pose[1, 1]))
        return Screen(size_px, self.rig.screen_size_mm, tuple(np.round(lens, 1)), round(float(tilt), 1))

    def look_at(self, share: tuple[float, float]) -> None:
        """Look at a point of the screen, a share of its width and height."""
        target = np.multiply(share, self.rig.screen_size_px)
        towards = face_towards(self.rig, self.seat.head_mm, target, 0.2, self.subject.posture[1][:2], np.zeros(2))
        pictures = []
        for _ in range(PICTURES):
            state = replace(
                self.seat,
                target_px=target,
                head_mm=self.seat.head_mm + self.rng.normal(0, 1, 3),
                head_pitchyaw_rad=towards + np.radians(self.rng.normal(0, 0.5, 2)),
                openness=1.0,
            )
            pictures.append(self.world._shoot(self.subject, 0, state, self.look, self.rng).image)
        self._write(pictures)

    def nobody(self) -> None:
        """Leave the room."""
        self.show((90, 90, 90))

    def show(self, colour: tuple[float, float, float]) -> None:
        """Pictures of one colour, BGR."""
        self._write([np.full((SIZE[1], SIZE[0], 3), np.round(colour), np.uint8)] * PICTURES)

    def _write(self, pictures: list[np.ndarray]) -> None:
        self.code = self.code % (2**_BITS - 1) + 1
        coded = b''
        for picture in pictures:
            planes = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420)
            bits = np.array([self.code >> bit & 1 for bit in range(_BITS)])
            width, height = SIZE
            planes[height - _BLOCK : height, -_BITS * _BLOCK :] = np.where(np.repeat(bits, _BLOCK), _BRIGHT, _DARK)
            for colour in planes[height:].reshape(2, height // 2, width // 2):
                colour[-_BLOCK // 2 :, -_BITS * _BLOCK // 2 :] = 128
            coded += b'FRAME\n' + planes.tobytes()
        with self.path.open('r+b') as file:
            file.seek(len(_HEADER))
            file.write(coded)
