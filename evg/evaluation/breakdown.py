"""Figures by parts of the data: device, head pose, gaze, EVE's sequences, what the index knows of each sample.

Convention:
    Head angles are (pitch, yaw) in degrees with the signs of docs/conventions.md, so that a head and a gaze of equal
    angles look the same way.
"""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from evg.datasets.index import Index
from evg.geometry.normalisation import head_pitchyaw

from . import functional as F

Facts = dict[str, NDArray]
_WIDTH_DEG = 15
# From one sampled frame to the next at EVE's 10 Hz, and how many of them are a sequence.
EVE_LENGTH = 30
EVE_STEP = {'basler': 6, 'webcam_c': 3, 'webcam_l': 3, 'webcam_r': 3}


def sample_facts(index: Index, sample_ids: ArrayLike) -> Facts:
    """What an index says of samples, aligned with `sample_ids`: names, frame numbers, head pose.

    Returns:
        `device`, `camera`, `sequence`, `subject` (text, '' where not known), `frame` (-1 where not known) and
        `head_pitchyaw_deg` (N, 2), NaN where not known: of the camera frame if the index has head rotations, else what
        it has in its gaze frame.
    """
    columns = index.columns
    place = columns.rows_of(sample_ids)
    facts = {name: columns[name][place] for name in ('device', 'camera', 'sequence', 'subject', 'frame')}
    rvec = columns['head_rvec'][place]
    angles = np.degrees(columns['head_pitchyaw_rad'][place])
    if np.isfinite(rvec).any():
        angles = np.full((len(rvec), 2), np.nan)
        known = np.flatnonzero(np.isfinite(rvec).all(axis=1))
        angles[known] = np.degrees(head_pitchyaw(np.stack([cv2.Rodrigues(rvec[row])[0] for row in known])))
    return facts | {'head_pitchyaw_deg': angles}


def breakdown(error: ArrayLike, unit: str, facts: Mapping[str, NDArray], dataset: str) -> list[dict[str, Any]]:
    """Tables of one error by parts of the data; a part that says nothing (one device, no head pose) is left out.

    Args:
        error: (N,) in `unit`, NaN where not measured.
        unit: 'mm' or 'deg'.
        facts: see `sample_facts`.
        dataset: the index's data set: `gazecapture` adds phones and tablets in cm, `eve` its average over sequences.

    Returns:
        Tables `{'title', 'unit', 'rows': [{'group', 'n', 'mean', 'median', 'p95'}], 'notes'}` as JSON values.
    """
    errors = np.asarray(error, np.float64)
    tables = []
    if dataset == 'gazecapture' and unit == 'mm':
        tables.append(_by_name('phones and tablets', 'cm', errors / 10, _phone_or_tablet(facts['device'])))
    if dataset == 'eve':
        tables.append(_eve_average(errors, unit, facts))
    for name in ('device', 'camera'):
        if len(np.unique(facts[name])) > 1:
            tables.append(_by_name(name, unit, errors, facts[name]))
    for axis, name in enumerate(('pitch', 'yaw')):
        angles = facts['head_pitchyaw_deg'][:, axis]
        if np.isfinite(angles).any():
            tables.append(_by_angle(f'head {name}, deg', unit, errors, angles))
    return tables


def gaze_subsets(error_deg: ArrayLike, gaze: ArrayLike, frame: str) -> dict[str, Any]:
    """Gaze360's three figures: all directions, the front half (within 90 deg), facing the camera (within 20 deg).

    Args:
        error_deg: (N,) degrees, NaN where not measured.
        gaze: (N, 3) true gaze; the angle is the one to (0, 0, -1), which looks into the camera.
        frame: of the gaze. In 'head' nobody knows where the camera is, so the two smaller sets are empty; in 'camera'
            (0, 0, -1) looks along the optical axis.
    """
    errors, truth = np.asarray(error_deg, np.float64), np.asarray(gaze, np.float64)
    away = np.degrees(np.arctan2(np.hypot(truth[:, 0], truth[:, 1]), -truth[:, 2]))
    names = {'all directions': 180.0, 'front half, within 90 deg': 90.0, 'facing the camera, within 20 deg': 20.0}
    if frame == 'head':
        away = np.full(len(away), 180.0)
    rows = [_row(name, errors[away <= limit]) for name, limit in names.items()]
    return {'title': 'true gaze against the camera', 'unit': 'deg', 'rows': rows, 'notes': []}


def _row(group: str, errors: NDArray[np.float64]) -> dict[str, Any]:
    return {'group': group, **F.summarise(errors)}


def _by_name(title: str, unit: str, errors: NDArray[np.float64], names: NDArray) -> dict[str, Any]:
    rows = [_row(str(name) or '(none)', errors[names == name]) for name in np.unique(names)]
    return {'title': title, 'unit': unit, 'rows': rows, 'notes': []}


def _by_angle(title: str, unit: str, errors: NDArray[np.float64], angles: NDArray[np.float64]) -> dict[str, Any]:
    """Bins of `_WIDTH_DEG` with 0 in the middle of one; empty ones are left out."""
    place = np.floor(angles / _WIDTH_DEG + 0.5)
    rows = []
    for number in np.unique(place[np.isfinite(place)]):
        low = (number - 0.5) * _WIDTH_DEG
        rows.append(_row(f'{low:+.1f} to {low + _WIDTH_DEG:+.1f}', errors[place == number]))
    unknown = ~np.isfinite(place)
    if unknown.any():
        rows.append(_row('not known', errors[unknown]))
    return {'title': title, 'unit': unit, 'rows': rows, 'notes': []}


def _phone_or_tablet(devices: NDArray) -> NDArray:
    """By Apple's names, whose case varies in the release."""
    names = np.char.lower(devices.astype(str))
    known = [np.char.startswith(names, 'iphone'), np.char.startswith(names, 'ipad')]
    return np.select(known, ['phone', 'tablet'], 'other')


def _eve_average(errors: NDArray[np.float64], unit: str, facts: Mapping[str, NDArray]) -> dict[str, Any]:
    """EVE's own average beside the one over samples."""
    recordings = np.char.add(np.char.add(np.char.add(facts['subject'], '/'), facts['sequence']), facts['camera'])
    steps = np.array([EVE_STEP.get(str(camera), 3) for camera in facts['camera']])
    means, empty = F.sequence_means(errors, recordings, facts['frame'], steps, EVE_LENGTH)
    rows = [_row('over samples', errors), _row('over sequences with a valid frame', means)]
    rows.append(_row("over sequences, EVE's rule: none valid counts 0", np.append(means, np.zeros(empty))))
    note = '30 frames at 10 Hz are a sequence; sequences after the last valid frame of a recording are not known here'
    return {'title': "EVE's sequences", 'unit': unit, 'rows': rows, 'notes': [note]}
