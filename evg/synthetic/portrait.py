"""The painted face: skin, brows, lips, beard, in the frontal plane of the head (x, y), mm."""

import cv2
import numpy as np
from numpy.typing import NDArray

from evg.synthetic.paint import fixed, smooth_closed
from evg.synthetic.persons import Person

MOUTH_Y_MM, BROW_Y_MM, NOSE_TIP_Y_MM = 69.0, -21.0, 39.0

_BROW = np.array(  # outer to inner end: mm outward of the eye, height of the middle, half thickness
    [[25, 3.4, 0.7], [16, -0.4, 1.9], [5, -1.6, 2.5], [-6, -0.4, 2.9], [-15.5, 1.1, 2.6]]
)


def mouth_curves(shape: dict[str, float]) -> dict[str, NDArray[np.float64]]:
    """Frontal (x, y) mm of the lips: `upper` outline, `part`ing line, `lower` outline, each (13, 2), left to right."""
    x = np.linspace(-1, 1, 13)
    half, y0 = 23 * shape['mouth_width'], MOUTH_Y_MM + shape['mouth_y']
    corner = -1.4 * shape['smile'] * np.abs(x) ** 2.2
    dip = 1.3 * np.exp(-((x / 0.13) ** 2))
    bow = dip - (1 - np.abs(x) ** 1.6) * 7.0 * shape['lips'] - 0.6 * np.exp(-(((np.abs(x) - 0.25) / 0.15) ** 2))
    full = (1 - np.abs(x) ** 2.3) * 9.0 * shape['lips']
    part = 0.5 * np.cos(x * np.pi) * (1 - x**2)
    heights = {'upper': np.minimum(bow, 0), 'part': part, 'lower': full}
    return {name: np.column_stack([x * half, y0 + corner + y]) for name, y in heights.items()}


def brow_outline(person: Person, side: int) -> NDArray[np.float64]:
    """Frontal (x, y) mm of a brow (10, 2): five points along its top from the outer end in, five back below.

    Args:
        person: whose brow.
        side: -1 for the person's right one, 1 for the left one.
    """
    shape = person.shape
    out, middle, half = _BROW.T
    x = side * (person.ipd_mm / 2 + out)
    y = BROW_Y_MM + shape['brow_y'] + middle * shape['brow_arch']
    half = half * shape['brow_thick']
    return np.vstack([np.column_stack([x, y - half]), np.column_stack([x, y + half])[::-1]])


class _Sheet:
    """A picture of the frontal plane, linear BGR, and ways to colour it."""

    LEFT, TOP, WIDTH, HEIGHT = -90.0, -80.0, 180.0, 210.0

    def __init__(self, scale: float, colour):
        self.scale = scale  # px per mm
        self.shape = (int(self.HEIGHT * scale) + 1, int(self.WIDTH * scale) + 1)
        rows, columns = np.arange(self.shape[0], dtype=np.float32), np.arange(self.shape[1], dtype=np.float32)
        self.y = rows[:, None] / scale + self.TOP
        self.x = columns[None, :] / scale + self.LEFT
        self.side = np.abs(self.x)
        self.picture = np.empty((*self.shape, 3), np.float32)
        self.picture[:] = colour

    def spot(self, x: float, y: float, sx: float, sy: float):
        """A soft spot on both sides of the face."""
        return np.exp(-0.5 * ((self.side - x) / sx) ** 2) * np.exp(-0.5 * ((self.y - y) / sy) ** 2)

    def polygon(self, points_mm, blur_mm: float):
        """Soft mask of an outline."""
        return self._soften(cv2.fillPoly(self._blank(), [self._px(points_mm)], 255, cv2.LINE_AA, 4), blur_mm)

    def line(self, points_mm, width_mm: float, blur_mm: float):
        """Soft mask of a line."""
        width = max(1, round(width_mm * self.scale))
        return self._soften(
            cv2.polylines(self._blank(), [self._px(points_mm)], False, 255, width, cv2.LINE_AA, 4), blur_mm
        )

    def tint(self, mask, factor) -> None:
        """Multiply by the colour `factor` (3,) where the mask is 1."""
        self.picture *= 1 + mask[..., None] * (np.asarray(factor, np.float32) - 1)

    def blend(self, mask, colour) -> None:
        """Replace by `colour` (3,) where the mask is 1."""
        self.picture += mask.astype(np.float32)[..., None] * (np.asarray(colour, np.float32) - self.picture)

    def lay_on(self, points):
        """(n, n, 3) colours of surface points (n, n, 3), head frame mm."""
        u = (points[..., 0] - self.LEFT) * self.scale
        v = (points[..., 1] - self.TOP) * self.scale
        return cv2.remap(self.picture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def _blank(self):
        return np.zeros(self.shape, np.uint8)

    def _px(self, points_mm):
        return fixed((np.asarray(points_mm) - [self.LEFT, self.TOP]) * self.scale)

    def _soften(self, mask, blur_mm: float):
        blur = blur_mm * self.scale
        mask = cv2.GaussianBlur(mask, (0, 0), blur) if blur > 0.3 else mask
        return mask.astype(np.float32) * np.float32(1 / 255)


def paint_face(points, person: Person, rng: np.random.Generator):
    """Colour and shine of the face.

    Args:
        points: (n, n, 3) surface points, head frame mm.
        person: whose face.
        rng: for the texture.

    Returns:
        albedo (n, n, 3) and shine (n, n), float32.
    """
    shape = person.shape
    sheet = _Sheet(len(points) / 260, person.skin)  # about as fine as the map
    grain = cv2.GaussianBlur(rng.standard_normal(sheet.shape, dtype=np.float32), (0, 0), 0.8)
    _paint_skin(sheet, person, rng, grain)
    if person.beard > 0:
        _paint_beard(sheet, person, grain)
    _paint_nose(sheet, shape)
    _paint_lips(sheet, person)
    hairs = cv2.GaussianBlur(rng.standard_normal(sheet.shape, dtype=np.float32), (0, 0), 0.35 * sheet.scale + 0.25)
    for side in (-1, 1):
        brow = sheet.polygon(smooth_closed(brow_outline(person, side)), 0.9)
        sheet.blend((brow * (0.97 + 0.25 * hairs)).clip(0, 0.93), person.brow)

    albedo = sheet.lay_on(points)
    back = np.clip((points[..., 2] - 45) / 25, 0, 1)[..., None]
    albedo += back * (np.float32(person.skin * 0.95) - albedo)
    side, y = np.abs(points[..., 0]), points[..., 1]
    shine = 0.45 + 0.5 * np.exp(-0.5 * ((side / 12) ** 2 + ((y - 25) / 22) ** 2))
    shine += 0.3 * np.exp(-0.5 * ((side / 35) ** 2 + ((y + 45) / 14) ** 2))
    shine += 0.8 * np.exp(-0.5 * ((side / 14) ** 2 + ((y - MOUTH_Y_MM - 6 - shape['mouth_y']) / 3) ** 2))
    return albedo, shine.astype(np.float32)


def _paint_skin(sheet: _Sheet, person: Person, rng: np.random.Generator, grain) -> None:
    few = rng.standard_normal((28, 24), dtype=np.float32)
    mottle = cv2.resize(few, sheet.shape[::-1], interpolation=cv2.INTER_CUBIC)
    sheet.picture *= (1 + 0.02 * mottle + 0.02 * grain)[..., None]
    eye = person.ipd_mm / 2
    blood = [0.78, 0.80, 1.06]
    sheet.tint(0.75 * sheet.spot(40, 34, 15, 12), blood)
    sheet.tint(0.6 * sheet.spot(0, NOSE_TIP_Y_MM * person.shape['nose_length'], 12, 7), blood)
    sheet.tint(0.5 * sheet.spot(eye - 2, 4, 14, 8), [0.88, 0.84, 0.90])
    sheet.tint(0.4 * sheet.spot(eye, -9, 14, 5), [0.86, 0.84, 0.93])
    sheet.tint(0.35 * sheet.spot(eye - 4, 13, 11, 3.5), [0.86, 0.82, 0.88])
    if person.shape['freckles']:
        dots = np.zeros(sheet.shape, np.uint8)
        for x, y in rng.uniform([-55, 5], [55, 55], (320, 2)):
            at = ((x - sheet.LEFT) * sheet.scale, (y - sheet.TOP) * sheet.scale)
            cv2.circle(dots, fixed(at).tolist(), round(0.55 * sheet.scale * 16), 255, -1, cv2.LINE_AA, 4)
        area = np.clip(sheet.spot(26, 26, 20, 13) + sheet.spot(0, 28, 12, 12), 0, 1)
        sheet.tint(dots * (area * np.float32(0.45 / 255)), [0.55, 0.62, 0.78])


def _paint_nose(sheet: _Sheet, shape: dict[str, float]) -> None:
    tip, width = NOSE_TIP_Y_MM * shape['nose_length'], shape['nose_width']
    sheet.tint(0.8 * sheet.spot(6.8 * width, tip + 5.8, 3.2, 1.5), [0.12, 0.10, 0.16])
    sheet.tint(0.22 * sheet.spot(0, tip + 8.5, 12, 2.6), [0.55, 0.52, 0.6])
    sheet.tint(0.4 * sheet.spot(16.8 * width, tip + 2, 1.5, 4.6), [0.6, 0.58, 0.68])
    # The fold from the wing of the nose to the corner of the mouth.
    below = sheet.y - tip
    fold = np.exp(-0.5 * ((sheet.side - 21 - 0.42 * below) / 1.8) ** 2) * np.exp(-0.5 * ((below - 8) / 9) ** 2)
    sheet.tint(0.25 * fold, [0.6, 0.58, 0.68])


def _paint_lips(sheet: _Sheet, person: Person) -> None:
    lips = mouth_curves(person.shape)
    sheet.blend(0.85 * sheet.polygon(np.vstack([lips['upper'], lips['part'][::-1]]), 0.7), person.lip * 0.80)
    sheet.blend(0.80 * sheet.polygon(np.vstack([lips['part'], lips['lower'][::-1]]), 0.8), person.lip)
    sheet.tint(0.85 * sheet.line(lips['part'], 1.3, 0.6), person.lip**0.3 * 0.22)
    x, y = lips['part'][-1]
    sheet.tint(0.22 * sheet.spot(x + 1.5, y, 2.2, 2.2), [0.5, 0.48, 0.55])


def _paint_beard(sheet: _Sheet, person: Person, grain) -> None:
    def above(edge, soft):
        return 1 / (1 + np.exp(-np.clip(edge / soft, -30, 30)))

    side, y, mouth = sheet.side, sheet.y, MOUTH_Y_MM + person.shape['mouth_y']
    if person.shape['goatee']:
        area = above(y - 80, 2) * above(26 - side, 2.5)
    else:
        cheek = 46 + 22 * np.exp(-((side / 30) ** 2)) - 0.35 * np.maximum(side - 40, 0)
        area = above(y - cheek, 2.5)
    # Free around the mouth, closed below it.
    area = np.maximum(area * above(side - 5 - (mouth + 13 - y) * 4, 6), area * above(y - mouth - 13, 2))
    sag = 0.012 * side**2
    moustache = above(y - mouth + 15 - sag, 1.4) * above(mouth + 1 + sag - y, 1.6) * above(28 - side, 2.0)
    strength = 1.1 * person.beard if person.beard < 0.6 else 0.86
    mask = np.maximum(area, moustache) * strength * (1 + 0.25 * grain)
    sheet.blend(mask.clip(0, 0.92), person.brow * 0.9 + 0.03 * person.skin)
