"""The head of one person as a star-shaped surface: a radius, a normal and a colour for every direction.

Convention: head frame, mm (see `Person`). A direction from the head's centre C maps to the plane by Lambert's azimuthal
equal-area projection about the face's forward direction (-z), so that one texel has about one size everywhere.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from evg.synthetic.persons import Person
from evg.synthetic.portrait import MOUTH_Y_MM, NOSE_TIP_Y_MM, brow_outline, mouth_curves, paint_face

CENTRE_MM = np.array([0.0, 8.0, 72.0])
_EXTENT = 1.88  # of the map in Lambert units: 140 degrees from straight ahead

# Silhouette (half width, mm) and midline (z of the front, mm) of the mean head without its features, by y.
_PROFILE_Y = np.array([-118, -114, -108, -98, -80, -55, -25, 0, 25, 45, 60, 75, 88, 98, 107, 113, 117], np.float64)
_PROFILE_W = np.array([0, 24, 40, 54, 68, 76, 77, 74.5, 72, 69.5, 66.5, 62, 55, 46, 34, 19, 0], np.float64)
_PROFILE_Z = np.array([75, 50, 32, 12, -5, -16, -20, -15, -15.5, -17, -18, -17.5, -14, -13, -9, 2, 30], np.float64)


@dataclass(frozen=True)
class HeadMaps:
    """The drawn head of one person.

    Attributes:
        radius_mm: (N, N) float32, distance of the surface from the centre.
        normal: (N, N, 3) float32 outward unit normals, head frame.
        albedo: (N, N, 3) float32 linear BGR.
        gloss: (N, N, 2) float32, how much skin shines and how much hair shines.
        hull_mm: (M, 3) points of the surface, close enough together to bound its picture.
        landmarks_mm: (68, 3) the 68 points; the eyes (36..47) are placeholders, the lids move.
    """

    radius_mm: NDArray[np.float32]
    normal: NDArray[np.float32]
    albedo: NDArray[np.float32]
    gloss: NDArray[np.float32]
    hull_mm: NDArray[np.float32]
    landmarks_mm: NDArray[np.float64]


def lambert(p):
    """Map coordinates (Lambert units) of vectors from the head's centre given as (x, y, z, length)."""
    x, y, z, length = p
    scale = np.sqrt(2.0 / np.maximum(length * (length - z), 1e-6))
    return x * scale, y * scale


def texel(lambert_xy, n: int):
    """Texel coordinates in an (n, n) map."""
    return (lambert_xy + _EXTENT) * ((n - 1) / (2 * _EXTENT))


def _directions(n: int) -> NDArray[np.float32]:
    """(n, n, 3) unit directions of the texels."""
    axis = np.linspace(-_EXTENT, _EXTENT, n, dtype=np.float32)
    u, v = np.meshgrid(axis, axis)
    square = np.minimum(u * u + v * v, 3.99)
    side = np.sqrt(1 - square / 4)
    return np.stack([u * side, v * side, square / 2 - 1], axis=-1)


def build_head(person: Person, n: int) -> HeadMaps:
    """Shape and paint a head on n x n texels."""
    direction = _directions(n)
    bare = _bare_radius(direction, person)
    points = CENTRE_MM.astype(np.float32) + bare[..., None] * direction
    bare = bare + _features(points, person)
    points = CENTRE_MM.astype(np.float32) + bare[..., None] * direction
    rng = np.random.default_rng([person.texture_seed, 1])
    albedo, shine = paint_face(points, person, rng)
    hollow = _hollows(bare, n)
    cover, thickness, strands = _hair(points, person, rng, n)
    radius = bare + thickness
    albedo *= hollow[..., None]
    hair = person.hair.astype(np.float32) * strands[..., None]
    albedo += cover[..., None] * (hair - albedo)
    gloss = np.stack([shine * (1 - cover), cover], axis=-1)
    points = CENTRE_MM.astype(np.float32) + radius[..., None] * direction
    normal = _normals(points, strands, cover)
    thin = slice(None, None, n // 28)
    return HeadMaps(radius, normal, albedo, gloss, points[thin, thin].reshape(-1, 3), _landmarks(person, bare))


def _bare_radius(direction, person: Person):
    """Radius of the head without features: cross-sections are superellipses, solved by bisection along each ray."""
    # The bare head is smooth, so a third of the texels will do.
    n = direction.shape[0]
    few = cv2.resize(direction, (n // 3, n // 3), interpolation=cv2.INTER_LINEAR)
    low, high = np.full(few.shape[:2], 20.0, np.float32), np.full(few.shape[:2], 190.0, np.float32)
    for _ in range(20):
        middle = (low + high) / 2
        inside = _implicit(CENTRE_MM.astype(np.float32) + middle[..., None] * few, person.shape) < 1
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    # Blurred after the enlargement, which alone would leave ripples that shading shows.
    return cv2.GaussianBlur(cv2.resize((low + high) / 2, (n, n), interpolation=cv2.INTER_LINEAR), (0, 0), n / 75)


def _implicit(p, s):
    x, y, z = p[..., 0], p[..., 1], p[..., 2]
    # The lower jaw rises towards the ears, so behind the chin the profile is read further down.
    rise = np.clip((y - 35) / 70, 0, 1)
    y = y + 0.30 * rise * np.maximum(z + 5, 0)
    y = np.where(y > 0, y / s['length'], y)
    half_width = np.interp(y, _PROFILE_Y, _PROFILE_W, 0.01, 0.01).astype(np.float32)
    jaw = np.clip((y - 30) / 50, 0, 1)
    half_width = half_width * (s['width'] * (1 + jaw * (s['jaw'] - 1)))
    front = np.interp(y, _PROFILE_Y, _PROFILE_Z, 75, 30).astype(np.float32)
    middle = np.interp(y, [-60, 40, 117], [76, 66, 50]).astype(np.float32)
    depth = np.where(z < middle, middle - front, 95.0)
    outside = (y < _PROFILE_Y[0]) | (y > _PROFILE_Y[-1])
    power = 2.25
    value = (np.abs(x) / np.maximum(half_width, 0.5)) ** power + (np.abs(z - middle) / np.maximum(depth, 0.5)) ** power
    return np.where(outside, 9.0, value)


def _features(p, person: Person):
    """Millimetres that the features add to the radius, (n, n)."""
    s = person.shape
    x, y, front = p[..., 0], p[..., 1], np.clip((60 - p[..., 2]) / 30, 0, 1)
    side = np.abs(x)
    eye_x = person.ipd_mm / 2

    def bump(height, x0, y0, sx, sy, slant=0.0):
        dx, dy = (side - x0) / sx, (y - y0 - slant * (side - x0)) / sy
        return height * np.exp(-0.5 * (dx * dx + dy * dy))

    tip_y = NOSE_TIP_Y_MM * s['nose_length']
    along = np.clip((y + 6) / (tip_y + 6), 0, 1.2)
    fall = 1 / (1 + np.exp((y - tip_y - 6.0) / 2.3))
    half = (4.8 + 4.2 * along**2) * s['nose_width']
    ridge = (3.0 + 13.5 * along**1.3) * s['nose_height'] * fall * np.exp(-0.5 * (side / half) ** 2)
    h = ridge * (1 / (1 + np.exp(-(y + 14) / 3.5)))
    h += bump(3.0 * s['nose_height'], 0, tip_y - 1, 7 * s['nose_width'], 6)
    h += bump(6.5, 11.5 * s['nose_width'], tip_y + 2.0, 4.0, 4.4)
    h += bump(2.6, 20, -18, 15, 6, -0.1) + bump(1.5, 0, -20, 10, 6)
    h += bump(-5.0, eye_x - 2, -2, 14, 9) + bump(5.0, eye_x + 1, 0, 9.5, 8)
    h += bump(-2.0, eye_x - 2, 14, 13, 5)
    h += bump(3.8 * s['cheek'], 42, 28, 15, 13) + bump(-2.5 * s['cheek'], 46, 62, 12, 16)
    mouth_y, mouth_w = MOUTH_Y_MM + s['mouth_y'], 23 * s['mouth_width']
    h += bump(2.2, 0, mouth_y, mouth_w, 14)
    h += bump(2.3 * s['lips'], 0, mouth_y - 4.5, 0.6 * mouth_w, 3.0)
    h += bump(2.7 * s['lips'], 0, mouth_y + 6, 0.5 * mouth_w, 3.6)
    h += bump(-2.2, 0, mouth_y, 0.5 * mouth_w, 1.5) + bump(-0.9, mouth_w + 3, mouth_y, 4.5, 5.0)
    h += bump(-1.0, 0, mouth_y - 13, 3.0, 4) + bump(-3.2, 0, mouth_y + 15.5, 15, 4.0)
    h += bump(5.0, 0, 100, 15, 9) + bump(-3, 62, -22, 10, 18)
    return (h * front).astype(np.float32)


def _hollows(radius, n: int):
    """(n, n) darkening of concave places, from the surface itself."""
    out = np.ones_like(radius)
    for sigma, strength in ((n / 80, 0.12), (n / 28, 0.04)):
        out *= np.exp(-strength * np.clip(cv2.GaussianBlur(radius, (0, 0), sigma) - radius, -1.0, 5))
    return out


def _normals(points, strands, cover):
    """Outward unit normals, ruffled where hair covers the surface."""
    across = np.gradient(points, axis=1)
    down = np.gradient(points, axis=0)
    normal = np.cross(across, down)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
    normal *= np.sign(np.sum(normal * (points - CENTRE_MM.astype(np.float32)), axis=-1, keepdims=True))
    ruffle = cv2.GaussianBlur(strands - 1, (0, 0), 0.8) * cover
    normal[..., 0] += 0.5 * ruffle
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
    return normal.astype(np.float32)


_STYLE = {  # thickness mm at the top, at the side; how far the hairline comes down the forehead (mm); curl
    'short': (13, 5, -7, 0.25),
    'parted': (18, 7, -3, 0.1),
    'fringe': (16, 9, 26, 0.1),
    'buzz': (3, 2, 0, 0.5),
    'receding': (5, 4, -26, 0.2),
    'curly': (27, 18, 4, 1.0),
    'tied': (9, 4, -6, 0.05),
    'bob': (16, 7, 14, 0.1),
    'long': (15, 7, 2, 0.15),
}


def _hair(points, person: Person, rng: np.random.Generator, n: int):
    """(cover 0..1, thickness mm, strand brightness about 1), each (n, n) float32."""
    top, at_side, down, curl = _STYLE[person.hair_style]
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    azimuth = np.degrees(np.arctan2(np.abs(x), 72 - z))
    forehead = -62 + person.shape['forehead']
    line = np.interp(
        azimuth,
        [0, 22, 42, 54, 62, 72, 79, 84, 92, 104, 118, 180],
        [0, -1, 6, 20, 38, 68, 84, 70, 52, 70, 110, 130],
    ).astype(np.float32)
    if person.hair_style == 'receding':
        line = line - 26 * np.exp(-(((azimuth - 30) / 22) ** 2))
        down = 0
    if person.hair_style in ('bob', 'long'):  # over the ears; the locks in front are drawn apart
        line = np.maximum(line, np.interp(azimuth, [62, 76, 88, 95], [38, 60, 100, 190], left=-99))
    hairline = forehead + line
    if person.hair_style == 'parted':
        down = down + 12 * person.shape['parting'] * np.clip(x / 28, -1, 1)
    hairline = hairline + np.clip(down, -40, 40) * np.clip(1 - azimuth / 50, 0, 1) ** 0.5
    # Strands run from the crown along meridians; a curl breaks them up.
    noise = rng.standard_normal((64, 512), dtype=np.float32)
    tile = cv2.GaussianBlur(noise, (0, 0), sigmaX=0.8, sigmaY=3.0 * (1 - curl) + 0.6)
    around = np.arctan2(x, 40 - z + 0.25 * (y + 110)).astype(np.float32)
    wave = 6 * np.sin(y / 17 + 2 * np.sin(around * 3))
    u = (around / np.pi * 0.5 + 0.5) * 500 + (2 + 3 * curl) * wave / 4
    v = (y + 130) * (0.10 + 0.25 * curl)
    u, v = u.astype(np.float32), v.astype(np.float32)
    strand = cv2.remap(tile / tile.std(), u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    clump = cv2.resize(rng.standard_normal((8, 8)).astype(np.float32), (n, n), interpolation=cv2.INTER_CUBIC)
    edge = (hairline - y + 2.2 * strand + 1.0 * clump).astype(np.float32)
    soft = 3.0 if person.hair_style != 'buzz' else 6.0
    cover = 1 / (1 + np.exp(-np.clip(edge / soft, -20, 20)))
    if person.hair_style == 'buzz':
        cover = cover * 0.8
    level = np.clip((-y - 20) / 80, 0, 1)
    volume = (at_side + (top - at_side) * level) * person.shape['hair_volume']
    # Sideburns lie flat.
    rise = np.clip(edge / 26, 0, 1) * np.clip((15 - y) / 45 + curl, 0.1, 1)
    thickness = volume * (1 - (1 - rise) ** 2) * (1 + 0.05 * clump + (0.05 + 0.09 * curl) * strand)
    thickness = cv2.GaussianBlur(thickness.astype(np.float32), (0, 0), n / 200)
    brightness = (1 + 0.26 * strand + 0.10 * clump).clip(0.35, 1.9)
    return cover.astype(np.float32), np.maximum(thickness, 0), brightness.astype(np.float32)


def surface_point(radius, direction) -> NDArray[np.float64]:
    """Points (..., 3) of the surface in the given directions from the centre (..., 3), head frame mm."""
    d = np.asarray(direction, np.float64)
    d = d / np.linalg.norm(d, axis=-1, keepdims=True)
    u, v = lambert((d[..., 0], d[..., 1], d[..., 2], 1.0))
    n = radius.shape[0]
    at = [np.atleast_1d(texel(c, n)).astype(np.float32).reshape(-1, 1) for c in (u, v)]
    r = cv2.remap(radius, at[0], at[1], cv2.INTER_LINEAR).astype(np.float64).reshape(d.shape[:-1])
    return CENTRE_MM + r[..., None] * d


def frontal_point(radius, xy_mm) -> NDArray[np.float64]:
    """Surface points (n, 3) that a viewer in front sees at frontal (x, y) mm (n, 2)."""
    xy = np.asarray(xy_mm, np.float64)
    z = np.full(len(xy), -15.0)
    for _ in range(40):
        p = surface_point(radius, np.column_stack([xy, z]) - CENTRE_MM)
        # Move along z until the ray through (x, y, z) meets the surface there.
        reach = np.linalg.norm(p - CENTRE_MM, axis=1) - np.linalg.norm(np.column_stack([xy, z]) - CENTRE_MM, axis=1)
        z = z - 0.6 * reach
    return np.column_stack([xy, z])


def _landmarks(person: Person, radius) -> NDArray[np.float64]:
    s = person.shape
    out = np.zeros((68, 3))
    # Jaw: directions from the centre that sweep from the ear over the chin, as the silhouette of a frontal view runs.
    side = np.array([76, 75, 74, 71, 66, 56, 42, 22, 0.0])
    height = np.array([0, 18, 36, 54, 71, 87, 100, 108, 111.0])
    depth = np.array([62, 60, 56, 48, 38, 24, 10, -1, -5.0])
    half = np.column_stack([side, height * np.where(height > 0, s['length'], 1), depth])
    jaw = np.vstack([half * [-1, 1, 1], half[-2::-1]])
    out[:17] = surface_point(radius, jaw - CENTRE_MM)
    right, left = brow_outline(person, -1)[:5], brow_outline(person, 1)[:5]
    tip = NOSE_TIP_Y_MM * s['nose_length']
    wing = 13.5 * s['nose_width']
    lips = mouth_curves(s)
    # The lips touch: the inner points lie in pairs on the parting line.
    inner = 0.9 * lips['part'] + np.array([0, 0.1 * (MOUTH_Y_MM + s['mouth_y'])])
    frontal = np.vstack(
        [
            right,
            left[::-1],
            [[0, y] for y in np.linspace(-1, tip, 4)],
            [[-wing, tip + 5], [-wing / 2, tip + 7.2], [0, tip + 8.0], [wing / 2, tip + 7.2], [wing, tip + 5]],
            lips['upper'][::2],
            lips['lower'][10:0:-2],
            inner[[0, 4, 6, 8, 12]],
            inner[[8, 6, 4]],
        ]
    )
    out[[*range(17, 36), *range(48, 68)]] = frontal_point(radius, frontal)
    return out
