"""Eyes: lid curves and pupil circles in space, and the eyeball traced ray by ray into a supersampled patch."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

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
    outer, inner = 14.0 * s['eye_width'], 15.2 * s['eye_width']
    t = np.linspace(0, 1, _CURVE_POINTS)
    x = outer - (outer + inner) * t  # outward positive
    base = -s['eye_tilt'] + (2 * s['eye_tilt'] + 0.9) * t
    lower_angle = -0.40 * person.opening**0.5 + 0.30 * min(pitch, 0.2)
    open_angle = 0.36 * person.opening + 0.80 * min(pitch, 0.25)
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
    crease_angle = 0.36 * person.opening + 0.2 * s['crease'] + 0.25 * min(pitch, 0.2)
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


def project(points_mm, camera_matrix) -> NDArray[np.float64]:
    """Camera-frame points (..., 3) to px (..., 2)."""
    p = np.asarray(points_mm, np.float64)
    image = p @ np.asarray(camera_matrix).T
    return image[..., :2] / image[..., 2:]


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
    ss = int(np.clip(np.ceil(3.2 / per_mm), 2, 8))
    shape = ((y1 - y0) * ss, (x1 - x0) * ss)
    unit = per_mm * ss  # supersampled px per mm

    def local(points):
        return (points - [x0 - 0.5, y0 - 0.5]) * ss - 0.5

    def polygon(points):
        mask = np.zeros(shape, np.uint8)
        cv2.fillPoly(mask, [np.round(local(points) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        return mask

    def line(points, width_mm, blur_mm=0.0):
        mask = np.zeros(shape, np.uint8)
        thickness = max(1, round(width_mm * unit))
        cv2.polylines(mask, [np.round(local(points) * 16).astype(np.int32)], False, 255, thickness, cv2.LINE_AA, 4)
        if blur_mm > 0:
            mask = cv2.GaussianBlur(mask, (0, 0), max(blur_mm * unit, 0.5))
        return mask.astype(np.float32) * np.float32(1 / 255)

    lid_mask = polygon(np.vstack([upper, lower[::-1]]))
    opening = lid_mask.astype(np.float32) * np.float32(1 / 255)
    ball = _trace(eye, person, camera_matrix, light, (x0, y0), ss, shape, unit)
    # The upper lid shades the ball: the opening, moved down and softened, is what the light still reaches.
    drop = np.float32([[1, 0, 0], [0, 1, 1.6 * unit]])
    reach = cv2.GaussianBlur(cv2.warpAffine(lid_mask, drop, shape[::-1]), (0, 0), max(1.1 * unit, 0.6))
    ball *= (0.52 + 0.48 / 255 * reach.astype(np.float32))[..., None]

    patch = np.zeros((*shape, 3), np.float32)
    alpha = np.zeros(shape, np.float32)

    def over(mask, colour):
        nonlocal patch, alpha
        patch += mask[..., None] * (colour - patch)
        alpha += mask * (1 - alpha)

    skin_shade = np.asarray(skin_shade, np.float32)
    dark = skin_shade * np.float32([0.30, 0.28, 0.36])
    over(0.62 * line(crease[1:-1], 0.9, 0.55), dark)
    over(0.35 * line(np.vstack([upper, lower[::-1]]), 1.6, 0.7), dark)
    over(0.5 * line(lower + [0, 0.5 * per_mm], 0.7, 0.25), skin_shade * np.float32([0.80, 0.78, 1.0]))
    over(opening, ball)
    lashes = np.float32(person.brow) * np.float32(0.25) + np.float32(0.003)
    over(0.35 * line(lower[:-3], 0.35, 0.2), lashes)
    strength = 0.62 + 0.25 * np.clip(person.shape['lashes'] - 0.5, 0, 1)
    wing = np.vstack([upper[0] + (upper[0] - upper[2]) * 0.10, upper[:-2]])
    over(min(strength, 0.92) * line(wing - [0, 0.1 * per_mm], 0.75 + 0.4 * person.shape['lashes'], 0.18), lashes)

    patch = cv2.resize(patch, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    alpha = cv2.resize(alpha, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    region = canvas[y0:y1, x0:x1]
    region *= (1 - alpha)[..., None]
    region += patch


def _trace(eye: Eye, person: Person, camera_matrix, light: EyeLight, corner, ss: int, shape, unit: float):
    """Colour of the eyeball at every supersampled pixel of the patch, (h, w, 3) float32 linear BGR."""
    x = corner[0] - 0.5 + (np.arange(shape[1], dtype=np.float32) + 0.5) / ss
    y = corner[1] - 0.5 + (np.arange(shape[0], dtype=np.float32) + 0.5) / ss
    dx = ((x - camera_matrix[0, 2]) / camera_matrix[0, 0]).astype(np.float32)[None, :]
    dy = ((y - camera_matrix[1, 2]) / camera_matrix[1, 1]).astype(np.float32)[:, None]
    cx, cy, cz = (float(v) for v in eye.centre)
    # float64 on the way to the root: both terms are about 1e5 and their difference matters at 1e-2.
    dd = 1.0 + dx.astype(np.float64) ** 2 + dy.astype(np.float64) ** 2
    along = (cx * dx + cy * dy + cz) / dd
    root = along**2 - (eye.centre @ eye.centre - EYEBALL_RADIUS_MM**2) / dd
    t = along - np.sqrt(np.maximum(root, 0))
    nx, ny, nz = (((t * d) - c) / EYEBALL_RADIUS_MM for d, c in ((dx, cx), (dy, cy), (1.0, cz)))

    axis, right, down = eye.optical_axis, eye.rotation[:, 0], eye.rotation[:, 1]
    middle = eye.centre + IRIS_DEPTH_MM * axis
    t_iris = (axis @ middle) / (axis[0] * dx + axis[1] * dy + axis[2])
    qx, qy, qz = t_iris * dx - middle[0], t_iris * dy - middle[1], t_iris - middle[2]
    a = (qx * right[0] + qy * right[1] + qz * right[2]).astype(np.float32)
    b = (qx * down[0] + qy * down[1] + qz * down[2]).astype(np.float32)
    radius = np.sqrt(a * a + b * b)

    def inside(limit, soft):
        return np.clip((limit - radius) / np.float32(max(soft, 1 / unit)) + 0.5, 0, 1)

    lamp = light.towards_lamp
    lit = np.clip(0.25 + 0.75 * (nx * lamp[0] + ny * lamp[1] + nz * lamp[2]), 0, None)
    facing = np.clip(-nz, 0, 1)
    shade = light.ambient * (0.35 + 0.65 * facing)[..., None] + light.lamp * lit[..., None]

    rim = np.clip((radius - IRIS_RADIUS_MM) / 9, 0, 1)[..., None]
    white = np.float32([0.66, 0.70, 0.74]) + rim * (np.float32([0.38, 0.40, 0.58]) - np.float32([0.66, 0.70, 0.74]))
    ring = radius / np.float32(IRIS_RADIUS_MM)
    angle = cv2.phase(a, b)
    spokes = _spokes(person.texture_seed)
    fibre = np.interp(angle + 0.12 * np.sin(9 * ring), np.linspace(0, 2 * np.pi, len(spokes)), spokes)
    tone = (1.10 - 0.25 * ring + fibre * (0.25 + 0.5 * ring) * 0.35) * (1 - 0.60 * np.clip((ring - 0.80) / 0.2, 0, 1) ** 1.5)
    warm = np.clip((0.62 - ring) / 0.3, 0, 1)[..., None] * np.float32([-0.15, 0.0, 0.25])
    iris = np.float32(person.iris) * (1 + warm) * tone[..., None]
    colour = white + inside(IRIS_RADIUS_MM, 0.45)[..., None] * (iris - white)
    colour = colour * (1 - 0.985 * inside(eye.pupil_mm, 0.12)[..., None])
    missed = (root <= 0)[..., None]
    colour = np.where(missed, np.float32([0.16, 0.17, 0.36]), colour)
    colour = (colour * shade).astype(np.float32)

    # Reflections on the cornea (radius 7.8 mm, centre 4.9 mm in front of the eyeball's): lamp and screen.
    to_camera = -eye.centre / np.linalg.norm(eye.centre)
    for source, size, strength in ((lamp, 0.55, 1.1), (np.array([0.0, 0.12, -1.0]), 0.8, 0.22)):
        half = source + to_camera
        half /= np.linalg.norm(half)
        if half @ axis < 0.72:
            continue
        spot = project(eye.centre + 4.9 * axis + 7.8 * half, camera_matrix)
        sx = (x - spot[0]).astype(np.float32)[None, :] / (size * unit / ss)
        sy = (y - spot[1]).astype(np.float32)[:, None] / (size * unit / ss)
        glint = np.exp(-((sx * sx + sy * sy) ** 2))
        colour += (strength * glint)[..., None] * np.float32(light.lamp + light.ambient)
    return colour


def _spokes(seed: int) -> NDArray[np.float64]:
    """Brightness of the iris around its circle, about 0; a few hundred fibres."""
    noise = np.random.default_rng([seed, 2]).standard_normal(97)
    noise[-1] = noise[0]
    return noise
