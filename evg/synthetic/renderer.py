"""From a scene to pixels: backdrop, body, head, eyes, glasses, then the camera's own faults."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from evg.synthetic.eyes import Eye, EyeLight, draw_eye, project
from evg.synthetic.head import CENTRE_MM, HeadMaps, lambert, texel
from evg.synthetic.persons import Person


@dataclass(frozen=True)
class Look:
    """What surrounds a person in one frame or clip.

    Attributes:
        towards_lamp: (3,) unit, camera frame.
        lamp, ambient: (3,) linear BGR.
        exposure: factor on everything.
        seed: of the backdrop.
    """

    towards_lamp: NDArray[np.float64]
    lamp: NDArray[np.float64]
    ambient: NDArray[np.float64]
    exposure: float
    seed: int


def sample_look(rng: np.random.Generator) -> Look:
    """A random room and light."""
    turn, rise = rng.uniform(-1.2, 1.2), rng.uniform(0.05, 1.0)
    lamp_dir = np.array([np.sin(turn) * np.cos(rise), -np.sin(rise), -np.cos(turn) * np.cos(rise)])
    warmth = rng.uniform(-1, 1)
    lamp = np.array([1 - 0.22 * warmth, 1.0, 1 + 0.16 * warmth]) * rng.uniform(0.45, 1.0)
    cool = np.clip(warmth + rng.normal(0, 0.5), -1.2, 1.2)
    ambient = np.array([1 - 0.15 * cool, 1.0, 1 + 0.10 * cool]) * rng.uniform(0.30, 0.65)
    return Look(lamp_dir, lamp, ambient, rng.uniform(0.72, 1.15), int(rng.integers(2**31)))


@dataclass(frozen=True)
class Scene:
    """All that is drawn: camera frame, mm."""

    size: tuple[int, int]
    camera_matrix: NDArray[np.float64]
    person: Person
    head: HeadMaps
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    eyes: tuple[Eye, Eye]
    look: Look


def render(scene: Scene) -> NDArray[np.float32]:
    """(H, W, 3) float32 BGR, as shown, 0..255, without the camera's faults."""
    canvas = _backdrop(scene)
    _draw_body(canvas, scene)
    _draw_head(canvas, scene)
    light = EyeLight(scene.look.ambient, scene.look.lamp, scene.look.towards_lamp)
    for eye in scene.eyes:
        draw_eye(canvas, eye, scene.person, scene.camera_matrix, light, _shade_of(scene, eye))
    _draw_glasses(canvas, scene)
    canvas *= scene.look.exposure
    # A soft shoulder above 0.8 keeps highlights from clipping hard.
    bright = np.maximum(canvas - 0.7, 0)
    canvas -= bright - bright / (1 + bright * 1.8)
    np.clip(canvas, 0, 1, out=canvas)
    return cv2.sqrt(canvas) * 255


def _shade_of(scene: Scene, eye: Eye):
    """Colour of the lit skin at an eye."""
    normal = -scene.rotation[:, 2] + 0.25 * eye.side * scene.rotation[:, 0]
    lit = max(0.2 + 0.8 * float(normal @ scene.look.towards_lamp), 0.0)
    return scene.person.skin * (0.75 * scene.look.ambient + lit * scene.look.lamp)


def _project_head(scene: Scene, points_head):
    """Head-frame points (n, 3) to px (n, 2)."""
    return project(np.asarray(points_head) @ scene.rotation.T + scene.translation, scene.camera_matrix)


def _blend_polygon(canvas, points_px, colour, blur_px=0.0, strength=1.0):
    """Lay a polygon (n, 2) px of one colour (3,) or a picture of colours over the canvas, softly."""
    height, width = canvas.shape[:2]
    pad = int(3 * blur_px) + 2
    low = np.maximum(np.floor(points_px.min(axis=0)) - pad, 0).astype(int)
    high = np.minimum(np.ceil(points_px.max(axis=0)) + pad + 1, [width, height]).astype(int)
    if (high - low < 1).any():
        return
    mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    cv2.fillPoly(mask, [np.round((points_px - low) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    if blur_px > 0.3:
        mask = cv2.GaussianBlur(mask, (0, 0), blur_px)
    region = canvas[low[1] : high[1], low[0] : high[0]]
    weight = (mask.astype(np.float32) * np.float32(strength / 255))[..., None]
    if colour.ndim > 1:
        colour = colour[low[1] : high[1], low[0] : high[0]]
    region += weight * (colour - region)


def _backdrop(scene: Scene):
    """A wall with blurred things on it, drawn small and enlarged: it is out of focus anyway."""
    width, height = scene.size
    rng = np.random.default_rng([scene.look.seed, 3])
    small = np.empty((36, round(36 * width / height), 3), np.float32)
    h, w = small.shape[:2]
    wall = (np.clip(rng.uniform(40, 235) + rng.normal(0, 22, 3), 15, 245) / 255) ** 2
    other = np.clip(wall * rng.uniform(0.5, 1.4) + rng.normal(0, 0.03, 3), 0.005, 0.95)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * np.linspace(-0.5, 0.5, w)[None, :] + np.sin(angle) * np.linspace(-0.5, 0.5, h)[:, None]
    small[:] = wall + (0.5 + ramp)[..., None] * (other - wall)
    kind = rng.random()
    for _ in range(rng.integers(0, 9)):
        colour = tuple(float(c) for c in (np.clip(rng.uniform(15, 235) + rng.normal(0, 45, 3), 5, 250) / 255) ** 2)
        x, y = rng.integers(-4, w), rng.integers(-4, h)
        size = rng.integers(3, 22, 2)
        if kind < 0.35:  # shelf
            x, size = int(x), (int(rng.integers(1, 6)), int(rng.integers(5, 12)))
            y = int(rng.integers(0, 3)) * 12
        cv2.rectangle(small, (int(x), int(y)), (int(x + size[0]), int(y + size[1])), colour, -1)
    if kind > 0.7:  # a window or a lamp
        x, y = int(rng.integers(0, w)), int(rng.integers(0, h // 2))
        cv2.rectangle(small, (x, y), (x + int(rng.integers(5, 18)), y + int(rng.integers(8, 20))), (1.0, 1.0, 0.96), -1)
    small = cv2.GaussianBlur(small, (0, 0), rng.uniform(0.7, 3.0))
    small *= np.float32(scene.look.ambient * 0.9 + scene.look.lamp * 0.45)
    return np.ascontiguousarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1.5))


# --- body -------------------------------------------------------------------------------------------------------------


def _draw_body(canvas, scene: Scene):
    """Hair behind, neck, shoulders, ears: flat shapes with soft shading, behind the head."""
    person, look = scene.person, scene.look
    light_skin = person.skin * (0.62 * look.ambient + 0.55 * look.lamp)
    hair = person.hair * (0.55 * look.ambient + 0.45 * look.lamp)
    per_mm = scene.camera_matrix[0, 0] / scene.translation[2]
    s = person.shape
    # The trunk keeps upright and turns only a little with the head.
    forward = -scene.rotation[:, 2]
    yaw = 0.3 * np.arctan2(-forward[0], -forward[2])
    trunk = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    base = scene.rotation @ np.array([0, 95, 95]) + scene.translation

    def on_trunk(points):
        return project(np.asarray(points, float) @ trunk.T + base, scene.camera_matrix)

    if person.hair_style in ('long', 'bob'):
        end = 215 if person.hair_style == 'long' else 112
        wide = 86 * s['width'] + 8 * s['hair_volume']
        half = [[0, -118, 95], [45, -108, 95], [72, -80, 95], [wide, -30, 95], [wide + 5, 20, 90], [wide + 3, 70, 90],
                [wide + 1, end - 20, 85], [wide - 14, end, 85], [wide - 34, end + 4, 85]]
        outline = np.array(half + [[-x, y, z] for x, y, z in half[::-1]], float)
        _blend_polygon(canvas, _project_head(scene, outline), hair * 0.55, 0.8 * per_mm + 0.3)
    if person.hair_style == 'tied':
        ring = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        bun = np.column_stack([34 * np.cos(ring), -112 + 30 * np.sin(ring), np.full(24, 120.0)])
        _blend_polygon(canvas, _project_head(scene, bun), hair * 0.7, 1.0 * per_mm)

    neck = 52 * s['width'] * (0.5 + 0.5 * s['jaw'])
    left = [[neck, -75, 0], [neck * 0.97, -20, 0], [neck * 1.0, 15, 0], [neck * 1.25, 40, 5], [neck * 1.9, 62, 8]]
    outline = np.array(left + [[130, 200, 10]] + [[-130, 200, 10]] + [[-x, y, z] for x, y, z in left[::-1]], float)
    _blend_polygon(canvas, on_trunk(outline), light_skin * 0.72, 0.5 * per_mm)
    # Side away from the lamp and the chin's shadow.
    lamp_side = np.sign(look.towards_lamp[0]) or 1.0
    band = np.array([[-lamp_side * neck, -75, 0], [-lamp_side * neck * 0.35, -75, -10], [-lamp_side * neck * 0.5, 60, -10],
                     [-lamp_side * neck * 1.2, 40, 5], [-lamp_side * neck, 10, 0]], float)
    _blend_polygon(canvas, on_trunk(band), light_skin * 0.40, 9 * per_mm, 0.7)
    chin = np.array([[-46, -60, -20], [46, -60, -20], [40, 2, -20], [18, 16, -20], [-18, 16, -20], [-40, 2, -20]], float)
    _blend_polygon(canvas, on_trunk(chin), light_skin * 0.30, 7 * per_mm, 0.75)
    _draw_clothes(canvas, scene, on_trunk, per_mm, neck)
    if person.hair_style not in ('long', 'bob'):
        ring = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        for side in (-1, 1):
            flare = 73 * s['width'] + 7 + 5 * np.cos(ring)
            ear = np.column_stack([side * flare, 22 + 31 * np.sin(ring) - 3 * np.cos(ring), 82 + 15 * np.cos(ring)])
            ear[:, 0] += side * 3 * np.clip(-np.sin(ring), 0, 1)
            lit = 0.75 + 0.25 * side * look.towards_lamp[0]
            _blend_polygon(canvas, _project_head(scene, ear), light_skin * lit * [0.85, 0.85, 1.0], 0.5 * per_mm)
            inner = ear * [1, 0.62, 0.6] + [side * 1.0, 8.5, 33]
            _blend_polygon(canvas, _project_head(scene, inner), light_skin * lit * 0.55, 1.8 * per_mm, 0.6)


def _draw_clothes(canvas, scene: Scene, on_trunk, per_mm: float, neck: float):
    colour, kind = scene.person.clothes
    look = scene.look
    cloth = colour * (0.6 * look.ambient + 0.6 * look.lamp)
    depth = {'crew': 62, 'v': 118, 'shirt': 95}[kind]
    collar = [[neck * 1.22, 42, 0], [neck * 0.95, 52 + 0.2 * depth, -20], [neck * 0.5, 40 + 0.55 * depth, -30]]
    middle = [[0, 30 + 0.85 * depth, -34]] if kind != 'crew' else [[18, 92, -34], [0, 94, -34], [-18, 92, -34]]
    right = [[neck * 1.22, 42, 0], [110, 72, 10], [185, 108, 15], [215, 160, 15], [235, 420, 15]]
    outline = np.array(right + [[-x, y, z] for x, y, z in right[::-1]] + [[-x, y, z] for x, y, z in collar[1:]] + middle
                       + collar[:0:-1], float)
    height = canvas.shape[0]
    fall = np.linspace(1.06, 0.72, height, dtype=np.float32)[:, None, None]
    side = 1 + 0.22 * look.towards_lamp[0] * np.linspace(-1, 1, canvas.shape[1], dtype=np.float32)[None, :, None]
    _blend_polygon(canvas, on_trunk(outline), (fall * side * np.float32(cloth)), 0.5 * per_mm)
    edge = on_trunk(np.array([[-x, y, z] for x, y, z in collar] + middle + collar[::-1], float))
    for dy, tone, wide in ((2.0, 0.6, 3.0), (0.0, 1.25, 1.2)):
        mask = np.zeros(canvas.shape[:2], np.uint8)
        points = [np.round((edge + [0, dy * per_mm]) * 16).astype(np.int32)]
        cv2.polylines(mask, points, False, 255, max(1, round(wide * per_mm)), cv2.LINE_AA, 4)
        weight = (mask.astype(np.float32) * np.float32(0.5 / 255))[..., None]
        canvas += weight * (np.float32(cloth * tone) - canvas)


# --- head -------------------------------------------------------------------------------------------------------------


def _draw_head(canvas, scene: Scene):
    """Every pixel's ray is carried to the star-shaped surface, then shaded."""
    height, width = canvas.shape[:2]
    k, maps = scene.camera_matrix, scene.head
    outline = _project_head(scene, maps.hull_mm)
    low = np.maximum(np.floor(outline.min(axis=0)).astype(int) - 2, 0)
    high = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + 3, [width, height])
    if (high - low < 4).any():
        return
    box = (int(high[0] - low[0]), int(high[1] - low[1]))
    step = 4
    coarse = (np.arange(-step // 2, box[0] + step, step) + low[0], np.arange(-step // 2, box[1] + step, step) + low[1])
    deepest, hit = _search(_Rays(scene, *coarse))
    # Coarse depths onto the picture's pixels.
    place = np.float32([[1 / step, 0, 0.5], [0, 1 / step, 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    deepest, hit = (cv2.warpAffine(t, place, box, flags=flags, borderMode=cv2.BORDER_REPLICATE) for t in (deepest, hit))
    rays = _Rays(scene, np.arange(low[0], high[0]), np.arange(low[1], high[1]))
    per_mm = np.float32(k[0, 0] / scene.translation[2])
    alpha = np.clip(0.5 - rays.outside(deepest)[0] * per_mm, 0, 1)
    for _ in range(2):
        gap, u, v = rays.outside(hit)
        hit += np.float32(0.8) * np.clip(gap, -8, 8)
    albedo, normal, gloss = (
        cv2.remap(m, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for m in (maps.albedo, maps.normal, maps.gloss)
    )
    colour = _shade(albedo, normal, gloss, rays.direction, scene)
    region = canvas[low[1] : high[1], low[0] : high[0]]
    region += alpha[..., None] * (colour - region)


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
        x, y, z = (f + t * d for f, d in zip(self.foot, self.direction))
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


def _shade(albedo, normal, gloss, d, scene: Scene):
    """Lit colour of skin and hair; light wraps further round in red, as it does in skin."""
    look = scene.look
    lamp = (scene.rotation.T @ look.towards_lamp).astype(np.float32)
    up = (scene.rotation.T @ np.array([0, -1.0, -0.35])).astype(np.float32)
    facing = normal @ lamp
    sky = 0.62 + 0.38 * (normal @ up)
    shade = np.empty_like(albedo)
    for channel, wrap in enumerate((0.12, 0.16, 0.30)):
        soft = np.maximum(facing + np.float32(wrap), 0) * np.float32(1 / (1 + wrap))
        shade[..., channel] = sky * np.float32(look.ambient[channel]) + soft * np.float32(look.lamp[channel])
    # Blinn highlight: half way between the lamp and the viewer.
    half = [lamp[i] - d[i] for i in range(3)]
    length = np.sqrt(half[0] ** 2 + half[1] ** 2 + half[2] ** 2)
    mirror = (normal[..., 0] * half[0] + normal[..., 1] * half[1] + normal[..., 2] * half[2]) / length
    mirror = np.clip(mirror, 0, 1)
    m2 = mirror * mirror
    m4 = m2 * m2
    m8 = m4 * m4
    shine = gloss[..., 0] * m8 * m8 * np.float32(0.11) + gloss[..., 1] * m8 * np.float32(0.05)
    return albedo * shade + shine[..., None] * np.float32(look.lamp)


def _draw_glasses(canvas, scene: Scene):
    if scene.person.glasses is None:
        return
    colour, thickness, half_w, half_h, roundness = scene.person.glasses
    height, width = canvas.shape[:2]
    per_mm = scene.camera_matrix[0, 0] / scene.translation[2]
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    c, sn = np.cos(angle), np.sin(angle)
    x = np.sign(c) * np.abs(c) ** (2 / roundness) * half_w
    y = np.sign(sn) * np.abs(sn) ** (2 / roundness) * half_h
    eye_x = scene.person.ipd_mm / 2
    rims, temples = [], []
    for side in (-1, 1):
        out = x + eye_x + 2.0
        z = -27 + 0.0035 * out**2
        rims.append(_project_head(scene, np.column_stack([side * out, y + 3, z])))
        edge_x = eye_x + 2 + half_w
        temples.append(_project_head(scene, [[side * edge_x, -4, -16], [side * (edge_x + 10), -6, 5], [side * 76, -4, 70]]))
    bridge_x = eye_x + 2 - half_w
    bridge = _project_head(scene, [[-bridge_x, 0, -26], [-bridge_x * 0.5, -3, -29], [bridge_x * 0.5, -3, -29], [bridge_x, 0, -26]])
    points = np.vstack([*rims, *temples])
    low = np.maximum(np.floor(points.min(axis=0)) - 4, 0).astype(int)
    high = np.minimum(np.ceil(points.max(axis=0)) + 5, [width, height]).astype(int)
    if (high - low < 2).any():
        return
    ss = 3 if per_mm < 1 else 2
    shape = ((high[1] - low[1]) * ss, (high[0] - low[0]) * ss)
    fixed = lambda p: np.round(((p - low + 0.5) * ss - 0.5) * 16).astype(np.int32)  # noqa: E731
    frame, lens = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    wide = max(1, round(thickness * per_mm * ss))
    cv2.polylines(frame, [fixed(p) for p in rims], True, 255, wide, cv2.LINE_AA, 4)
    cv2.polylines(frame, [fixed(bridge)], False, 255, wide, cv2.LINE_AA, 4)
    # The temple away from the camera's side is hidden by the head.
    forward = -scene.rotation[:, 2]
    for side, temple in zip((-1, 1), temples):
        if side * forward[0] < 0.25:
            cv2.polylines(frame, [fixed(temple)], False, 200, wide, cv2.LINE_AA, 4)
    cv2.fillPoly(lens, [fixed(p) for p in rims], 255, cv2.LINE_AA, 4)
    size = (high[0] - low[0], high[1] - low[1])
    frame, lens = (cv2.resize(m, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255 for m in (frame, lens))
    rng = np.random.default_rng([scene.look.seed, 4])
    slant = np.linspace(-1, 1, size[1])[:, None] * 0.5 + np.linspace(-1.5, 1.5, size[0])[None, :]
    at = rng.uniform(-1.2, 1.2)
    glare = np.exp(-(((slant - at) / 0.22) ** 2)) * rng.uniform(0.0, 0.10)
    region = canvas[low[1] : high[1], low[0] : high[0]]
    veil = (lens * (0.015 + glare)).astype(np.float32)[..., None]
    region += veil * (np.float32(scene.look.lamp + scene.look.ambient) * 0.8 - region)
    lit = np.float32(colour * (0.5 * scene.look.ambient + 0.4 * scene.look.lamp) + 0.01)
    region += frame[..., None] * (lit - region)


# --- the camera's own faults ------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _noise_tile() -> NDArray[np.float32]:
    """(512, 512, 3) unit noise: drawing fresh noise for every frame would cost as much as the head."""
    noise = np.random.default_rng(12345).standard_normal((512, 512, 3)).astype(np.float32)
    return noise


def spoil(picture, rng: np.random.Generator, eye_px: float) -> NDArray[np.uint8]:
    """Focus, motion, sensor noise and JPEG. `eye_px` is the px size of 1 mm at the face: blur is bounded by it."""
    height, width = picture.shape[:2]
    blur = rng.uniform(0.0, 0.55) + 0.35 * eye_px * max(rng.standard_normal(), 0) * 0.8
    if blur > 0.25:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    if rng.random() < 0.15:
        length, angle = rng.uniform(0.5, 2.0) * eye_px + 1, rng.uniform(0, np.pi)
        kernel = np.zeros((9, 9), np.float32)
        step = np.array([np.cos(angle), np.sin(angle)]) * min(length, 6) / 2
        ends = np.round((np.array([4.0, 4.0]) + np.array([-step, step])) * 16).astype(int)
        cv2.line(kernel, tuple(ends[0].tolist()), tuple(ends[1].tolist()), 1.0, 1, cv2.LINE_8, 4)
        picture = cv2.filter2D(picture, -1, kernel / kernel.sum())
    tile = _noise_tile()
    amount = rng.uniform(0.6, 4.5)
    y, x = rng.integers(0, 512, 2)
    rows = (np.arange(height) + y) % 512
    columns = (np.arange(width) + x) % 512
    noise = tile[rows[:, None], columns[None, :]]
    picture = picture + np.float32(amount) * noise
    picture = np.clip(picture + 0.5, 0, 255).astype(np.uint8)
    quality = int(rng.integers(70, 97))
    return cv2.imdecode(cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
