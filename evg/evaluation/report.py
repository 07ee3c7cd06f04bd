"""How results leave: a table for the terminal, JSON, and one Parquet row per sample."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from evg.datasets.index import write_table
from evg.files import atomic_write

_PLANE = "plane (u to the user's right, v down)"
_SCREEN = "screen, origin upper left, x to the user's right, y down"
# Unit and frame of each column that a metric's rows() may have.
PREDICTION_COLUMNS = {
    'sample_id': ('', ''),
    'subject': ('', ''),
    'plane_rule': ('offset, ray or projection', ''),
    'gaze_frame': ('camera, normalised_r or normalised_sr', ''),
    'gt_gaze': ('unit vector, eye to target', "the row's gaze_frame"),
    'pred_gaze': ('unit vector, eye to target', "the row's gaze_frame"),
    'constant_error_mm': ('mm', 'plane; of always answering the training mean'),
    'constant_error_gaze_deg': ('deg', 'of always answering the mean of these labels'),
    'constant_error_landmarks_px': ('px', 'mean distance; of always answering the mean of these labels'),
    'gt_landmarks_px': ('px', 'stored picture or patch; x, y of each point'),
    'pred_landmarks_px': ('px', 'stored picture or patch; x, y of each point'),
    'gt_eye_width_px': ('px', 'distance of the eye corners, stored picture or patch'),
    'error_landmarks_px': ('px', 'mean distance of the points'),
    'error_landmarks_percent': ('percent', 'error_landmarks_px of gt_eye_width_px'),
    'constant_error_deg': ('deg', 'of always answering the training mean'),
    'error_gaze_deg': ('deg', 'angle between gt_gaze and pred_gaze'),
    'error_gaze_pitchyaw_deg': ('deg', "absolute difference of pitch, of yaw, in the row's gaze_frame"),
    'gt_plane_mm': ('mm', _PLANE),
    'pred_plane_mm': ('mm', _PLANE),
    'gt_screen_px': ('px', _SCREEN),
    'pred_screen_px': ('px', _SCREEN + '; not clamped'),
    'gt_target_mm': ('mm', 'camera'),
    'gt_origin_mm': ('mm', 'camera'),
    'pred_score': ('0..1', ''),
    'error_mm': ('mm', 'plane'),
    'error_screen_px': ('px', 'screen'),
    'error_deg': ('deg', 'angle between rays from gt_origin_mm'),
    'error_pitchyaw_deg': ('deg', 'camera; absolute difference of pitch, of yaw'),
}


def render(report: Mapping[str, Any], max_subjects: int = 40) -> str:
    """A metric's `report` as an aligned table: overall, over subjects, baseline, each subject.

    Args:
        report: `metric.report`, or the same read from JSON.
        max_subjects: of more subjects than these, the ones with the largest mean are listed.
    """
    unit, subjects = report['unit'], report['subjects']
    lines = [f'{report["title"]}: {report["n"]:,} samples of {report["n_subjects"]:,} subjects']
    names = ('mean', 'median', 'p95')
    rows = [
        [f'{row["quantity"]}, {row["unit"]}', *(number(row[name]) for name in names), f'{row["n"]:,}']
        for row in report['overall']
    ]
    lines += aligned([['', *names, 'n'], *rows])
    lines.append('')
    over_subjects = mean_and_interval(report['subject_mean'], report['subject_ci95'], unit, 'subject')
    lines.append(f'  mean over subjects  {over_subjects}')
    if report['constant_mean'] is not None:
        lines.append(
            f'  constant answer     {number(report["constant_mean"])} {unit} (always {report["constant_answer"]}); '
            f'the model has {number(report["constant_ratio"])} of it'
        )
    lines += [f'  note: {note}' for note in report['notes']]
    shown = subjects
    if len(subjects) > max_subjects:
        shown = sorted(subjects, key=lambda row: -math.inf if _absent(row['mean']) else -row['mean'])[:max_subjects]
    if shown:
        lines.append('')
        table = [[row['subject'], number(row['mean']), number(row['sd']), f'{row["n"]:,}'] for row in shown]
        lines += aligned([['subject', f'mean {unit}', f'sd {unit}', 'n'], *table])
    if len(shown) < len(subjects):
        lines.append(f'  the {len(shown)} subjects with the largest error of {len(subjects):,}; the JSON has all')
    for group in report.get('groups', ()):
        lines.append('')
        heads = [group['title'], f'mean {group["unit"]}', 'median', 'p95', 'n']
        cells = [[row['group'], *(number(row[name]) for name in names), f'{row["n"]:,}'] for row in group['rows']]
        lines += aligned([heads, *cells])
        lines += [f'  note: {note}' for note in group['notes']]
    return '\n'.join(lines)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write JSON so that the file appears whole or not at all; NaN and infinity become null.

    Args:
        path: the file; its folder is made.
        value: JSON values, numpy numbers and arrays among them.
    """
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_write(path, 'w') as file:
        file.write(text + '\n')


def write_predictions(
    path: str | os.PathLike, rows: Mapping[str, NDArray], info: Mapping[str, str] | None = None
) -> None:
    """Write one row per sample as Parquet; each column's unit and frame is in its field metadata.

    Args:
        path: the file to write.
        rows: a metric's `rows()`; two metrics over the same samples join as `{**a.rows(), **b.rows()}`.
        info: stored in the file's metadata as `evg.<key>`, for instance config and checkpoint.
    """
    lengths = {name: len(column) for name, column in rows.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f'the columns differ in length: {lengths}')
    fields, arrays = [], []
    for name, column in rows.items():
        if name not in PREDICTION_COLUMNS:
            raise ValueError(f'no unit is declared for the column {name!r}; add it to PREDICTION_COLUMNS')
        meta = {key: text for key, text in zip(('unit', 'frame'), PREDICTION_COLUMNS[name], strict=True) if text}
        arrays.append(_arrow(np.asarray(column)))
        fields.append(pa.field(name, arrays[-1].type, metadata=meta))
    metadata = {'evg.content': 'predictions', **{f'evg.{key}': str(text) for key, text in (info or {}).items()}}
    write_table(pa.table(arrays, schema=pa.schema(fields, metadata)), path)


def _arrow(column: NDArray) -> pa.Array:
    """(N,) or (N, K); a NaN, or a vector with one, becomes null: not known."""
    if column.dtype.kind == 'U':
        return pa.array(column.tolist(), pa.string())
    if column.ndim == 1:
        return pa.array(column, mask=np.isnan(column))
    known = np.isfinite(column).all(axis=1)
    flat = pa.array(np.where(known[:, None], column, 0).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, column.shape[1], mask=pa.array(~known))


def _plain(value: Any) -> Any:
    """JSON values of nested dicts, sequences and numpy values."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _absent(value: float | None) -> bool:
    return value is None or math.isnan(value)


def number(value: float | None) -> str:
    """Two digits after the point, '-' for a number that does not exist."""
    return '-' if _absent(value) else f'{value:,.2f}'


def mean_and_interval(mean: float | None, ci95: float | None, unit: str, who: str) -> str:
    """'3.00 mm, 95 % CI +- 6.57' of a mean over subjects or persons (`who`); of a single one there is no interval."""
    interval = f', 95 % CI +- {number(ci95)}' if not _absent(ci95) else f' (one {who}: no interval)'
    return f'{number(mean)} {unit}' + ('' if _absent(mean) else interval)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the first column to the left, the others to the right."""
    first, *widths = (max(len(cell) for cell in column) for column in zip(*rows, strict=True))
    lines = []
    for name, *cells in rows:
        right = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        lines.append('  ' + '  '.join([name.ljust(first), *right]))
    return lines
