"""From a scene to pixels: backdrop, body, head, eyes, glasses, then the camera's own faults."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from evg.synthetic.body import draw_backdrop, draw_body, draw_glasses, draw_locks
from evg.synthetic.eyes import Eye, EyeLight, draw_eye
from evg.synthetic.head import CENTRE_MM, HeadMaps, lambert, texel
from evg.synthetic.paint import fixed, mix, project
from evg.synthetic.persons import Person


@dataclass(frozen=True)
class Look:
    """Light, room and camera of one frame or clip.

    Attributes:
        towards_lamp: (3,) unit, camera frame.
        lamp, ambient: (3,) linear BGR.
        exposure: factor on everything.
        blur_px, blur_mm: spread of the lens blur: a part in pixels and a part in mm at the face.
        noise: spread of the sensor noise, grey levels.
        quality: of the JPEG.
        seed: of the backdrop.
    """

    towards_lamp: NDArray[np.float64]
    lamp: NDArray[np.float64]
    ambient: NDArray[np.float64]
    exposure: float
    blur_px: float
    blur_mm: float
    noise: float
    quality: int
    seed: int


def sample_look(rng: np.random.Generator) -> Look:
    """A random light, room and camera."""
    turn, rise = rng.uniform(-1.1, 1.1), rng.uniform(0.05, 0.9)
    lamp_dir = np.array([np.sin(turn) * np.cos(rise), -np.sin(rise), -np.cos(turn) * np.cos(rise)])
    warmth = rng.uniform(-1, 1)
    lamp = np.array([1 - 0.20 * warmth, 1.0, 1 + 0.14 * warmth]) * rng.uniform(0.4, 0.95)
    cool = np.clip(warmth + rng.normal(0, 0.4), -1.2, 1.2)
    ambient = np.array([1 - 0.13 * cool, 1.0, 1 + 0.09 * cool]) * rng.uniform(0.32, 0.62)
    return Look(
        towards_lamp=lamp_dir,
        lamp=lamp,
        ambient=ambient,
        exposure=rng.uniform(0.75, 1.15),
        blur_px=rng.uniform(0.0, 0.5),
        blur_mm=0.28 * max(rng.standard_normal(), 0),
        noise=rng.uniform(0.6, 4.0),
        quality=int(rng.integers(70, 97)),
        seed=int(rng.integers(2**31)),
    )


@dataclass(frozen=True)
class Scene:
    """All that is drawn: camera frame, mm.

    Attributes:
        size: (width, height) of the picture, px.
        camera_matrix: (3, 3).
        person: who.
        head: the person's head, drawn.
        rotation, translation: (3, 3), (3,) head frame to camera frame, mm.
        eyes: the right one, the left one.
        look: light and room.
    """

    size: tuple[int, int]
    camera_matrix: NDArray[np.float64]
    person: Person
    head: HeadMaps
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    eyes: tuple[Eye, Eye]
    look: Look

    def project_head(self, points) -> NDArray[np.float64]:
        """Head-frame points (n, 3), mm, to px (n, 2)."""
        return project(np.asarray(points) @ self.rotation.T + self.translation, self.camera_matrix)


def render(scene: Scene) -> np.ndarray:
    """(H, W, 3) uint8 BGR, without the camera's faults."""
    canvas = draw_backdrop(scene)
    draw_body(canvas, scene)
    _draw_head(canvas, scene)
    light = EyeLight(scene.look.ambient, scene.look.lamp, scene.look.towards_lamp)
    for eye in scene.eyes:
        draw_eye(canvas, eye, scene.person, scene.camera_matrix, light, _skin_at(scene, eye))
    draw_locks(canvas, scene)
    draw_glasses(canvas, scene)
    # Exposure e, a soft shoulder for highlights, gamma 2: 255 sqrt(1.15 e c / (1 + e c / 2)).
    shoulder = canvas * np.float32(0.5 * scene.look.exposure)
    shoulder += 1
    np.divide(canvas, shoulder, out=canvas)
    return cv2.convertScaleAbs(np.sqrt(canvas, out=canvas), alpha=255 * np.sqrt(1.15 * scene.look.exposure))


def _skin_at(scene: Scene, eye: Eye):
    """Colour of the lit skin at an eye."""
    normal = -scene.rotation[:, 2] + 0.25 * eye.side * scene.rotation[:, 0]
    lit = max(0.2 + 0.8 * float(normal @ scene.look.towards_lamp), 0.0)
    return scene.person.skin * (0.75 * scene.look.ambient + lit * scene.look.lamp)


def _draw_head(canvas, scene: Scene):
    """Every pixel's ray is carried to the star-shaped surface, then shaded."""
    height, width = canvas.shape[:2]
    k, maps = scene.camera_matrix, scene.head
    outline = scene.project_head(maps.hull_mm)
    low = np.maximum(np.floor(outline.min(axis=0)).astype(int) - 2, 0)
    high = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + 3, [width, height])
    if (high - low < 4).any():
        return
    box = (int(high[0] - low[0]), int(high[1] - low[1]))
    step = 4
    coarse = (np.arange(-step // 2, box[0] + step, step) + low[0], np.arange(-step // 2, box[1] + step, step) + low[1])
    deepest, hit = _search(_Rays(scene, *coarse))
    # Coarse depths onto the picture's pixels.
    place = np.array([[1 / step, 0, 0.5], [0, 1 / step, 0.5]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    deepest, hit = (cv2.warpAffine(t, place, box, flags=flags, borderMode=cv2.BORDER_REPLICATE) for t in (deepest, hit))
    rays = _Rays(scene, np.arange(low[0], high[0]), np.arange(low[1], high[1]))
    per_mm = np.float32(k[0, 0] / scene.translation[2])
    # Also just behind the entry: between two bulges of hair the deepest point jumps, and its interpolation misses.
    gap = np.minimum(rays.outside(deepest)[0], rays.outside(hit + 6)[0])
    alpha = np.clip(0.5 - gap * per_mm, 0, 1)
    for _ in range(2):
        gap, u, v = rays.outside(hit)
        hit += np.float32(0.8) * np.clip(gap, -8, 8)
    albedo, normal, gloss = (
        cv2.remap(m, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for m in (maps.albedo, maps.normal, maps.gloss)
    )
    colour = _shade(albedo, normal, gloss, scene)
    mix(canvas[low[1] : high[1], low[0] : high[0]], alpha, colour)


class _Rays:
    """Rays through a grid of pixels, in the head's axes, measured from their points nearest to the head's centre."""

    def __init__(self, scene: Scene, x_px, y_px):
        k, r = scene.camera_matrix, scene.rotation.astype(np.float32)
        dx = ((x_px - k[0, 2]) / k[0, 0]).astype(np.float32)[None, :]
        dy = ((y_px - k[1, 2]) / k[1, 1]).astype(np.float32)[:, None]
        norm = 1 / np.sqrt(1 + dx * dx + dy * dy)
        self.direction = [(r[0, i] * dx + (r[1, i] * dy + r[2, i])) * norm for i in range(3)]
        start = -(CENTRE_MM + scene.rotation.T @ scene.translation).astype(np.float32)
        nearest = -sum(start[i] * self.direction[i] for i in range(3))
        self.foot = [start[i] + nearest * self.direction[i] for i in range(3)]
        self.foot_square = sum(c * c for c in self.foot)
        self._radius = scene.head.radius_mm

    def outside(self, t):
        """(mm outside the surface, map u, map v) of the points at `t` mm (array or number) along the rays."""
        x, y, z = (f + t * d for f, d in zip(self.foot, self.direction, strict=True))
        length = np.sqrt(self.foot_square + t * t)
        n = self._radius.shape[0]
        u, v = lambert((x, y, z, length))
        u, v = texel(u, n), texel(v, n)
        return length - cv2.remap(self._radius, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), u, v


def _search(rays: _Rays):
    """(where each ray is deepest in the head or nearest to it, where it enters or the same), mm along the rays."""
    stops = np.arange(-132, 34, 12, dtype=np.float32)
    gaps = np.stack([rays.outside(t)[0] for t in stops])
    lowest = np.clip(gaps.argmin(axis=0), 1, len(stops) - 2)
    rows, columns = np.indices(lowest.shape)
    g0, g1, g2 = (gaps[lowest + i, rows, columns] for i in (-1, 0, 1))
    # Vertex of the parabola through the lowest gap and its neighbours.
    bend = np.maximum(g0 - 2 * g1 + g2, 1e-3)
    deepest = stops[lowest] + 12 * np.clip(0.5 * (g0 - g2) / bend, -1, 1)
    inside = gaps < 0
    first = np.clip(inside.argmax(axis=0), 1, len(stops) - 1)
    before, after = gaps[first - 1, rows, columns], gaps[first, rows, columns]
    share = np.clip(before / np.maximum(before - after, 1e-3), 0, 1)
    hit = np.where(inside.any(axis=0), stops[first - 1] + 12 * share, deepest)
    return deepest.astype(np.float32), hit.astype(np.float32)


def _shade(albedo, normal, gloss, scene: Scene):
    """Lit colour of skin and hair; light wraps further round in red, as it does in skin."""
    look = scene.look
    lamp = look.towards_lamp @ scene.rotation
    up = np.array([0, -0.94, -0.33]) @ scene.rotation
    # Blinn: half way between the lamp and the viewer, who is far enough to be in one direction.
    half = lamp - scene.translation / np.linalg.norm(scene.translation) @ scene.rotation
    half /= np.linalg.norm(half)
    facing, height, mirror = cv2.split(cv2.transform(normal, np.stack([lamp, up, half]).astype(np.float32)))
    sky = height * np.float32(0.38) + np.float32(0.62)
    shine = np.maximum(mirror, 0)
    for _ in range(3):
        shine *= shine
    shine *= gloss[..., 1] * np.float32(0.05) + gloss[..., 0] * np.float32(0.11) * shine
    channels = []
    for channel, wrap in enumerate((0.12, 0.16, 0.30)):
        lit = np.maximum(facing + np.float32(wrap), 0)
        lit *= np.float32(look.lamp[channel] / (1 + wrap))
        lit += sky * np.float32(look.ambient[channel])
        lit *= albedo[..., channel]
        lit += shine * np.float32(look.lamp[channel])
        channels.append(lit)
    return cv2.merge(channels)


# --- the camera's own faults ------------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def _noise_sheet(height: int, width: int) -> NDArray[np.uint8]:
    """Noise of spread 32 about 128, larger than a picture: drawing it anew would cost as much as the head."""
    noise = np.random.default_rng(12345).standard_normal((height + 64, width + 64, 3), dtype=np.float32)
    return np.clip(noise * 32 + 128.5, 0, 255).astype(np.uint8)


def spoil(picture, look: Look, rng: np.random.Generator, px_per_mm: float) -> np.ndarray:
    """Focus, motion, sensor noise and JPEG.

    Args:
        picture: (H, W, 3) uint8.
        look: how strong the faults are.
        rng: for what changes from frame to frame.
        px_per_mm: at the face.
    """
    height, width = picture.shape[:2]
    blur = look.blur_px + look.blur_mm * px_per_mm
    if blur > 0.25:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    if rng.random() < 0.15:
        length, angle = min(rng.uniform(0.5, 2.0) * px_per_mm + 1, 7.0), rng.uniform(0, np.pi)
        kernel = np.zeros((9, 9), np.uint8)
        step = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        ends = fixed(4.0 + np.array([-step, step])).tolist()
        cv2.line(kernel, ends[0], ends[1], 255, 1, cv2.LINE_AA, 4)
        picture = cv2.filter2D(picture, -1, kernel / np.float32(kernel.sum()))
    y, x = rng.integers(0, 64, 2)
    noise = _noise_sheet(height, width)[y : y + height, x : x + width]
    amount = look.noise / 32
    picture = cv2.addWeighted(picture, 1.0, noise, amount, -128 * amount)
    coded = cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, look.quality])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))
