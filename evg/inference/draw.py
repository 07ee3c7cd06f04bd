"""Results on pictures: gaze arrow, landmarks, normalised face, screen; arrays in, pictures out, no window.

Convention of this module: pictures are (H, W, 3) uint8 BGR and never changed in place. Predictions are yellow, ground
truth is red, as in `evg.visualization`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from evg.geometry import Normaliser
from evg.geometry.warp import warp_patch
from evg.inference.camera import Camera
from evg.inference.result import GazeResult
from evg.inference.screen import Screen
from evg.inference.sources import Shot
from evg.visualization import BACK, GT, MUTED, PRED, TEXT, draw_arrow, draw_face, draw_point, draw_screen

Image = NDArray[np.uint8]

NORMALISED = Normaliser(960, 600, (224, 224))  # ETH-XGaze's, for models that have none of their own
_FRAME_SIZE, _SIDE = (640, 480), 320
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass
class Overlay:
    """What is drawn; the keys of abnormalstudent/GazeEstimation switch it.

    Attributes:
        input_gaze: the arrow on the frame (key i).
        normalised_gaze: the arrow on the normalised face (key n).
        landmarks: box and landmarks (key v).
        fps: frames per second (key f).
    """

    input_gaze: bool = True
    normalised_gaze: bool = True
    landmarks: bool = False
    fps: bool = True

    def press(self, key: str) -> bool:
        """Switch what belongs to a key; True for q, which ends."""
        names = {'i': 'input_gaze', 'n': 'normalised_gaze', 'v': 'landmarks', 'f': 'fps'}
        if key in names:
            setattr(self, names[key], not getattr(self, names[key]))
        return key == 'q'


def view(
    shot: Shot,
    results: Sequence[GazeResult],
    camera: Camera,
    screen: Screen,
    overlay: Overlay,
    fps: float | None = None,
    normaliser: Normaliser = NORMALISED,
) -> Image:
    """The frame with its results, the normalised face and the screen side by side.

    Args:
        shot: the frame, without distortion, and its truth.
        results: of its faces, the largest first.
        camera: of the frame.
        screen: that the points are on.
        overlay: what to draw.
        fps: frames per second so far.
        normaliser: of the normalised face.

    Returns:
        A picture of one size for frames of one shape: 640 wide, at least 480 high, and 320 more at the side.
    """
    left = draw_frame(shot, results, camera, screen, overlay, _FRAME_SIZE[0])
    height = left.shape[0]
    sheet = np.full((max(height, _FRAME_SIZE[1]), _FRAME_SIZE[0] + _SIDE, 3), BACK, np.uint8)
    sheet[:height, : _FRAME_SIZE[0]] = left
    first = results[0]
    patch = draw_normalised(shot.image, first, camera, normaliser, overlay)
    if patch is not None:
        room = 230
        factor = min(room / patch.shape[0], _SIDE / patch.shape[1])
        patch = np.asarray(cv2.resize(patch, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR), np.uint8)
        x = _FRAME_SIZE[0] + (_SIDE - patch.shape[1]) // 2
        sheet[: patch.shape[0], x : x + patch.shape[1]] = patch
    point = draw_screen(screen.rig((1, 1)), shot.truth_px, first.screen_px, (_SIDE, 180))
    sheet[230:410, _FRAME_SIZE[0] :] = point
    for i, (text, color) in enumerate(_lines(shot, first, fps if overlay.fps else None)):
        cv2.putText(sheet, text, (_FRAME_SIZE[0] + 10, 430 + 16 * i), _FONT, 0.4, color, 1, cv2.LINE_AA)
    return sheet


def draw_frame(
    shot: Shot,
    results: Sequence[GazeResult],
    camera: Camera,
    screen: Screen,
    overlay: Overlay,
    width: int | None = None,
) -> Image:
    """The frame with an arrow per face: from where the gaze starts along it, as long as the face is wide.

    Args:
        shot: the frame, without distortion, and its truth.
        results: of its faces.
        camera: of the frame.
        screen: that the points are on.
        overlay: what to draw.
        width: scale the frame to this width first, so that lines keep theirs; None leaves it.
    """
    scale = 1.0 if width is None else width / shot.image.shape[1]
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = np.asarray(cv2.resize(shot.image, None, fx=scale, fy=scale, interpolation=how), np.uint8)

    def place(points_px: ArrayLike) -> NDArray[np.float64]:
        return (np.asarray(points_px, np.float64) + 0.5) * scale - 0.5

    for result in results:
        box = None if result.face_box_px is None else place(result.face_box_px)
        if overlay.landmarks:
            image = draw_face(image, box, None if result.landmarks_px is None else place(result.landmarks_px))
        start = result.face_center_px if result.origin_mm is None else camera.project(result.origin_mm)
        if not overlay.input_gaze or start is None:
            continue
        start, length = place(start), image.shape[1] / 4 if box is None else float(box[2] - box[0])
        for gaze, color in ((shot.true_gaze(result.origin_mm, screen), GT), (result.gaze, PRED)):
            if gaze is not None:
                image = draw_arrow(image, start, start + length * gaze[:2], color)
        if result.found and result.gaze is None:
            image = draw_point(image, start, PRED, 3)
    return image


def draw_normalised(
    image: Image, result: GazeResult, camera: Camera, normaliser: Normaliser, overlay: Overlay
) -> Image | None:
    """The normalised face with the gaze, half as long as the picture is wide; None where the head's pose is unknown."""
    if result.head_rotation is None or result.origin_mm is None:
        return None
    try:
        norm = normaliser.apply(result.origin_mm, result.head_rotation, camera.matrix)
    except ValueError:  # a profile
        return None
    patch = warp_patch(image, norm.warp, normaliser.size_px)
    if overlay.landmarks and result.landmarks_px is not None:
        patch = draw_face(patch, None, norm.points_to(result.landmarks_px))
    if overlay.normalised_gaze and result.gaze is not None:
        start = norm.points_to(camera.project(result.origin_mm))
        gaze = norm.gaze_to(result.gaze)
        patch = draw_arrow(patch, start, start + normaliser.size_px[0] / 2 * gaze[:2], PRED)
    return patch


def _lines(shot: Shot, result: GazeResult, fps: float | None) -> list[tuple[str, tuple[int, int, int]]]:
    lines = []
    if not result.found:
        lines.append((result.reason, TEXT))
    if result.screen_px is not None:
        text = 'PoG {:.0f}, {:.0f} px'.format(*result.screen_px)
        if shot.truth_px is not None:
            error = float(np.linalg.norm(result.screen_px - shot.truth_px))
            text += f'   truth {shot.truth_px[0]:.0f}, {shot.truth_px[1]:.0f}   error {error:.0f} px'
        lines.append((text, PRED))
    if result.pitchyaw_rad is not None:
        lines.append(('pitch {:+.1f}   yaw {:+.1f} deg'.format(*np.degrees(result.pitchyaw_rad)), TEXT))
    if fps is not None:
        lines.append((f'FPS: {fps:.1f}', MUTED))
    return lines
