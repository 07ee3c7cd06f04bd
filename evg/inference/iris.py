"""Where exactly an iris is: a ring of its known size is moved until it is light outside of it and dark inside.

A landmark network marks the iris to half a millimetre or so, which is 3 degrees of gaze. The edge between iris and
sclera is sharper than that. This is Daugman's integro-differential operator (1993), restricted to the part of the edge
that lies between the lids, and to the surroundings of where the landmarks have it.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
Plane = NDArray[Any]

_RADIUS = 16  # px that the iris is enlarged or reduced to
_HALF = 36  # px, half the side of the patch
_GAP = 0.08  # the two sides of the edge are compared so far from it, in radii
_CLIP = 80.0  # grey levels: a glint counts no more than an edge
_REACH = 0.5  # radii, how far from the landmarks the iris is looked for
_PRIOR = 10.0  # grey levels that a place loses at a distance of one radius
_LEAST_EDGE = 5.0  # grey levels: with less there is no edge, and the landmarks stay
_ANGLES = np.linspace(0, 2 * np.pi, 32, endpoint=False)
_DIRECTIONS = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=-1)
# The sides of the iris count fully, its lower edge half, its upper one, where lashes are, a fifth.
_WEIGHTS = np.where(np.abs(_DIRECTIONS[:, 1]) < 0.75, 1.0, np.where(_DIRECTIONS[:, 1] > 0, 0.5, 0.2))
_HIDDEN = 0.15  # a place where little of the edge is seen needs more of a contrast


@dataclass(frozen=True, eq=False)
class IrisGuess:
    """What is known of an iris before its edge is looked for.

    Convention: px of the picture, pixel centres at whole numbers.

    Attributes:
        center_px: (2,).
        radius_px: of the circle, seen from straight ahead.
        minor: (2,) unit vector in the picture along which a turned iris looks shorter.
        ratio: by how much: minor over major axis of the ellipse, 0..1.
        lids_px: (K, 2) outline of the opening between the lids.
    """

    center_px: Array
    radius_px: float
    minor: Array
    ratio: float
    lids_px: Array


def find_iris(image: Image, guess: IrisGuess) -> Array:
    """The centre (2,) of an iris, px; the guess's own where the picture shows no edge near it.

    Args:
        image: (H, W, 3) uint8 BGR.
        guess: of the landmarks.
    """
    if not (np.isfinite(guess.radius_px) and guess.radius_px > 1):
        return guess.center_px
    scale = _RADIUS / guess.radius_px
    matrix = np.column_stack([np.eye(2) * scale, _HALF - guess.center_px * scale])
    size = (2 * _HALF + 1, 2 * _HALF + 1)
    patch = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    grey = np.asarray(cv2.GaussianBlur(cv2.cvtColor(patch, cv2.COLOR_BGR2GRAY).astype(np.float32), (0, 0), 1.0))
    opening: Plane = np.zeros(grey.shape, np.float32)
    outline = np.rint((guess.lids_px * scale + matrix[:, 2]) * 16).astype(np.int32)
    cv2.fillPoly(opening, [outline], 1.0, cv2.LINE_AA, 4)
    opening = np.asarray(cv2.GaussianBlur(opening, (0, 0), 1.0))
    ring = _DIRECTIONS - np.outer(_DIRECTIONS @ guess.minor, guess.minor) * (1 - guess.ratio)
    coarse, _ = _search(grey, opening, ring, np.zeros(2), _REACH, 11, (1.0,))
    fine, edge = _search(grey, opening, ring, coarse, 0.12, 7, (0.94, 1.0, 1.06))
    return guess.center_px if edge < _LEAST_EDGE else guess.center_px + fine * guess.radius_px


def _search(
    grey: Plane,
    opening: Plane,
    ring: Array,
    around: Array,
    reach: float,
    steps: int,
    sizes: tuple[float, ...],
) -> tuple[Array, float]:
    """The best place (2,) on a grid, in radii from the guess, and the contrast there, grey levels."""
    axis = np.linspace(-reach, reach, steps)
    places = around + np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    penalty = _PRIOR * np.sum(places**2, axis=1)

    def at(source: Plane, size: float) -> Array:
        xy = ((places[:, None] + size * ring) * _RADIUS + _HALF).astype(np.float32)
        return np.asarray(cv2.remap(source, xy[..., 0], xy[..., 1], cv2.INTER_LINEAR), np.float64)

    best, edge, score = around, -np.inf, -np.inf
    for size in sizes:
        seen = at(opening, size * (1 + _GAP)) * _WEIGHTS
        step = np.clip(at(grey, size * (1 + _GAP)) - at(grey, size * (1 - _GAP)), -_CLIP, _CLIP)
        contrast = np.sum(seen * step, axis=1) / (seen.sum(axis=1) + _HIDDEN * len(ring))
        scores = contrast - penalty
        if scores.max() > score:
            # Between the steps of the grid: the mean of the best places, by how good they are.
            share = np.exp(scores - scores.max())
            best, score = share @ places / share.sum(), float(scores.max())
            edge = float(contrast[np.argmax(scores)])
    return best, edge
