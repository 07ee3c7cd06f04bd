"""Pictures of samples, predictions and errors: arrays in, BGR uint8 arrays out, no state and no window.

Convention of this module (all functions):
    Pictures are (H, W, 3) uint8 BGR and are never changed in place. Ground truth is red, a prediction yellow. Virtual
    plane and screen are drawn as the user sees them: the user's right is right.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from evg.errors import UserError
from evg.geometry import (
    InputFrame,
    Rig,
    VirtualPlane,
    angle_between_deg,
    apply_affine,
    compose_affine,
    vector_to_pitchyaw,
)
from evg.geometry.screen import plane_point_by_pose, plane_point_by_ray
from evg.structures import GazeDataSample

Image = NDArray[np.uint8]
Color = tuple[int, int, int]

GT: Color = (58, 58, 240)
PRED: Color = (40, 214, 255)
BACK: Color = (32, 29, 27)
PANEL: Color = (46, 42, 39)
LINE: Color = (74, 68, 63)
FRAME: Color = (176, 164, 148)
TEXT: Color = (232, 229, 225)
MUTED: Color = (166, 160, 154)
FACE: Color = (140, 208, 120)

TILE_SIZE = (480, 270)  # (width, height) of each picture on a sheet
_BAR = 26
_TEXT_SCALE = 0.42
_SHIFT = 4  # fractional bits of cv2's coordinates


def draw_point(image: Image, point: ArrayLike, color: Color, radius: float = 5) -> Image:
    """A dot with a dark rim at a point (2,) of the picture, px; nothing where it is not finite or far outside."""
    image = image.copy()
    if _near(image, point):
        for r, c in ((radius + 1.5, BACK), (radius, color)):
            cv2.circle(image, _fixed(point), round(r * 2**_SHIFT), c, -1, cv2.LINE_AA, _SHIFT)
    return image


def draw_pair(image: Image, truth: ArrayLike | None, prediction: ArrayLike | None) -> Image:
    """Ground truth and prediction, points (2,) of the picture or None, with a line between."""
    image = image.copy()
    if truth is not None and prediction is not None and _near(image, truth) and _near(image, prediction):
        cv2.line(image, _fixed(truth), _fixed(prediction), TEXT, 1, cv2.LINE_AA, _SHIFT)
    for point, color in ((truth, GT), (prediction, PRED)):
        if point is not None:
            image = draw_point(image, point, color)
    return image


def draw_face(image: Image, box: ArrayLike | None, landmarks: ArrayLike | None = None) -> Image:
    """Face box (4,) x1 y1 x2 y2 and landmarks (N, 2), px of the picture."""
    image = image.copy()
    if box is not None and np.isfinite(box).all():
        corners = np.reshape(box, (2, 2))
        cv2.rectangle(image, _fixed(corners[0]), _fixed(corners[1]), FACE, 1, cv2.LINE_AA, _SHIFT)
    for point in [] if landmarks is None else np.reshape(landmarks, (-1, 2)):
        if _near(image, point):
            cv2.circle(image, _fixed(point), round(1.5 * 2**_SHIFT), FACE, -1, cv2.LINE_AA, _SHIFT)
    return image


def draw_arrow(image: Image, start: ArrayLike, end: ArrayLike, color: Color) -> Image:
    """An arrow between points (2,) of the picture, px."""
    image = image.copy()
    if _near(image, start) and _near(image, end):
        length = max(float(np.hypot(*np.subtract(end, start))), 1.0)
        for width, c in ((4, BACK), (2, color)):
            cv2.arrowedLine(image, _fixed(start), _fixed(end), c, width, cv2.LINE_AA, _SHIFT, min(0.25, 9 / length))
    return image


def draw_direction(image: Image, gaze: ArrayLike, color: Color) -> Image:
    """Arrow from the middle of a patch along a gaze (3,) in the patch's own frame, as its camera sees it from afar.

    Its length is half the shorter side for a gaze at right angles to the line of sight.
    """
    size = np.array(image.shape[1::-1])
    middle = (size - 1) / 2
    return draw_arrow(image, middle, middle + np.asarray(gaze, np.float64)[:2] * size.min() / 2, color)


def draw_landmarks(image: Image, points: ArrayLike, color: Color) -> Image:
    """Small dots at points (N, 2) of the picture, px."""
    for point in np.reshape(points, (-1, 2)):
        image = draw_point(image, point, color, 2)
    return image


def overlay_heatmap(image: Image, heatmap: ArrayLike, matrix: ArrayLike | None = None) -> Image:
    """A heatmap in colours over a picture; where it is 0 the picture stays.

    Args:
        image: the picture.
        heatmap: (h, w) or (1, h, w), values 0..1.
        matrix: (2, 3) heatmap px to picture px, pixel centres at integers; by default the map covers the picture.
    """
    values = np.asarray(heatmap, np.float32)
    heat = np.clip(np.nan_to_num(values[0] if values.ndim == 3 else values), 0, 1)
    size = (image.shape[1], image.shape[0])
    if matrix is None:
        matrix = InputFrame(size, pad=0).matrix(heat.shape[::-1])
    warped = cv2.warpAffine(heat, np.asarray(matrix, np.float64), size, flags=cv2.INTER_LINEAR)
    colors = cv2.applyColorMap(np.rint(warped * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    alpha = 0.9 * np.sqrt(warped)[..., None]
    return np.rint(image * (1 - alpha) + colors * alpha).astype(np.uint8)


def draw_gaze(image: Image, sample: GazeDataSample, end_mm: ArrayLike, color: Color) -> Image:
    """Arrow from the face origin towards a point (3,) of the camera frame, projected into the network's input.

    Its length is 0.3 of the distance camera to face. Draws nothing without camera matrix or origin.
    """
    rig, origin = sample.rig, sample.gt_origin_mm
    if rig is None or rig.camera_matrix is None or origin is None:
        return image
    direction = np.subtract(end_mm, origin)
    tip = origin + direction / np.linalg.norm(direction) * 0.3 * np.linalg.norm(origin)
    points = np.stack([origin, tip])
    if sample.flipped:  # the camera matrix is that of the stored picture
        points = points * (-1, 1, 1)
    if points[:, 2].min() <= 0:
        return image
    picture_px = (points @ rig.camera_matrix.T)[:, :2] / points[:, 2:]
    if sample.flipped:
        picture_px = (rig.image_size[0] - 1, 0) + picture_px * (-1, 1)
    start, end = _to_input(picture_px, sample)
    return draw_arrow(image, start, end, color)


def draw_input(image: Image, sample: GazeDataSample, landmarks_px: ArrayLike | None = None) -> Image:
    """The network's input with face box, landmarks (N, 2 px of the picture) and gaze."""
    box = None if sample.gt_face_box_px is None else _to_input(np.reshape(sample.gt_face_box_px, (2, 2)), sample)
    image = draw_face(image, box, None if landmarks_px is None else _to_input(landmarks_px, sample))
    if _is_patch(sample):
        for gaze, color in ((sample.gt_gaze, GT), (sample.pred_gaze, PRED)):
            if gaze is not None and sample.gaze_frame != 'head':  # nobody knows how the head is turned
                image = draw_direction(image, gaze, color)
    else:
        if sample.gt_target_mm is not None:
            image = draw_gaze(image, sample, sample.gt_target_mm, GT)
        direction = _predicted(sample)[1] if sample.pred_gaze is None else sample.pred_gaze
        if direction is not None and sample.gt_origin_mm is not None:
            image = draw_gaze(image, sample, sample.gt_origin_mm + direction, PRED)
    for points_px, color in ((sample.gt_landmarks_px, GT), (sample.pred_landmarks_px, PRED)):
        if points_px is not None:
            image = draw_landmarks(image, _to_input(points_px, sample), color)
    if sample.pred_face_center_px is not None:
        image = draw_point(image, _to_input(sample.pred_face_center_px, sample), PRED, 3)
    return image


def draw_plane(
    plane: VirtualPlane,
    sample: GazeDataSample,
    size: tuple[int, int] = TILE_SIZE,
    heatmap: ArrayLike | None = None,
    cells_per_px: float | None = None,
) -> Image:
    """The virtual plane in mm: grid, camera, screen outline, heatmap, ground truth and prediction.

    Args:
        plane: the virtual plane; the view shows all of it and fills `size` with what lies around.
        sample: labels, prediction and rig.
        size: (width, height) of the view, px.
        heatmap: (h, w) values 0..1 on the codec's grid, whose centre is that of the plane.
        cells_per_px: the codec's cells per VP px; by default the grid is as wide as the plane.
    """
    view = np.full((size[1], size[0], 3), PANEL, np.uint8)
    scale = min(size[0] / plane.size_mm[0], size[1] / plane.size_mm[1])

    def place(points_mm: ArrayLike) -> NDArray[np.float64]:
        return np.asarray(points_mm, np.float64) * scale + np.subtract(size, 1) / 2

    step = 100 if max(plane.size_mm) < 2500 else 500
    for axis in (0, 1):
        reach = int(size[axis] / scale / 2 // step)
        for position in np.arange(-reach, reach + 1) * step:
            at = round(float(place((position, position))[axis]))
            view[(slice(None), at) if axis == 0 else (at,)] = LINE
    if heatmap is not None:
        heat = np.asarray(heatmap)[0] if np.ndim(heatmap) == 3 else np.asarray(heatmap)
        per_px = heat.shape[1] / plane.size_px[0] if cells_per_px is None else cells_per_px
        factor = scale / (per_px * plane.ppm)
        # Cell j covers [j, j + 1), so its centre is j + 0.5.
        center = place((0, 0)) - factor * (np.asarray(heat.shape[::-1]) / 2 - 0.5)
        view = overlay_heatmap(view, heat, np.column_stack([np.eye(2) * factor, center]))
    low, high = place(-np.divide(plane.size_mm, 2)), place(np.divide(plane.size_mm, 2))
    cv2.rectangle(view, _fixed(low + 0.5), _fixed(high - 0.5), MUTED, 1, cv2.LINE_AA, _SHIFT)
    outline = screen_outline_mm(sample)
    if outline is not None and np.isfinite(outline).all():
        corners = np.rint(place(outline) * 2**_SHIFT).astype(np.int32)
        cv2.polylines(view, [corners], True, FRAME, 2, cv2.LINE_AA, _SHIFT)
    cv2.drawMarker(view, tuple(np.rint(place((0, 0))).astype(int).tolist()), TEXT, cv2.MARKER_CROSS, 11, 1, cv2.LINE_AA)
    _text(view, f'grid {step} mm', (8, size[1] - 8), MUTED)
    truth, prediction = sample.gt_plane_mm, sample.pred_plane_mm
    return draw_pair(view, None if truth is None else place(truth), None if prediction is None else place(prediction))


def draw_screen(
    rig: Rig, truth_px: ArrayLike | None, prediction_px: ArrayLike | None, size: tuple[int, int] = TILE_SIZE
) -> Image:
    """The screen with both points (2,), screen px; a margin of a tenth shows points just outside."""
    view = np.full((size[1], size[0], 3), PANEL, np.uint8)
    scale = 0.8 * min(np.divide(size, rig.screen_size_px))

    def place(points_px: ArrayLike) -> NDArray[np.float64]:
        return np.subtract(points_px, np.divide(rig.screen_size_px, 2)) * scale + np.subtract(size, 1) / 2

    corners = np.rint(place([[0, 0], rig.screen_size_px])).astype(int)
    cv2.rectangle(view, corners[0].tolist(), corners[1].tolist(), BACK, -1)
    cv2.rectangle(view, corners[0].tolist(), corners[1].tolist(), FRAME, 2)
    _text(view, '{:g} x {:g} px'.format(*rig.screen_size_px), (8, size[1] - 8), MUTED)
    truth = None if truth_px is None else place(truth_px)
    return draw_pair(view, truth, None if prediction_px is None else place(prediction_px))


def screen_outline_mm(sample: GazeDataSample) -> NDArray[np.float64] | None:
    """The screen's corners (4, 2) on the plane, plane frame mm, by the sample's rule; None where not known."""
    rig = sample.rig
    if rig is None:
        return None
    width, height = rig.screen_size_px
    corners_px = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    mirror = np.array([-1.0 if sample.flipped else 1.0, 1.0])
    if sample.plane_rule == 'offset':
        return None if rig.screen_center_plane_mm is None else mirror * rig.offset_screen_px_to_plane(corners_px)
    if rig.screen_to_camera is None:
        return None
    corners_mm = rig.screen_px_to_camera(corners_px)
    if sample.gt_origin_mm is None:
        return mirror * plane_point_by_pose(corners_mm)
    origin = sample.gt_origin_mm * np.append(mirror, 1)
    return mirror * plane_point_by_ray(origin, corners_mm)


def sample_sheet(
    image: Image,
    sample: GazeDataSample,
    plane: VirtualPlane | None,
    heatmap: ArrayLike | None = None,
    cells_per_px: float | None = None,
    face_heatmap: ArrayLike | None = None,
    landmarks_px: ArrayLike | None = None,
    landmark_heatmap: ArrayLike | None = None,
) -> Image:
    """All that is known of one sample on one sheet, tiles of `TILE_SIZE` with a title bar, three in a row.

    Args:
        image: the network's input.
        sample: labels, prediction, rig and affine.
        plane: the virtual plane; None for a model that answers with a direction or landmarks only.
        heatmap: gaze heatmap (h, w) or (1, h, w), values 0..1, see `draw_plane`.
        cells_per_px: see `draw_plane`.
        face_heatmap: face heatmap over the input, (h, w) or (1, h, w), values 0..1.
        landmarks_px: (N, 2) px of the picture.
        landmark_heatmap: heatmaps of all landmarks over the input, (h, w) or (1, h, w), values 0..1.
    """
    # Scaled before anything is drawn: lines keep their width on the smallest input.
    scale = min(np.divide(TILE_SIZE, image.shape[1::-1]))
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    picture = np.asarray(cv2.resize(image, size, interpolation=way), np.uint8)
    matrix = InputFrame(size, pad=0).matrix(image.shape[1::-1])
    scaled = replace(sample, affine=matrix if sample.affine is None else compose_affine(matrix, sample.affine))
    tiles = [_tile(draw_input(picture, scaled, landmarks_px), 'input', f'{image.shape[1]} x {image.shape[0]} px')]
    if face_heatmap is not None:
        tiles.append(
            _tile(overlay_heatmap(picture, face_heatmap), 'face heatmap', f'peak {np.nanmax(face_heatmap):.2f}')
        )
    if landmark_heatmap is not None:
        view = overlay_heatmap(picture, landmark_heatmap)
        tiles.append(_tile(view, 'landmark heatmaps', f'peak {np.nanmax(landmark_heatmap):.2f}'))
    if plane is None:
        return grid([*tiles, _tile(_fact_panel(sample, None), sample.sample_id, '')], 3)
    if heatmap is not None:
        bare = replace(sample, gt_plane_mm=None, pred_plane_mm=None)  # dots would hide the peak
        view = draw_plane(plane, bare, TILE_SIZE, heatmap, cells_per_px)
        tiles.append(_tile(view, 'gaze heatmap', f'peak {np.nanmax(heatmap):.2f}'))
    error = _error(sample.gt_plane_mm, sample.pred_plane_mm, 'mm')
    tiles.append(_tile(draw_plane(plane, sample), 'virtual plane', error))
    if sample.rig is not None:
        screen_px, _ = _predicted(sample)
        view = draw_screen(sample.rig, sample.gt_screen_px, screen_px)
        tiles.append(_tile(view, 'screen', _error(sample.gt_screen_px, screen_px, 'px')))
    tiles.append(_tile(_fact_panel(sample, plane), sample.sample_id, ''))
    return grid(tiles, 3)


def grid(images: Sequence[Image], columns: int) -> Image:
    """Pictures of one size side by side, `columns` in a row, with gaps; free places stay empty."""
    if not images:
        raise ValueError('a grid needs at least one picture')
    height, width = images[0].shape[:2]
    columns = min(columns, len(images))
    rows, gap = -(-len(images) // columns), 8
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), BACK, np.uint8)
    for number, image in enumerate(images):
        if image.shape[:2] != (height, width):
            raise ValueError(f'a grid needs one size: picture {number} has {image.shape[1::-1]}, not {(width, height)}')
        y, x = gap + number // columns * (height + gap), gap + number % columns * (width + gap)
        sheet[y : y + height, x : x + width] = image
    return sheet


def save_image(path: str | os.PathLike, image: Image) -> None:
    """Write a picture, its format by the name's end; the folder is made.

    Raises:
        UserError: the folder or file cannot be written, or OpenCV does not know the format.
    """
    path = Path(path)
    reason = 'no right to write there'
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if cv2.imwrite(str(path), image):
            return
    except OSError as error:
        reason = str(error.strerror)
    except cv2.error:
        reason = 'not a format that OpenCV writes; use .png or .jpg'
    raise UserError(f'cannot write the picture {path}: {reason}')


def _fixed(point: ArrayLike) -> tuple[int, int]:
    """A point in cv2's fixed-point coordinates."""
    x, y = np.rint(np.asarray(point, np.float64) * 2**_SHIFT).astype(int)
    return int(x), int(y)


def _near(image: Image, point: ArrayLike) -> bool:
    """Whether a point is finite and within a picture's size around the picture, where cv2's integers hold it."""
    point, size = np.asarray(point, np.float64), np.array(image.shape[1::-1])
    return bool(np.isfinite(point).all() and (point > -size).all() and (point < 2 * size).all())


def _text(image: Image, text: str, at: tuple[int, int], color: Color) -> None:
    """Text with its baseline's left end at a point; changes the picture."""
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, _TEXT_SCALE, color, 1, cv2.LINE_AA)


def _tile(view: Image, title: str, note: str) -> Image:
    """A picture of at most `TILE_SIZE` under a bar with its title and a note."""
    width, height = TILE_SIZE
    tile = np.full((height + _BAR, width, 3), BACK, np.uint8)
    y, x = _BAR + (height - view.shape[0]) // 2, (width - view.shape[1]) // 2
    tile[y : y + view.shape[0], x : x + view.shape[1]] = view

    def length(text: str) -> int:
        return cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, _TEXT_SCALE, 1)[0][0]

    while len(title) > 4 and length(title) > width - 24 - length(note):
        title = '...' + title[4:]
    _text(tile, title, (6, 17), TEXT)
    _text(tile, note, (width - 6 - length(note), 17), TEXT)
    return tile


def _error(truth: ArrayLike | None, prediction: ArrayLike | None, unit: str) -> str:
    if truth is None or prediction is None or not np.isfinite(prediction).all():
        return ''
    return f'error {np.linalg.norm(np.subtract(prediction, truth)):.1f} {unit}'


def _to_input(points_px: ArrayLike, sample: GazeDataSample) -> NDArray[np.float64]:
    """Points of the picture to the network's input."""
    points = np.asarray(points_px, np.float64)
    return points if sample.affine is None else apply_affine(sample.affine, points)


def _is_patch(sample: GazeDataSample) -> bool:
    """Whether the picture was taken, or made, for a camera that is not the rig's."""
    return sample.rig is None or sample.gaze_frame not in ('', 'camera')


def _predicted(sample: GazeDataSample) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Screen px (2,) and direction (3,) of the prediction, each None where it is not known."""
    from evg.evaluation import functional  # noqa: PLC0415 (its package needs torch, the parts above do not)

    if sample.pred_plane_mm is None or sample.rig is None or sample.flipped:
        return None, None
    origin = np.full(3, np.nan) if sample.gt_origin_mm is None else sample.gt_origin_mm
    row = ([sample.pred_plane_mm], [origin], [sample.plane_rule], [0], [sample.rig])
    screen_px, direction = functional.plane_to_screen_px(*row)[0], functional.plane_to_direction(*row)[0]
    return screen_px if np.isfinite(screen_px).all() else None, direction if np.isfinite(direction).all() else None


def _angles_deg(gaze: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """(pitch, yaw) in degrees of a gaze vector."""
    return None if gaze is None else np.degrees(vector_to_pitchyaw(gaze))


def _fact_panel(sample: GazeDataSample, plane: VirtualPlane | None) -> Image:
    """The sample's numbers with their units."""
    screen_px, direction = _predicted(sample)
    panel = np.full((TILE_SIZE[1], TILE_SIZE[0], 3), PANEL, np.uint8)
    _text(panel, 'ground truth', (178, 24), TEXT)
    _text(panel, 'prediction', (328, 24), TEXT)
    for x, color in ((168, GT), (318, PRED)):
        cv2.circle(panel, (x, 20), 5, color, -1, cv2.LINE_AA)
    rows: list[tuple[str, NDArray | None, NDArray | None]]
    if plane is None:
        rows = [('pitch, yaw, deg', _angles_deg(sample.gt_gaze), _angles_deg(sample.pred_gaze))]
    else:
        rows = [
            ('plane, mm', sample.gt_plane_mm, sample.pred_plane_mm),
            (f'VP px at {plane.ppm:g} per mm', sample.gt_vp_px, sample.pred_vp_px),
            ('screen, px', sample.gt_screen_px, screen_px),
        ]
    y = 50
    for name, left, right in rows:
        _text(panel, name, (12, y), MUTED)
        for x, point in ((168, left), (318, right)):
            values = [] if point is None or not np.isfinite(point).all() else point.tolist()
            _text(panel, ', '.join(f'{value:.1f}' for value in values) or '-', (x, y), TEXT)
        y += 24
    origin, target = sample.gt_origin_mm, sample.gt_target_mm
    facts = {}
    if plane is None and sample.gt_gaze is not None and sample.pred_gaze is not None:
        facts['angular error'] = f'{angle_between_deg(sample.pred_gaze, sample.gt_gaze):.2f} deg'
    if sample.gt_landmarks_px is not None and sample.pred_landmarks_px is not None:
        distance_px = np.linalg.norm(sample.pred_landmarks_px - sample.gt_landmarks_px, axis=-1).mean()
        facts['landmark error'] = f'{distance_px:.2f} px of the patch'
    if origin is not None and target is not None and direction is not None:
        facts['angular error'] = f'{angle_between_deg(direction, target - origin):.2f} deg'
    if origin is not None:
        facts['camera to face'] = f'{np.linalg.norm(origin):.0f} mm'
    if sample.pred_score is not None:
        facts['score'] = f'{sample.pred_score:.3f}'
    facts['subject'] = ', '.join(part for part in (sample.subject, sample.sequence, sample.device) if part)
    name, kind = ('frame', sample.gaze_frame) if plane is None else ('placement rule', sample.plane_rule)
    facts[name] = kind + (', mirrored' if sample.flipped else '')
    for name, value in facts.items():
        _text(panel, name, (12, y), MUTED)
        _text(panel, value, (168, y), TEXT)
        y += 24
    return panel
