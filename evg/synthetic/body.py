"""What stands behind the head: the room, hair that falls down, neck, shoulders, clothes, ears."""

from typing import TYPE_CHECKING

import cv2
import numpy as np

from evg.synthetic.paint import blend_lines, blend_polygon, blend_ring, fixed, mix, project, smooth_closed

if TYPE_CHECKING:
    from evg.synthetic.renderer import Scene


def draw_backdrop(scene: 'Scene') -> np.ndarray:
    """(H, W, 3) float32: a wall with blurred things, drawn small and enlarged, for it is out of focus anyway."""
    width, height = scene.size
    rng = np.random.default_rng([scene.look.seed, 3])
    small = np.empty((36, round(36 * width / height), 3), np.float32)
    h, w = small.shape[:2]
    wall = (np.clip(rng.uniform(40, 235) + rng.normal(0, 9, 3), 15, 245) / 255) ** 2
    other = np.clip(wall * rng.uniform(0.5, 1.3) + rng.normal(0, 0.02, 3), 0.005, 0.95)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * np.linspace(-1, 1, w)[None, :] + np.sin(angle) * np.linspace(-1, 1, h)[:, None]
    small[:] = wall + (0.5 + 0.35 * ramp)[..., None] * (other - wall)
    kind = rng.random()

    def box(x, y, across, down, colour):
        cv2.rectangle(small, (int(x), int(y)), (int(x + across), int(y + down)), tuple(float(c) for c in colour), -1)

    def any_colour(spread):
        return (np.clip(rng.uniform(15, 225) + rng.normal(0, spread, 3), 5, 250) / 255) ** 2

    if kind < 0.3:  # shelves with books
        for shelf in range(int(rng.integers(1, 4))):
            floor, x = 13 * (shelf + 1) - int(rng.integers(0, 3)), int(rng.integers(-4, 8))
            box(0, floor, w, 1, wall * 0.45)
            while x < w - 2:
                across = int(rng.integers(1, 5))
                if rng.random() < 0.8:
                    tall = int(rng.integers(6, 11))
                    box(x, floor - tall, across - 1, tall - 1, any_colour(20))
                x += across
    elif kind < 0.75:  # pictures, furniture
        for _ in range(int(rng.integers(1, 6))):
            box(rng.integers(-4, w), rng.integers(-4, h), rng.integers(3, 20), rng.integers(3, 20), any_colour(18))
    if kind > 0.65:  # a window
        left, top, across, down = rng.integers([0, -6, 8, 10], [w, h // 3, 20, 24]).tolist()
        box(left - 1, top - 1, across + 2, down + 2, wall * 0.7)
        box(left, top, across, down, [0.95, 0.92, 0.85])
        box(left + across // 2, top, 0, down, wall * 0.7)
    soft = cv2.GaussianBlur(small, (0, 0), rng.uniform(0.5, 2.0))
    soft *= np.float32(scene.look.ambient * 0.9 + scene.look.lamp * 0.45)
    return cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)


def draw_body(canvas, scene: 'Scene') -> None:
    """Hair behind, neck, clothes, ears, in place. Flat shapes with soft shading; the head is drawn over them."""
    person, look = scene.person, scene.look
    s = person.shape
    per_mm = scene.camera_matrix[0, 0] / scene.translation[2]
    skin = person.skin * (0.62 * look.ambient + 0.60 * look.lamp)
    hair = person.hair * (0.55 * look.ambient + 0.45 * look.lamp)
    # The trunk keeps upright and turns only a little with the head.
    forward = -scene.rotation[:, 2]
    yaw = 0.3 * np.arctan2(-forward[0], -forward[2])
    trunk = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    base = scene.rotation @ np.array([0, 95, 95]) + scene.translation

    def on_trunk(points):
        return project(np.asarray(points, float) @ trunk.T + base, scene.camera_matrix)

    if person.hair_style in ('long', 'bob'):
        _hair_behind(canvas, scene, hair, per_mm)
    if person.hair_style == 'tied':
        ring = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        bun = np.column_stack([34 * np.cos(ring), -112 + 30 * np.sin(ring), np.full(24, 120.0)])
        blend_polygon(canvas, scene.project_head(bun), hair * 0.7, 1.0 * per_mm)

    neck = 54 * s['width'] * (0.5 + 0.5 * s['jaw'])
    throat = [[neck, -75, 0], [neck * 0.97, -20, 0], [neck * 1.02, 15, 0], [neck * 1.3, 42, 3], [neck * 1.9, 66, 8]]
    half = np.array([*throat, [140, 110, 10], [150, 200, 10]])
    outline = np.vstack([half, half[::-1] * [-1, 1, 1]])
    # A cylinder's light: brightest towards the lamp.
    across = np.clip(np.linspace(-150, 150, 60) / (neck * 1.1), -1, 1) * (np.pi / 2)
    lean = np.arctan2(look.towards_lamp[0], 0.8)
    roundness = 0.34 + 0.5 * np.clip(np.cos(across - lean), -0.2, 1)
    blend_polygon(canvas, on_trunk(outline), roundness[None, :, None] * skin, 0.5 * per_mm)
    shade = [[-52, -60, -20], [52, -60, -20], [46, -6, -20], [22, 12, -20], [-22, 12, -20], [-46, -6, -20]]
    blend_polygon(canvas, on_trunk(shade), skin * [0.16, 0.18, 0.26], 8 * per_mm, 0.75)
    for side in (-1, 1):  # the two cords of the neck meet at the collar bones
        cord = np.array([[side * neck * 0.80, -35, -10], [side * neck * 0.5, 15, -20], [side * 9, 58, -28]])
        blend_lines(canvas, [on_trunk(cord)], skin * 0.55, 3.0 * per_mm, 0.16)
    _draw_clothes(canvas, scene, on_trunk, per_mm, neck)
    if person.hair_style not in ('long', 'bob'):
        _draw_ears(canvas, scene, skin, per_mm)


def _hair_behind(canvas, scene: 'Scene', hair, per_mm: float) -> None:
    s = scene.person.shape
    end = 225 if scene.person.hair_style == 'long' else 100
    wide = 80 * s['width'] + 10 * s['hair_volume']
    upper = [[0, -116, 95], [45, -106, 95], [72, -78, 95], [wide, -30, 95], [wide + 4, 20, 88], [wide + 4, 65, 84]]
    half = np.array([*upper, [wide + 1, end - 15, 80], [wide - 14, end, 80], [wide - 40, end + 3, 80]])
    outline = smooth_closed(np.vstack([half, half[:0:-1] * [-1, 1, 1]]), 4)
    points = scene.project_head(outline)
    rng = np.random.default_rng([scene.person.texture_seed, 5])
    # Strands hang down: noise along x, almost none along y.
    strands = cv2.resize(rng.standard_normal((3, 48)), (48, 12), interpolation=cv2.INTER_LINEAR)
    blend_polygon(canvas, points, (0.62 * (1 + 0.16 * strands))[..., None] * hair, 0.7 * per_mm)


def draw_locks(canvas, scene: 'Scene') -> None:
    """Hair that falls in front of the ears, over the head, in place."""
    person, look = scene.person, scene.look
    if person.hair_style not in ('long', 'bob'):
        return
    s = person.shape
    per_mm = scene.camera_matrix[0, 0] / scene.translation[2]
    end = 215 if person.hair_style == 'long' else 96
    w = s['width']
    wide = 80 * w + 9 * s['hair_volume']
    inner = [[64 * w, -56, 12], [66 * w, -42, 12], [69 * w, -18, 18], [71 * w, 20, 26], [69 * w, 55, 26]]
    tip = [[65 * w, 0.75 * end, 24], [68 * w, end - 4, 24], [80 * w, end, 34], [wide - 2, end - 6, 44]]
    outer = [[wide + 4, 0.7 * end, 60], [wide + 2, 30, 66], [wide, -10, 70], [80 * w, -42, 62], [72 * w, -60, 40]]
    half = smooth_closed(np.array(inner + tip + outer), 4)
    rng = np.random.default_rng([person.texture_seed, 7])
    for side in (-1, 1):
        lit = 0.62 * look.ambient + np.clip(0.5 + 0.45 * side * look.towards_lamp[0], 0.1, 0.9) * look.lamp
        strands = cv2.resize(rng.standard_normal((3, 14)), (28, 12), interpolation=cv2.INTER_LINEAR)
        tone = (1 + 0.22 * strands) * np.linspace(1.15, 0.75, 12)[:, None]
        lock = scene.project_head(half * [side, 1, 1])
        blend_polygon(canvas, lock, tone[..., None] * (person.hair * lit), 0.8 * per_mm)


def _draw_clothes(canvas, scene: 'Scene', on_trunk, per_mm: float, neck: float) -> None:
    colour, kind = scene.person.clothes
    look = scene.look
    cloth = colour * (0.6 * look.ambient + 0.6 * look.lamp)
    depth = {'crew': 66, 'v': 125, 'shirt': 98}[kind]
    slope = [[neck * 1.42, 40, 0], [neck * 1.12, 50 + 0.2 * depth, -20], [neck * 0.62, 44 + 0.6 * depth, -30]]
    round_end = [[neck * 0.2, 40 + 0.86 * depth, -33], [0, 41 + 0.88 * depth, -34]]
    collar = np.array(slope + (round_end if kind == 'crew' else [[0, 40 + depth, -34]]), float)
    bend = np.linspace(0, np.pi / 2, 12)
    out = np.sin(bend)
    shoulder = np.column_stack([95 + 122 * out, 166 + 22 * out - 122 * np.cos(bend), 8 + 7 * out])
    half = np.vstack([collar[::-1], shoulder, [[235, 420, 15]]])
    outline = np.vstack([half, half[:0:-1] * [-1, 1, 1]])
    rng = np.random.default_rng([scene.person.texture_seed, 6])
    folds = 1 + 0.09 * cv2.resize(rng.standard_normal((6, 9)), (36, 24), interpolation=cv2.INTER_CUBIC)
    light = np.linspace(1.1, 0.6, 24)[:, None] * (1 + 0.3 * look.towards_lamp[0] * np.linspace(-1, 1, 36)[None, :])
    blend_polygon(canvas, on_trunk(outline), (folds * light)[..., None] * cloth, 0.5 * per_mm)
    edge = np.vstack([collar, collar[-2::-1] * [-1, 1, 1]])
    line = on_trunk(edge)
    blend_lines(canvas, [line + np.array([0, 3.0 * per_mm])], cloth * 0.6, 2.2 * per_mm, 0.45)
    blend_lines(canvas, [line], cloth * 1.15, 2.0 * per_mm, 0.7)
    if kind == 'shirt':
        for sign in (-1, 1):
            top = [[neck * 1.42, 36, 0], [neck * 0.75, 38 + 0.62 * depth, -32], [0, 40 + depth, -36]]
            flap = np.array([*top, [neck * 0.72, 62 + depth, -34], [neck * 1.35, 52 + 0.5 * depth, -26]])
            flap[:, 0] *= sign
            blend_polygon(canvas, on_trunk(flap), cloth * (1.08 + 0.1 * sign * look.towards_lamp[0]), 0.4 * per_mm)
            blend_lines(canvas, [on_trunk(flap[2:])], cloth * 0.55, 1.2 * per_mm, 0.6)


def _draw_ears(canvas, scene: 'Scene', skin, per_mm: float) -> None:
    x, y = [0, 8, 16, 19, 17, 11, 6, 1, -1], [-6, -12, -10, 4, 20, 34, 46, 47, 38]
    half = np.column_stack([x, y, [70, 74, 84, 90, 88, 80, 72, 68, 66]]).astype(float)
    for side in (-1, 1):
        ear = half * [side, 1, 1] + [side * 70 * scene.person.shape['width'], 3, 0]
        lit = skin * np.clip(0.72 + 0.4 * side * scene.look.towards_lamp[0], 0.3, 1.1)
        blend_polygon(canvas, scene.project_head(smooth_closed(ear, 4)), lit * [0.80, 0.82, 1.0], 0.4 * per_mm)
        middle = ear.mean(axis=0)
        shell = scene.project_head(smooth_closed((ear - middle) * [0.5, 0.6, 0.5] + middle + [side, -2, 0], 4))
        blend_polygon(canvas, shell, lit * [0.42, 0.42, 0.55], 1.6 * per_mm, 0.65)


def draw_glasses(canvas, scene: 'Scene') -> None:
    """Rims, bridge, temples and a faint glare, over the eyes, in place."""
    if scene.person.glasses is None:
        return
    colour, thickness, half_w, half_h, roundness = scene.person.glasses
    look = scene.look
    per_mm = scene.camera_matrix[0, 0] / scene.translation[2]
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    c, sn = np.cos(angle), np.sin(angle)
    x = np.sign(c) * np.abs(c) ** (2 / roundness) * half_w
    y = np.sign(sn) * np.abs(sn) ** (2 / roundness) * half_h
    y *= 1 + 0.08 * np.where(y > 0, -np.abs(x) / half_w, np.abs(x) / half_w)
    eye_x = scene.person.ipd_mm / 2
    forward = -scene.rotation[:, 2]
    inner = eye_x + 2 - half_w
    edge = eye_x + 2 + half_w
    bridge = [[-inner, -1, -26], [-inner * 0.5, -4, -29], [inner * 0.5, -4, -29], [inner, -1, -26]]
    lines: list = [bridge]
    rims: list = []
    rings: list = []
    # Filled outlines come out about one pixel wider than drawn.
    thick = max(thickness - 1 / per_mm, 0.05 / per_mm)
    for side in (-1, 1):
        for grow in (0, -thick / 2, thick / 2):
            out = x * (1 + grow / half_w) + eye_x + 2.0
            rim = np.column_stack([side * out, y * (1 + grow / half_h) + 3, -27 + 0.0035 * out**2])
            (rings if grow else rims).append(scene.project_head(rim))
        # The temple on the far side of a turned head is hidden.
        if side * forward[0] < 0.2:
            ear = side * 78 * scene.person.shape['width']
            lines.append([[side * edge, -5, -15], [side * (edge + 8), -6, 2], [ear, -5, 60]])
    rng = np.random.default_rng([look.seed, 4])
    height, width = canvas.shape[:2]
    slant = (np.arange(height)[:, None] * 0.5 + np.arange(width)[None, :]) / (half_w * per_mm)
    at = slant[int(np.clip(rims[0][:, 1].mean(), 0, height - 1)), int(np.clip(rims[0][:, 0].mean(), 0, width - 1))]
    for rim in rims:
        low, high = np.floor(rim.min(axis=0)).astype(int), np.ceil(rim.max(axis=0)).astype(int)
        low, high = np.maximum(low, 0), np.minimum(high, [width, height])
        if (high - low < 1).any():
            continue
        window = (slice(low[1], high[1]), slice(low[0], high[0]))
        glass = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        cv2.fillPoly(glass, [fixed(rim - low)], 255, cv2.LINE_AA, 4)
        glare = np.exp(-(((slant[window] - at - rng.uniform(-1, 1)) / 0.35) ** 2)) * rng.uniform(0, 0.12)
        mix(canvas[window], (glass * ((0.01 + glare) / 255)).astype(np.float32), (look.lamp + look.ambient) * 0.7)
    lit = colour * (0.5 * look.ambient + 0.4 * look.lamp) + 0.008
    for inner_rim, outer_rim in (rings[:2], rings[2:]):
        blend_ring(canvas, outer_rim, inner_rim, lit, min(thickness * per_mm, 1))
    blend_lines(canvas, [scene.project_head(line) for line in lines], lit, thickness * per_mm)
