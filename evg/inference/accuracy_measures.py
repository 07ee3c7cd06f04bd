"""What eye-tracking practice measures at one target: offset, precision, and their units.

Convention of this module (all functions):
    Points are px of the declared `Screen` (N, 2) or (2,); lengths are mm on the screen; angles are degrees between the
    lines from `origin_mm` (3,), camera frame, to the two points. Where the origin is None, angles are None.

The measures are those of Holmqvist, Nystroem, Mulvey: Eye tracker data quality: what it is and how to measure it (ETRA
2012): accuracy is the offset from the target, precision the scatter of the samples while the eye rests, either from
sample to sample (RMS-S2S) or about their mean (SD), data loss the share of samples without a gaze.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evg.geometry import angle_between_deg
from evg.inference.screen import Screen

Array = NDArray[np.float64]


def distances_mm(screen: Screen, a_px: ArrayLike, b_px: ArrayLike) -> Array:
    """(...) mm between screen points (..., 2)."""
    return np.linalg.norm(screen.px_to_mm(np.subtract(a_px, b_px, dtype=np.float64)), axis=-1)


def angles_deg(screen: Screen, a_px: ArrayLike, b_px: ArrayLike, origin_mm: ArrayLike | None) -> Array | None:
    """(...) degrees between screen points (..., 2), seen from the origin."""
    if origin_mm is None:
        return None
    origin = np.asarray(origin_mm, np.float64)
    return angle_between_deg(screen.px_to_camera(a_px) - origin, screen.px_to_camera(b_px) - origin)


def offset(screen: Screen, point_px: ArrayLike, target_px: ArrayLike, origin_mm: ArrayLike | None) -> dict:
    """How far a point lies from its target.

    Returns:
        `x_px`, `y_px`, `x_mm`, `y_mm`: point minus target, right and down positive; `px`, `mm`, `cm`: Euclid; `deg`.
    """
    delta = np.subtract(point_px, target_px, dtype=np.float64)
    delta_mm = screen.px_to_mm(delta)
    mm = float(np.linalg.norm(delta_mm))
    deg = angles_deg(screen, point_px, target_px, origin_mm)
    return {
        'x_px': float(delta[0]),
        'y_px': float(delta[1]),
        'x_mm': float(delta_mm[0]),
        'y_mm': float(delta_mm[1]),
        'px': float(np.linalg.norm(delta)),
        'mm': mm,
        'cm': mm / 10,
        'deg': None if deg is None else float(deg),
    }


def rms_s2s(screen: Screen, points_px: ArrayLike, origin_mm: ArrayLike | None) -> tuple[float | None, float | None]:
    """Precision from sample to sample: root of the mean squared distance of neighbours.

    Args:
        screen: the screen.
        points_px: (N, 2) in the order of time; a row of NaN is a lost sample, and its neighbours are no pair.
        origin_mm: (3,) or None.

    Returns:
        mm and degrees; None where no two valid samples are neighbours.
    """
    points = np.asarray(points_px, np.float64).reshape(-1, 2)
    return _root_mean_square(screen, points[1:], points[:-1], origin_mm)


def standard_deviation(
    screen: Screen, points_px: ArrayLike, origin_mm: ArrayLike | None
) -> tuple[float | None, float | None]:
    """Precision about the mean: root of the mean squared distance from the mean point, so of var_x + var_y.

    Args and returns: as `rms_s2s`; None with fewer than two valid samples.
    """
    points = np.asarray(points_px, np.float64).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) < 2:
        return None, None
    return _root_mean_square(screen, points, np.broadcast_to(points.mean(axis=0), points.shape), origin_mm)


def _root_mean_square(screen: Screen, a_px: Array, b_px: Array, origin_mm: ArrayLike | None):
    known = np.isfinite(a_px).all(axis=1) & np.isfinite(b_px).all(axis=1)
    if not known.any():
        return None, None
    mm = np.sqrt(np.mean(distances_mm(screen, a_px[known], b_px[known]) ** 2))
    deg = angles_deg(screen, a_px[known], b_px[known], origin_mm)
    return float(mm), None if deg is None else float(np.sqrt(np.mean(deg**2)))
