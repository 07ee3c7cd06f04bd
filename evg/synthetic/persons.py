"""Who is in the picture: everything about one synthetic person that does not change from frame to frame."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HAIR_STYLES = ('short', 'parted', 'fringe', 'buzz', 'receding', 'curly', 'tied', 'bob', 'long')

# sRGB anchors, light to dark; a person lies anywhere between two neighbours.
_SKIN = np.array(
    [[247, 214, 192], [236, 192, 163], [219, 170, 134], [190, 138, 102], [146, 98, 70], [98, 66, 50]], np.float64
)
_HAIR = {
    'black': (26, 23, 24),
    'dark brown': (50, 36, 28),
    'brown': (88, 60, 40),
    'auburn': (112, 58, 34),
    'blond': (176, 138, 86),
    'grey': (150, 148, 146),
}
_STYLE_SHARE = {
    'feminine': (0, 0.05, 0.17, 0.0, 0.0, 0.1, 0.18, 0.2, 0.3),
    'masculine': (0.34, 0.22, 0.08, 0.13, 0.11, 0.08, 0.0, 0.0, 0.04),
}
_FRAMES = ((24, 22, 24), (60, 38, 26), (118, 116, 116), (120, 28, 34), (34, 48, 88))
_IRIS = {
    'dark brown': (52, 32, 22),
    'brown': (88, 54, 32),
    'hazel': (112, 88, 48),
    'green': (94, 104, 74),
    'blue': (98, 120, 140),
    'grey': (110, 122, 130),
}


@dataclass(frozen=True)
class Person:
    """One synthetic person.

    Convention: head frame, mm: origin midway between the eyeball centres, x to the subject's left (image right when
    facing the camera), y down, z into the head. Colours are linear light, BGR, 0..1. Angles (pitch, yaw) as in
    `evg.geometry.angles`.

    Attributes:
        number: the person's id.
        ipd_mm: distance between the eyeball centres.
        kappa_right_rad: (pitch, yaw) of the visual axis in the frame of the right eye, whose -z is the optical axis;
            the yaw is negative where the visual axis lies nasal.
        kappa_left_rad: the same of the left eye, nasal is positive.
        shape: named numbers of the head and its parts: factors about 1, shifts (mm) about 0, switches 0 or 1.
        opening: how far the lids of the wide-awake eye open, about 1.
        skin, hair, brow, lip, iris: colours.
        hair_style: one of HAIR_STYLES.
        beard: 0 none, about 0.4 stubble, 1 full.
        glasses: None, or (frame colour BGR, frame thickness mm, lens half width mm, lens half height mm, roundness).
        clothes: (colour BGR, 'crew' | 'v' | 'shirt').
        head_share: the share of a gaze shift that the head makes.
        posture: offsets of the person's usual seat, in units of the geometry's spread (3,), and head (pitch, yaw,
            roll) bias in radians (3,).
        texture_seed: seed of strands, freckles and the like.
    """

    number: int
    ipd_mm: float
    kappa_right_rad: NDArray[np.float64]
    kappa_left_rad: NDArray[np.float64]
    shape: dict[str, float]
    opening: float
    skin: NDArray[np.float64]
    hair: NDArray[np.float64]
    brow: NDArray[np.float64]
    lip: NDArray[np.float64]
    iris: NDArray[np.float64]
    hair_style: str
    beard: float
    glasses: tuple | None
    clothes: tuple
    head_share: float
    posture: tuple[NDArray[np.float64], NDArray[np.float64]]
    texture_seed: int


def linear(srgb) -> NDArray[np.float64]:
    """RGB 0..255 as shown to linear BGR 0..1 (gamma 2, which the renderer inverts with a square root)."""
    return (np.asarray(srgb, np.float64)[..., ::-1] / 255.0) ** 2


def make_person(seed: int, number: int) -> Person:
    """The person `number` of the world `seed`; a pure function of both."""
    rng = np.random.default_rng([seed, 0xFACE, number])

    def unit() -> float:
        return float(np.clip(rng.standard_normal(), -2.2, 2.2))

    feminine = rng.random() < 0.5
    shape = {
        'width': 1 + 0.04 * unit() - 0.015 * feminine,
        'jaw': 1 + 0.06 * unit() - 0.05 * feminine,
        'length': 1 + 0.035 * unit() - 0.02 * feminine,
        'cheek': 1 + 0.35 * unit(),
        'nose_length': 1 + 0.07 * unit(),
        'nose_width': 1 + 0.12 * unit(),
        'nose_height': 1 + 0.13 * unit(),
        'brow_y': 1.2 * unit() - 1.0 * feminine,
        'brow_thick': 1 + 0.22 * unit() - 0.25 * feminine,
        'brow_arch': 1 + 0.5 * unit() + 0.5 * feminine,
        'mouth_width': 1 + 0.08 * unit(),
        'mouth_y': 1.5 * unit(),
        'lips': 1 + 0.18 * unit() + 0.12 * feminine,
        'smile': 0.4 + 0.6 * unit(),
        'eye_width': 1 + 0.045 * unit(),
        'eye_tilt': 0.7 + 0.9 * unit(),
        'lid_peak': 0.05 * unit(),
        'crease': 1 + 0.25 * unit(),
        'lashes': 0.5 + 0.8 * feminine + 0.15 * unit(),
        'forehead': 3.0 * unit(),
        'hair_volume': 1 + 0.22 * unit(),
    }
    shape |= {
        'freckles': float(rng.random() < 0.2),
        'goatee': float(rng.random() < 0.3),
        'parting': float(rng.choice([-1, 1])),
    }
    tone = rng.beta(1.1, 1.5) * (len(_SKIN) - 1)
    at = min(int(tone), len(_SKIN) - 2)
    skin_rgb = _SKIN[at] + (tone - at) * (_SKIN[at + 1] - _SKIN[at]) + rng.normal(0, [4, 3, 4])
    dark = tone > 2.3
    names = ['black', 'dark brown'] if dark else ['black', 'dark brown', 'brown', 'auburn', 'blond']
    weights = [0.7, 0.3] if dark else [0.2, 0.3, 0.25, 0.08, 0.17]
    hair_rgb = np.array(_HAIR[rng.choice(names, p=weights)], np.float64)
    if rng.random() < 0.14:
        hair_rgb += rng.uniform(0.4, 0.95) * (np.array(_HAIR['grey']) - hair_rgb)
    hair_rgb *= rng.uniform(0.85, 1.15)
    brow_rgb = 0.75 * hair_rgb + 0.12 * skin_rgb
    iris_p = [0.75, 0.25, 0, 0, 0, 0] if dark else [0.2, 0.26, 0.14, 0.12, 0.2, 0.08]
    iris_rgb = np.array(_IRIS[rng.choice(list(_IRIS), p=iris_p)], np.float64) * rng.uniform(0.85, 1.15)
    lip_rgb = skin_rgb * [0.88, 0.60, 0.60] + rng.uniform(0, 1) * feminine * np.array([8, -22, -14])
    style_p = _STYLE_SHARE['feminine' if feminine else 'masculine']
    hair_style = HAIR_STYLES[rng.choice(len(HAIR_STYLES), p=style_p)]
    beard = 0.0 if feminine else float(rng.choice([0.0, 0.3, 1.0], p=[0.5, 0.27, 0.23]) * rng.uniform(0.8, 1.1))
    glasses = None
    if rng.random() < 0.25:
        colour = linear(_FRAMES[rng.integers(len(_FRAMES))])
        glasses = (colour, rng.uniform(0.9, 2.6), rng.uniform(24.5, 27.5), rng.uniform(16, 21), rng.uniform(2.0, 4.0))
    cloth = linear(np.clip(rng.uniform(20, 225) + rng.normal(0, 38, 3), 15, 240))
    clothes = (cloth, str(rng.choice(['crew', 'v', 'shirt'])))

    # One horizontal and one vertical angle per person plus a small difference between the eyes: 1.2 deg spread in all.
    nasal = 4.0 + 1.13 * rng.standard_normal()
    vertical = 0.5 + 1.13 * rng.standard_normal()
    per_eye = 0.4 * rng.standard_normal((2, 2))
    kappa_right = np.radians([vertical + per_eye[0, 0], -(nasal + per_eye[0, 1])])
    kappa_left = np.radians([vertical + per_eye[1, 0], nasal + per_eye[1, 1]])
    return Person(
        number=number,
        ipd_mm=float(np.clip(rng.normal(63, 4), 53, 74)),
        kappa_right_rad=kappa_right,
        kappa_left_rad=kappa_left,
        shape=shape,
        opening=float(np.clip(rng.normal(1.0, 0.1), 0.76, 1.25)),
        skin=linear(np.clip(skin_rgb, 30, 252)),
        hair=linear(np.clip(hair_rgb, 10, 235)),
        brow=linear(np.clip(brow_rgb, 10, 200)),
        lip=linear(np.clip(lip_rgb, 30, 240)),
        iris=linear(np.clip(iris_rgb, 15, 200)),
        hair_style=hair_style,
        beard=beard,
        glasses=glasses,
        clothes=clothes,
        head_share=float(np.clip(rng.normal(0.45, 0.18), 0.05, 0.85)),
        posture=(np.clip(rng.standard_normal(3), -2, 2), np.radians(rng.normal(0, [2.5, 2.0, 2.0]))),
        texture_seed=int(rng.integers(2**31)),
    )
