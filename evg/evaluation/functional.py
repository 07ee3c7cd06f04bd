"""Errors of gaze answers and their statistics: pure numpy functions over whole columns.

Convention of this module (all functions):
    Plane points are plane frame (u to the user's right, v down, mm from the camera), three values are camera frame
    (OpenCV axes, mm), screen px have their origin upper left. A row that cannot be measured is NaN and stays a row;
    statistics leave NaN out and say how many values they rest on. Functions over rows take `rigs`, the different rigs,
    and `rig_index` (N,), each row's place in that list, -1 for a row without one.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evg.geometry import Rig, vector_to_pitchyaw

Array = NDArray[np.float64]
Group = tuple[Rig | None, str, NDArray[np.intp]]  # rig, rule, row numbers

PLANE_RULES = ('offset', 'ray', 'projection')


def distance(a: ArrayLike, b: ArrayLike) -> Array:
    """Euclidean distance of points (..., K) and (..., K), in their unit: (...)."""
    return np.linalg.norm(np.subtract(a, b, dtype=np.float64), axis=-1)


def axis_distance(a: ArrayLike, b: ArrayLike) -> Array:
    """Absolute difference along each axis of points (..., K), in their unit: (..., K)."""
    return np.abs(np.subtract(a, b, dtype=np.float64))


def constant_distance(constant: ArrayLike, truth: ArrayLike) -> Array:
    """Error of the baseline that answers every row with one point.

    Args:
        constant: (2,), usually the mean label of the training set.
        truth: (N, 2), same frame and unit.

    Returns:
        (N,) in that unit.
    """
    if np.shape(constant) != (2,):
        raise ValueError(f'the constant answer must be one point (2,), not shape {np.shape(constant)}')
    return distance(constant, truth)


def plane_to_screen_px(
    plane_mm: ArrayLike, origin_mm: ArrayLike, plane_rule: ArrayLike, rig_index: ArrayLike, rigs: Sequence[Rig]
) -> Array:
    """Screen px of plane points, by the rule that put the row's label on the plane.

    Convention: see the module. `offset`: the screen lies in the plane at its declared place. `ray`: the ray from the
    origin through the plane point meets the screen at its calibrated pose. `projection`: the point of that screen with
    the same x and y. Not clamped to the screen.

    Args:
        plane_mm: (N, 2).
        origin_mm: (N, 3) face origin, used by `ray` only.
        plane_rule: (N,) 'offset', 'ray' or 'projection'.
        rig_index: (N,).
        rigs: the rigs that `rig_index` counts.

    Returns:
        (N, 2) px; NaN where the rig lacks what the rule needs, or the ray misses the screen's plane.
    """
    plane, origin = np.asarray(plane_mm, np.float64), np.asarray(origin_mm, np.float64)
    screen = np.full(plane.shape, np.nan)
    for rig, rule, rows in _groups(plane_rule, rig_index, rigs):
        if rig is None:
            continue
        if rule == 'offset' and rig.screen_center_plane_mm is not None:
            screen[rows] = rig.offset_plane_to_screen_px(plane[rows])
        elif rule == 'projection' and rig.screen_to_camera is not None:
            screen[rows] = rig.projected_plane_to_screen_px(plane[rows])
        elif rule == 'ray' and rig.screen_to_camera is not None:
            screen[rows] = rig.ray_to_screen_px(origin[rows], _plane_to_camera(plane[rows]) - origin[rows])
    return screen


def plane_to_direction(
    plane_mm: ArrayLike, origin_mm: ArrayLike, plane_rule: ArrayLike, rig_index: ArrayLike, rigs: Sequence[Rig]
) -> Array:
    """Gaze direction from the face origin to what a plane point stands for.

    Convention: see the module. EVE's angular error is the angle between this and target - origin. `offset`: plane to
    screen px, screen px to the 3-D point by the calibrated pose, minus the origin.
    `projection`: the same by its own way to the screen.
    `ray`: the point lies in the camera's plane at (-u, v, 0), minus the origin.

    Args:
        plane_mm: (N, 2).
        origin_mm: (N, 3) face origin.
        plane_rule: (N,) 'offset', 'ray' or 'projection'.
        rig_index: (N,).
        rigs: the rigs that `rig_index` counts.

    Returns:
        (N, 3) camera frame, mm, not of unit length; NaN where the rig lacks what the rule needs.
    """
    plane, origin = np.asarray(plane_mm, np.float64), np.asarray(origin_mm, np.float64)
    point = np.full(origin.shape, np.nan)
    for rig, rule, rows in _groups(plane_rule, rig_index, rigs):
        if rule == 'ray':
            point[rows] = _plane_to_camera(plane[rows])
        elif rig is None or rig.screen_to_camera is None:
            continue
        elif rule == 'projection':
            point[rows] = rig.screen_px_to_camera(rig.projected_plane_to_screen_px(plane[rows]))
        elif rig.screen_center_plane_mm is not None:
            point[rows] = rig.screen_px_to_camera(rig.offset_plane_to_screen_px(plane[rows]))
    return point - origin


def pitchyaw_error_deg(direction: ArrayLike, truth: ArrayLike) -> Array:
    """Absolute difference of pitch and of yaw, camera frame (N, 3) and (N, 3): (N, 2) degrees, the short way round."""
    difference = vector_to_pitchyaw(direction) - vector_to_pitchyaw(truth)
    return np.degrees(np.abs((difference + np.pi) % (2 * np.pi) - np.pi))


def summarise(values: ArrayLike) -> dict[str, float]:
    """Mean, median and 95th percentile of the finite values, and how many they are (`n`); NaN where there is none."""
    known = _finite(values)
    if not known.size:
        return {'mean': np.nan, 'median': np.nan, 'p95': np.nan, 'n': 0}
    median, p95 = np.percentile(known, (50, 95))
    return {'mean': float(known.mean()), 'median': float(median), 'p95': float(p95), 'n': known.size}


def per_subject(values: ArrayLike, subjects: ArrayLike) -> dict[str, NDArray]:
    """Each subject's mean and standard deviation.

    Args:
        values: (N,), NaN for a row that was not measured.
        subjects: (N,) names.

    Returns:
        Columns over the S subjects in order of name: `subject`; `n`, all rows; `n_missing`, those with NaN; `mean`;
        `sd` (n - 1 in the denominator). Mean and sd are NaN where too few values stand.
    """
    errors = np.asarray(values, np.float64)
    names, index = np.unique(np.asarray(subjects), return_inverse=True)
    finite = np.isfinite(errors)
    count = np.bincount(index, minlength=len(names))
    measured = np.bincount(index[finite], minlength=len(names))
    with np.errstate(invalid='ignore', divide='ignore'):
        mean = np.bincount(index[finite], errors[finite], len(names)) / measured
        # Two passes: sums of squares lose digits when the spread is small.
        spread = np.bincount(index[finite], (errors[finite] - mean[index[finite]]) ** 2, len(names))
        sd = np.sqrt(spread / np.where(measured > 1, measured - 1, np.nan))
    return {'subject': names, 'n': count, 'n_missing': count - measured, 'mean': mean, 'sd': sd}


def sequence_means(
    values: ArrayLike, recordings: ArrayLike, frames: ArrayLike, step: ArrayLike, length: int = 30
) -> tuple[Array, int]:
    """Means of EVE's sequences: `length` frames of a recording, every `step`-th frame, one sequence after the other.

    Sequence i of a recording holds its frames i * length * step + k * step, k = 0 .. length - 1; other frames are left
    out. EVE's own figure is the plain mean over all sequences, one without a valid frame counting as 0.

    Args:
        values: (N,), NaN for a row that was not measured.
        recordings: (N,) names, one for each recording and camera.
        frames: (N,) number of the frame in its recording, from 0.
        step: frames from one sampled frame to the next, one number or (N,); EVE: 6 for basler, 3 for the webcams.
        length: sampled frames in a sequence.

    Returns:
        The mean of each sequence that has a value, by recording and number, and how many sequences have none: those
        before the last frame of a recording that is a row here. What a recording has after that is not known.
    """
    errors, number = np.asarray(values, np.float64), np.asarray(frames)
    steps = np.broadcast_to(np.asarray(step), number.shape)
    _, recording = np.unique(np.asarray(recordings), return_inverse=True)
    sampled = number % steps == 0
    segment = number // (steps * length)
    last = np.full(recording.max(initial=-1) + 1, -1)
    np.maximum.at(last, recording, segment)
    total = int((last + 1).sum())
    keep = sampled & np.isfinite(errors)
    _, index = np.unique(np.column_stack([recording, segment])[keep], axis=0, return_inverse=True)
    index = index.reshape(-1)
    means = np.bincount(index, errors[keep]) / np.bincount(index) if keep.any() else np.empty(0)
    return means, total - len(means)


def mean_ci95(values: ArrayLike) -> tuple[float, float]:
    """Mean of the finite values and the half width of its 95 % confidence interval, t distribution with n - 1 degrees.

    The half width is NaN below two values.
    """
    known = _finite(values)
    if not known.size:
        return np.nan, np.nan
    if known.size == 1:
        return float(known[0]), np.nan
    half = t_quantile_975(known.size - 1) * known.std(ddof=1) / np.sqrt(known.size)
    return float(known.mean()), float(half)


def t_quantile_975(df: int) -> float:
    """The 97.5 % quantile of Student's t with `df` (a positive whole number) degrees of freedom.

    The probability within +-t is a finite sum for whole degrees (Abramowitz and Stegun 26.7.3 and 26.7.4), with
    theta = atan(t / sqrt(df)); bisection inverts it to about 1e-13.
    """
    if df < 1 or df != int(df):
        raise ValueError(f'degrees of freedom must be a positive whole number, not {df}')
    df = int(df)
    odd = df % 2
    # Factors of consecutive terms: 2/3, 4/5, ... (odd df) or 1/2, 3/4, ... (even df), times cos^2 each.
    step = np.arange(2 if odd else 1, df - 1, 2, dtype=np.float64)
    factors = step / (step + 1)

    def within(theta: float) -> float:
        cos, sin = np.cos(theta), np.sin(theta)
        series = 1 + np.cumprod(factors * cos**2).sum()
        if not odd:
            return sin * series
        return 2 / np.pi * (theta + (sin * cos * series if df > 1 else 0))

    low, high = 0.0, np.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) < 0.95 else (low, middle)
    return float(np.sqrt(df) * np.tan((low + high) / 2))


def _finite(values: ArrayLike) -> Array:
    array = np.asarray(values, np.float64)
    return array[np.isfinite(array)]


def _plane_to_camera(plane_mm: Array) -> Array:
    """Plane frame (N, 2) to the camera frame's z = 0, (N, 3)."""
    return np.column_stack([-plane_mm[:, 0], plane_mm[:, 1], np.zeros(len(plane_mm))])


def _groups(plane_rule: ArrayLike, rig_index: ArrayLike, rigs: Sequence[Rig]) -> Iterator[Group]:
    """Rows of one rig and one rule. Few groups, however many rows."""
    rule, index = np.asarray(plane_rule), np.asarray(rig_index)
    known = np.zeros(len(rule), bool)
    for name in PLANE_RULES:
        chosen = rule == name
        known |= chosen
        for number in np.unique(index[chosen]):
            yield (rigs[number] if number >= 0 else None), name, np.flatnonzero(chosen & (index == number))
    if not known.all():
        raise ValueError(f'plane_rule {str(rule[~known][0])!r} is none of {", ".join(PLANE_RULES)}')
