"""The annotation index: one Parquet file per data set, one schema for all, validated on both ends.

A prepared data set is a folder with `index.parquet` and the pictures that its `image` column names. What belongs to a
camera and screen (a "rig") is stored once in the file's metadata; a row names its rig, or none where neither is known
(normalised patches).

Convention:
    Every column's unit and frame is in its field metadata, see `COLUMNS`; frames are those of docs/conventions.md.
    A missing label is null, never NaN. The file's metadata declares the schema version and the frame of the gaze
    vectors; a file without that declaration is not read.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from evg.errors import UserError
from evg.files import atomic_write
from evg.geometry import Rig

INDEX_NAME = 'index.parquet'
SCHEMA_VERSION = 1
# See docs/conventions.md.
GAZE_FRAMES = ('camera', 'normalised_r', 'normalised_sr', 'line_of_sight', 'head')
SPLITS = ('train', 'val', 'test')


class IndexFileError(UserError):
    """An index that cannot be used; the message names file, row and column."""


@dataclass(frozen=True)
class Column:
    """One column: its size (0 for a scalar), type, unit and frame."""

    name: str
    type: str  # 'string', 'int32', 'float32', 'float64', 'bool'
    size: int = 0
    unit: str = ''
    frame: str = ''
    required: bool = False

    def field(self) -> pa.Field:
        kind = {'string': pa.string(), 'bool': pa.bool_()}.get(self.type) or getattr(pa, self.type)()
        meta = {k: v for k, v in (('unit', self.unit), ('frame', self.frame)) if v}
        return pa.field(self.name, pa.list_(kind, self.size) if self.size else kind, not self.required, meta)


COLUMNS = (
    Column('sample_id', 'string', required=True),
    Column('image', 'string', unit='path relative to the index, or FILE.h5#DATASET/ROW', required=True),
    Column('split', 'string', unit='train, val or test', required=True),
    Column('subject', 'string', required=True),
    Column('sequence', 'string', unit='recording'),
    Column('frame', 'int32', unit='number of the picture in its recording'),
    Column('time_s', 'float64', unit='s'),
    Column('camera', 'string'),
    Column('device', 'string'),
    Column('rig', 'string', unit='key of a rig in the metadata'),
    Column('pog_screen_px', 'float64', 2, 'px', "screen, origin upper left, x to the user's right, y down"),
    Column('pog_plane_offset_mm', 'float64', 2, 'mm', "plane (u to the user's right, v down), offset rule"),
    Column('pog_plane_pose_mm', 'float64', 2, 'mm', "plane (u to the user's right, v down), calibrated pose"),
    Column('target_cam_mm', 'float64', 3, 'mm', 'camera'),
    Column('face_origin_mm', 'float64', 3, 'mm', 'camera'),
    Column('left_eye_mm', 'float64', 3, 'mm', "camera; the subject's left eye"),
    Column('right_eye_mm', 'float64', 3, 'mm', "camera; the subject's right eye"),
    Column('gaze', 'float64', 3, 'unit vector, eye to target', "the file's gaze_frame"),
    Column('head_rvec', 'float64', 3, 'Rodrigues vector, rad', 'camera'),
    Column('head_tvec_mm', 'float64', 3, 'mm', 'camera'),
    Column('head_pitchyaw_rad', 'float64', 2, 'rad', "direction of the face; the file's gaze_frame"),
    Column('norm_rotation', 'float64', 9, 'row-major R of Zhang 2018', 'camera to normalised camera'),
    Column('norm_scale', 'float64', unit='S = diag(1, 1, norm_scale)'),
    Column('face_box_px', 'float32', 4, 'px', 'stored picture, x1 y1 x2 y2'),
    Column('eye_landmarks_px', 'float32', 24, 'px', 'stored picture, 12 points 36..47 of the 68'),
    Column('pupil_landmarks_px', 'float32', 32, 'px', 'stored picture, 8 points of the right, 8 of the left pupil'),
    Column('eyes_open', 'bool', unit='false in a blink'),
)
_BY_NAME = {column.name: column for column in COLUMNS}


def write_index(
    path: str | os.PathLike,
    rows: Iterable[Mapping[str, Any]],
    rigs: Mapping[str, Rig],
    dataset: str,
    gaze_frame: str = 'camera',
    pose_rule: str = 'ray',
    info: Mapping[str, Any] | None = None,
) -> int:
    """Validate rows and write them as an index; the file appears only when it is whole.

    Args:
        path: the file to write, `.../index.parquet`.
        rows: mappings with the names of `COLUMNS`; a missing key or None is null. Arrays are flattened row-major.
        rigs: camera and screen by key.
        dataset: name of the data set.
        gaze_frame: frame of the `gaze` column, one of `GAZE_FRAMES`.
        pose_rule: how `pog_plane_pose_mm` was made, 'ray' (through the face origin) or 'projection' (z dropped).
        info: anything else worth keeping (JSON values), for instance the counts of dropped frames by reason.

    Returns:
        The number of rows.

    Raises:
        IndexFileError: no rows, an unknown column, a wrong size, a value that is not finite, an unknown rig or split.
    """
    path = Path(path)
    if gaze_frame not in GAZE_FRAMES:
        raise IndexFileError(f'{path}: gaze_frame {gaze_frame!r} is not one of {", ".join(GAZE_FRAMES)}')
    if pose_rule not in ('ray', 'projection'):
        raise IndexFileError(f"{path}: pose_rule {pose_rule!r} is neither 'ray' nor 'projection'")
    columns: dict[str, list] = {column.name: [] for column in COLUMNS}
    count = 0
    for count, row in enumerate(rows, start=1):
        unknown = set(row) - set(_BY_NAME)
        if unknown:
            raise IndexFileError(f'{path}: row {count - 1} has unknown columns: {", ".join(sorted(unknown))}')
        for column in COLUMNS:
            columns[column.name].append(_checked(row.get(column.name), column, count - 1, path))
    if not count:
        raise IndexFileError(f'{path}: there is not one row to write')
    metadata = {
        'evg.version': str(SCHEMA_VERSION),
        'evg.dataset': dataset,
        'evg.gaze_frame': gaze_frame,
        'evg.pose_rule': pose_rule,
        'evg.rigs': json.dumps({key: rig_to_json(rig) for key, rig in rigs.items()}),
        'evg.info': json.dumps(dict(info or {})),
    }
    schema = pa.schema([column.field() for column in COLUMNS], metadata)
    table = pa.table([pa.array(columns[f.name], f.type) for f in schema], schema=schema)
    _check_rows(table, rigs, path)
    write_table(table, path)
    return count


def write_table(table: pa.Table, path: str | os.PathLike) -> None:
    """Write a Parquet file that appears whole or not at all."""
    with atomic_write(path) as file:
        pq.write_table(table, file, compression='zstd', row_group_size=65536)


@dataclass(frozen=True)
class Index:
    """An opened index: columns as numpy arrays, missing labels as NaN rows, see `COLUMNS` for units and frames."""

    path: Path
    dataset: str
    gaze_frame: str
    pose_rule: str
    info: dict[str, Any]
    rigs: dict[str, Rig]
    columns: dict[str, NDArray]

    def __len__(self) -> int:
        return len(self.columns['sample_id'])

    @property
    def root(self) -> Path:
        """The folder that the `image` column is relative to."""
        return self.path.parent


def read_index(
    path: str | os.PathLike,
    splits: Sequence[str] | None = None,
    subjects: Sequence[str] | None = None,
) -> Index:
    """Open an index, whole or some splits or subjects of it.

    Args:
        path: the file, or the folder that holds `index.parquet`.
        splits: keep these only.
        subjects: keep these only.

    Raises:
        IndexFileError: no such file (names the command that makes one), not an index, an undeclared convention,
            invalid rows.
    """
    path = Path(path)
    if path.is_dir() or path.suffix != '.parquet':
        path = path / INDEX_NAME
    if not path.is_file():
        raise IndexFileError(
            f'no data at {path}: prepare it with `python tools/prepare_data.py NAME --out {path.parent}` '
            '(docs/datasets.md lists the names), or set data_root'
        )
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise IndexFileError(f'{path} is not a whole Parquet file ({error}); prepare the data again') from error
    meta = {k.decode(): v.decode() for k, v in (schema.metadata or {}).items()}
    _check_declaration(meta, schema, path)
    filters = []
    for name, wanted in (('split', splits), ('subject', subjects)):
        if wanted is not None:
            filters.append((name, 'in', [str(w) for w in wanted]))
    try:
        table = pq.read_table(path, columns=[c.name for c in COLUMNS], filters=filters or None)
    except (pa.ArrowInvalid, OSError) as error:
        raise IndexFileError(f'{path} is damaged ({error}); prepare the data again') from error
    if not len(table):
        chosen = ', '.join(
            f'{name}={list(w)}' for name, w in (('split', splits), ('subject', subjects)) if w is not None
        )
        have = {
            name: sorted(set(pq.read_table(path, columns=[name])[name].to_pylist()))[:20]
            for name in ('split', 'subject')
        }
        raise IndexFileError(
            f'{path} has no rows with {chosen}; it has splits {have["split"]} and subjects {have["subject"]}'
        )
    rigs = {key: rig_from_json(value) for key, value in json.loads(meta['evg.rigs']).items()}
    _check_rows(table, rigs, path)
    return Index(
        path,
        meta['evg.dataset'],
        meta['evg.gaze_frame'],
        meta['evg.pose_rule'],
        json.loads(meta.get('evg.info', '{}')),
        rigs,
        {column.name: _to_numpy(table[column.name], column) for column in COLUMNS},
    )


def rig_to_json(rig: Rig) -> dict[str, Any]:
    """A rig as JSON values."""
    as_list = {name: getattr(rig, name) for name in Rig.__dataclass_fields__}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in as_list.items()}


def rig_from_json(values: Mapping[str, Any]) -> Rig:
    """The inverse of `rig_to_json`."""
    return Rig(**{name: value for name, value in values.items() if value is not None})


def _checked(value: Any, column: Column, row: int, path: Path) -> Any:
    """One cell as a plain value of its column, or an error that names it."""
    if value is None:
        if column.required:
            raise IndexFileError(f'{path}: row {row} has no {column.name}')
        return None
    if not column.size:
        value = value.item() if isinstance(value, np.generic) else value
        if column.type == 'float64' and not np.isfinite(value):
            raise IndexFileError(f'{path}: row {row}: {column.name} is {value}; a missing value must be null')
        return value
    array = np.asarray(value, np.float64).reshape(-1)
    if array.size != column.size:
        raise IndexFileError(f'{path}: row {row}: {column.name} has {array.size} values, {column.size} are needed')
    if not np.isfinite(array).all():
        raise IndexFileError(f'{path}: row {row}: {column.name} is {array.tolist()}; a missing label must be null')
    return array


def _check_declaration(meta: Mapping[str, str], schema: pa.Schema, path: Path) -> None:
    if 'evg.version' not in meta:
        raise IndexFileError(f'{path} is a Parquet file but not an evg index: its conventions are undeclared')
    if int(meta['evg.version']) != SCHEMA_VERSION:
        raise IndexFileError(
            f'{path} has index version {meta["evg.version"]}, this evg reads {SCHEMA_VERSION}: prepare the data again'
        )
    if meta.get('evg.gaze_frame') not in GAZE_FRAMES:
        raise IndexFileError(f'{path} does not declare the frame of its gaze vectors (evg.gaze_frame)')
    missing = [column.name for column in COLUMNS if column.name not in schema.names]
    if missing:
        raise IndexFileError(f'{path} lacks the columns {", ".join(missing)}')


def _check_rows(table: pa.Table, rigs: Mapping[str, Rig], path: Path) -> None:
    """Vectorised checks of whole columns; each error names the first bad row."""
    for column in COLUMNS:
        values = table[column.name]
        if column.required and values.null_count:
            raise IndexFileError(f'{path}: row {_first(values.is_null())} has no {column.name}')
        if column.type.startswith('float'):
            array = _to_numpy(values, column).reshape(len(table), -1)
            bad = ~np.isfinite(array).all(axis=1) & values.is_valid().to_numpy()
            if bad.any():
                raise IndexFileError(
                    f'{path}: row {int(bad.argmax())}: {column.name} is {array[bad.argmax()].tolist()}'
                )
    for name, allowed in (('rig', {None, *rigs}), ('split', set(SPLITS))):
        for value in table[name].unique().to_pylist():
            if value not in allowed:
                row = table[name].to_pylist().index(value)
                raise IndexFileError(
                    f'{path}: row {row}: {name} {value!r} is not one of {sorted(filter(None, allowed))[:20]}'
                )
    box = _to_numpy(table['face_box_px'], _BY_NAME['face_box_px'])
    # The picture's size, where a rig tells it; px of its edge may be counted either way.
    used = table['rig'].combine_chunks().dictionary_encode()
    sizes = np.array([*(rigs[key].image_size for key in used.dictionary.to_pylist()), (np.inf, np.inf)])
    limit = sizes[used.indices.fill_null(len(sizes) - 1).to_numpy()]
    with np.errstate(invalid='ignore'):
        for bad, text in (
            ((box[:, 2] <= box[:, 0]) | (box[:, 3] <= box[:, 1]), 'is not x1 < x2, y1 < y2'),
            ((box[:, :2] < -1).any(axis=1) | (box[:, 2:] > limit).any(axis=1), 'is not inside the picture'),
        ):
            if bad.any():
                row = int(bad.argmax())
                raise IndexFileError(f'{path}: row {row}: face_box_px {box[row].tolist()} {text}')


def _first(mask: pa.ChunkedArray) -> int:
    return int(mask.to_numpy().argmax())


def _to_numpy(values: pa.ChunkedArray, column: Column) -> NDArray:
    """(N,) or (N, size); null becomes NaN, -1, False or ''."""
    if column.size and values.null_count == len(values):
        # One NaN seen N times: a column that a data set does not have costs no memory.
        return np.broadcast_to(np.array(np.nan, column.type), (len(values), column.size))
    if column.size:
        flat = np.full((len(values), column.size), np.nan, dtype=column.type)
        valid = values.is_valid().to_numpy()
        flat[valid] = (
            values.drop_null().combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, column.size)
        )
        return flat
    fill = {'string': '', 'int32': -1, 'bool': True, 'float64': np.nan, 'float32': np.nan}[column.type]
    filled = values.fill_null(fill)
    if column.type == 'string':
        # One fixed-width array, not a million Python objects: workers share its pages after a fork.
        return np.asarray(filled.to_pylist(), dtype=np.str_) if len(values) else np.empty(0, np.str_)
    return filled.to_numpy()
