"""Eyes: lid curves and pupil circles in space, and the eyeball traced ray by ray into a supersampled patch."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from evg.synthetic.paint import fixed, project
from evg.synthetic.persons import Person
from evg.synthetic.scene import EYEBALL_RADIUS_MM, IRIS_DEPTH_MM, IRIS_RADIUS_MM

_LID_RADIUS_MM = 12.7
_CURVE_POINTS = 19
# Places of the 68-style points on a lid curve that runs from the outer corner to the inner one.
_LANDMARK_AT = (0.34, 0.68)


@dataclass(frozen=True)
class Eye:
    """One eye of one frame, camera frame, mm.

    Attributes:
        centre: (3,) eyeball centre.
        rotation: (3, 3) eye axes as columns; the optical axis is minus the third.
        pupil_mm: pupil radius.
        upper, lower: (19, 3) lid margins from the outer corner to the inner one.
        crease: (19, 3) fold above the upper lid.
        side: -1 for the person's right eye, 1 for the left one.
    """

    centre: NDArray[np.float64]
    rotation: NDArray[np.float64]
    pupil_mm: float
    upper: NDArray[np.float64]
    lower: NDArray[np.float64]
    crease: NDArray[np.float64]
    side: int

    @property
    def optical_axis(self) -> NDArray[np.float64]:
        """(3,) unit vector out of the eye."""
        return -self.rotation[:, 2]

    def pupil_circle(self, n: int = 8) -> NDArray[np.float64]:
        """(n, 3) points of the pupil's rim."""
        return self._circle(self.pupil_mm, n)

    def landmarks(self) -> NDArray[np.float64]:
        """(6, 3): outer corner, two upper, inner corner, two lower, back to the outer one."""
        i, j = (round(a * (_CURVE_POINTS - 1)) for a in _LANDMARK_AT)
        return np.stack([self.upper[0], self.upper[i], self.upper[j], self.upper[-1], self.lower[j], self.lower[i]])

    def _circle(self, radius: float, n: int):
        angle = np.arange(n) * (2 * np.pi / n)
        rim = np.cos(angle)[:, None] * self.rotation[:, 0] + np.sin(angle)[:, None] * self.rotation[:, 1]
        return self.centre + IRIS_DEPTH_MM * self.optical_axis + radius * rim


def lid_curves(person: Person, side: int, pitch: float, openness: float) -> tuple[NDArray, NDArray, NDArray]:
    """Margins of the upper and lower lid and the crease, relative to the eyeball centre, in the head's axes.

    Args:
        person: gives width, tilt and opening.
        side: -1 right eye, 1 left eye.
        pitch: of the optical axis in the head, radians; the lids follow it.
        openness: 0 closed to 1 open.

    Returns:
        upper, lower, crease, each (19, 3) mm from the outer to the inner corner.
    """
    s = person.shape
    outer, inner = 14.4 * s['eye_width'], 15.4 * s['eye_width']
    t = np.linspace(0, 1, _CURVE_POINTS)
    x = outer - (outer + inner) * t  # outward positive
    base = -s['eye_tilt'] + (2 * s['eye_tilt'] + 0.9) * t
    lower_angle = -0.41 * person.opening**0.5 + 0.30 * min(pitch, 0.2)
    open_angle = 0.43 * person.opening + 0.80 * min(pitch, 0.25)
    # A closing upper lid comes down to the lower one, which rises a little.
    lower_angle = lower_angle + 0.12 * (1 - min(openness, 1))
    upper_angle = lower_angle + max(openness, 0.0) * max(open_angle - lower_angle, 0.08)
    peak = 0.5 + 0.06 + s['lid_peak']

    def arch(height, power, top):
        warped = t ** (np.log(0.5) / np.log(top))
        return height * np.sin(np.pi * warped) ** power

    def on_ball(y, radius):
        z = np.sqrt(np.maximum(radius**2 - x**2 - y**2, 1.0))
        # The corners lie in front of where the sphere would bend away.
        corner = np.where(x > 0, 4.2, 6.8)
        return np.column_stack([side * x, y, -np.logaddexp(z / 1.2, corner / 1.2) * 1.2])

    upper_y = base - arch(_LID_RADIUS_MM * np.sin(upper_angle) + base[_CURVE_POINTS // 2], 0.82, peak)
    lower_y = base - arch(_LID_RADIUS_MM * np.sin(lower_angle) + base[_CURVE_POINTS // 2], 0.9, 0.47)
    upper_y = np.minimum(upper_y, lower_y)
    crease_angle = 0.43 * person.opening + 0.2 * s['crease'] + 0.25 * min(pitch, 0.2)
    crease_y = base - 0.6 - arch(13.4 * np.sin(max(crease_angle, upper_angle + 0.10)), 0.7, peak)
    upper, lower = on_ball(upper_y, _LID_RADIUS_MM), on_ball(lower_y, _LID_RADIUS_MM)
    lower[[0, -1]] = upper[[0, -1]]
    return upper, lower, on_ball(crease_y, _LID_RADIUS_MM + 1.2)


@dataclass(frozen=True)
class EyeLight:
    """Light at the eyes, linear BGR: `ambient` (3,), `lamp` (3,), unit `towards_lamp` (3,) in the camera frame."""

    ambient: NDArray[np.float64]
    lamp: NDArray[np.float64]
    towards_lamp: NDArray[np.float64]


def draw_eye(canvas, eye: Eye, person: Person, camera_matrix, light: EyeLight, skin_shade) -> None:
    """Draw one eye into `canvas` ((H, W, 3) float32 linear BGR), in place.

    Args:
        canvas: the picture so far.
        eye: what to draw.
        person: gives colours.
        camera_matrix: (3, 3).
        light: for the eyeball.
        skin_shade: (3,) colour of the lit skin around the eye.
    """
    height, width = canvas.shape[:2]
    upper, lower, crease = (project(c, camera_matrix) for c in (eye.upper, eye.lower, eye.crease))
    per_mm = camera_matrix[0, 0] / eye.centre[2]
    around = np.vstack([upper, lower, crease])
    margin = 2.5 * per_mm + 1
    x0, y0 = np.maximum(np.floor(around.min(axis=0) - margin), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(around.max(axis=0) + margin) + 1, [width, height]).astype(int)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    ss = int(np.clip(np.ceil(2.4 / per_mm), 2, 8))
    shape = ((y1 - y0) * ss, (x1 - x0) * ss)
    unit = per_mm * ss  # supersampled px per mm

    def local(points):
        return fixed((points - [x0 - 0.5, y0 - 0.5]) * ss - 0.5)

    def line(points, width_mm, blur_mm=0.0):
        mask = np.zeros(shape, np.uint8)
        cv2.polylines(mask, [local(points)], False, 255, max(1, round(width_mm * unit)), cv2.LINE_AA, 4)
        if blur_mm > 0:
            mask = cv2.GaussianBlur(mask, (0, 0), max(blur_mm * unit, 0.5))
        return mask.astype(np.float32) * np.float32(1 / 255)

    outline = np.vstack([upper, lower[::-1]])
    lid_mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(lid_mask, [local(outline)], 255, cv2.LINE_AA, 4)
    # The upper lid shades the ball: the opening, moved down and softened, is what the light still reaches.
    drop = np.array([[1, 0, 0], [0, 1, 1.7 * unit]], np.float32)
    reach = cv2.GaussianBlur(cv2.warpAffine(lid_mask, drop, shape[::-1]), (0, 0), max(1.1 * unit, 0.6))
    ball = _trace(eye, person, camera_matrix, light, (x0, y0), ss, shape, unit)

    # Layers over the skin, each as one weight per pixel: fold and edge, wet rim, eyeball, lashes.
    thick = np.clip(person.shape['lashes'], 0, 1.5)
    fold = 1 - (1 - 0.60 * line(crease[1:-1], 0.9, 0.55)) * (1 - 0.42 * line(outline, 1.6, 0.75))
    wet = 0.55 * line(lower + np.array([0, 0.5 * per_mm]), 0.8, 0.25)
    wing = np.vstack([upper[0] + (upper[0] - upper[2]) * 0.10 * thick, upper[:-2]])
    lash = np.maximum(
        (0.60 + 0.24 * thick) * line(wing - np.array([0, 0.1 * per_mm]), 0.75 + 0.45 * thick, 0.18),
        (0.18 + 0.15 * thick) * line(lower[:-3], 0.4, 0.2),
    )
    opening = lid_mask.astype(np.float32) * np.float32(1 / 255)
    bare = 1 - opening
    keep = 1 - lash
    weights = np.dstack([fold * (1 - wet) * bare * keep, wet * bare * keep, lash, opening * keep])
    ball *= (weights[..., 3] * (np.float32(0.56) + np.float32(0.44 / 255) * reach))[..., None]
    size = (x1 - x0, y1 - y0)
    weights = cv2.resize(weights, size, interpolation=cv2.INTER_AREA)
    skin = np.asarray(skin_shade)
    colours = np.stack([skin * [0.28, 0.27, 0.34], skin * [0.80, 0.78, 1.0], person.brow * 0.25 + 0.003])
    patch = cv2.resize(ball, size, interpolation=cv2.INTER_AREA) + weights[..., :3] @ colours.astype(np.float32)
    region = canvas[y0:y1, x0:x1]
    region *= np.maximum(1 - weights.sum(axis=-1), 0)[..., None]
    region += patch


def _trace(eye: Eye, person: Person, camera_matrix, light: EyeLight, corner, ss: int, shape, unit: float):
    """Colour of the eyeball at every supersampled pixel of the patch, (h, w, 3) float32 linear BGR."""
    k = camera_matrix
    x_px = corner[0] - 0.5 + (np.arange(shape[1]) + 0.5) / ss
    y_px = corner[1] - 0.5 + (np.arange(shape[0]) + 0.5) / ss
    dx, dy = (x_px - k[0, 2]) / k[0, 0], (y_px - k[1, 2]) / k[1, 1]
    # Rays (dx, dy, 1) from where they cross the plane of the eyeball's centre, relative to it: small numbers, so that
    # float32 is exact enough.
    wx, wy = dx * eye.centre[2] - eye.centre[0], dy * eye.centre[2] - eye.centre[1]
    dx, wx = (v.astype(np.float32)[None, :] for v in (dx, wx))
    dy, wy = (v.astype(np.float32)[:, None] for v in (dy, wy))
    axis, right, down, lamp = (
        v.astype(np.float32) for v in (eye.optical_axis, eye.rotation[:, 0], eye.rotation[:, 1], light.towards_lamp)
    )
    dd = (1 + dx * dx) + dy * dy
    wd = wx * dx + wy * dy
    root = wd * wd - dd * ((wx * wx - np.float32(EYEBALL_RADIUS_MM**2)) + wy * wy)
    missed = root <= 0
    s = (-wd - np.sqrt(np.maximum(root, 0))) / dd
    scale = np.float32(1 / EYEBALL_RADIUS_MM)
    facing = -s * scale
    lit = ((wx * lamp[0] + wy * lamp[1]) + s * ((dx * lamp[0] + dy * lamp[1]) + lamp[2])) * scale

    # The plane of the iris, in the eye's own axes.
    reach = np.float32(IRIS_DEPTH_MM) - (wx * axis[0] + wy * axis[1])
    depth = reach / ((dx * axis[0] + dy * axis[1]) + axis[2])
    a = (wx * right[0] + wy * right[1]) + depth * ((dx * right[0] + dy * right[1]) + right[2])
    b = (wx * down[0] + wy * down[1]) + depth * ((dx * down[0] + dy * down[1]) + down[2])
    radius, angle = cv2.cartToPolar(a, b)

    def inside(limit, soft):
        return np.clip((limit - radius) * np.float32(1 / max(soft, 1 / unit)) + np.float32(0.5), 0, 1)

    iris = inside(IRIS_RADIUS_MM, 0.45)
    light_of_iris = iris * (1 - np.float32(0.985) * inside(eye.pupil_mm, 0.12))
    ring = radius * np.float32(1 / IRIS_RADIUS_MM)
    spokes = _spokes(person.texture_seed)
    fibre = spokes[(angle * np.float32(len(spokes) / 6.3)).astype(np.int32)]
    tone = np.maximum(1.12 - 0.25 * ring + fibre * (0.08 + 0.17 * ring), 0.2) * (1 - 0.62 * np.clip(ring * 5 - 4, 0, 1))
    warm = np.clip((0.62 - ring) * 3.3, 0, 1)
    rim = np.clip((ring - 1) * 0.65, 0, 1)
    white = (1 - iris) * ~missed
    parts = np.dstack([white * (1 - rim), white * rim, light_of_iris * tone, light_of_iris * tone * warm, missed])
    colours = np.array(
        [[0.66, 0.70, 0.74], [0.36, 0.38, 0.56], person.iris, person.iris * [-0.15, 0.0, 0.25], [0.26, 0.27, 0.46]]
    )
    shade = np.dstack([0.45 + 0.60 * facing, np.maximum(0.25 + 0.75 * lit, 0)])
    colour = (parts @ colours.astype(np.float32)) * (shade @ np.array([light.ambient, light.lamp], np.float32))

    # Reflections on the cornea (radius 7.8 mm, centre 4.9 mm in front of the eyeball's): lamp and screen.
    to_camera = -eye.centre / np.linalg.norm(eye.centre)
    glint = np.zeros(shape, np.float32)
    for source, size, strength in ((light.towards_lamp, 0.6, 1.6), (np.array([0.0, 0.12, -1.0]), 0.9, 0.25)):
        half = source + to_camera
        half /= np.linalg.norm(half)
        if half @ eye.optical_axis > 0.72:
            spot = project(eye.centre + 4.9 * eye.optical_axis + 7.8 * half, k)
            gx, gy = (np.exp(-(((p - c) * ss / (size * unit)) ** 2)) for p, c in zip((x_px, y_px), spot, strict=True))
            glint += np.minimum(strength, 1.5) * np.minimum(np.outer(gy, gx) * 1.4, 1).astype(np.float32)
    return colour + glint[..., None] * np.float32(light.lamp + light.ambient)


@lru_cache(maxsize=64)
def _spokes(seed: int) -> NDArray[np.float32]:
    """Brightness of the fibres around the iris, about 0."""
    return np.random.default_rng([seed, 2]).standard_normal(96).astype(np.float32)
