"""The annotation index: one Parquet file per data set, one schema for all, validated on both ends.

A prepared data set is a folder with `index.parquet` and the pictures that its `image` column names. What belongs to a
camera and screen (a "rig") is stored once in the file's metadata; a row names its rig, or none where neither is known
(normalised patches). Columns, units and frames: `evg.datasets.index_schema`.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from evg.datasets.index_columns import MISSING, Columns, checked, codes, from_cells, joined
from evg.datasets.index_schema import (
    BY_NAME,
    COLUMNS,
    GAZE_FRAMES,
    INDEX_NAME,
    POSE_RULES,
    SCHEMA_VERSION,
    SPLITS,
    IndexFileError,
    check_conventions,
    declarations,
    rig_from_json,
    rig_to_json,
)
from evg.files import atomic_write
from evg.geometry import Rig

__all__ = [
    'COLUMNS', 'GAZE_FRAMES', 'INDEX_NAME', 'POSE_RULES', 'SCHEMA_VERSION', 'SPLITS', 'Columns', 'Index',
    'IndexFileError', 'read_column', 'read_index', 'read_persons', 'rig_from_json', 'rig_to_json', 'write_index',
    'write_table',
]  # fmt: skip

ROW_GROUP = 65536


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
    check_conventions(gaze_frame, pose_rule, path)
    cells: dict[str, list] = {column.name: [] for column in COLUMNS}
    count = 0
    for count, row in enumerate(rows, start=1):
        if not row.keys() <= BY_NAME.keys():
            unknown = ', '.join(sorted(row.keys() - BY_NAME.keys()))
            raise IndexFileError(f'{path}: row {count - 1} has unknown columns: {unknown}')
        for name, values in cells.items():
            values.append(row.get(name))
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
    arrays = [from_cells(cells[column.name], column, path) for column in COLUMNS]
    table = pa.table(arrays, schema=pa.schema([column.field() for column in COLUMNS], metadata))
    checked(table, np.arange(count), rigs, path)
    write_table(table, path)
    return count


def write_table(table: pa.Table, path: str | os.PathLike) -> None:
    """Write a Parquet file that appears whole or not at all."""
    # Dictionaries and a stronger compression hardly shrink measured numbers, and double the time to open them.
    text = [field.name for field in table.schema if pa.types.is_string(field.type)]
    with atomic_write(path) as file:
        pq.write_table(table, file, compression='lz4', row_group_size=ROW_GROUP, use_dictionary=text)


@dataclass(frozen=True)
class Index:
    """An opened index, whole or a part: its columns, see `Columns`, and what its metadata declare.

    `rows` (N,) are the places of its rows in the file, for messages.
    """

    path: Path
    dataset: str
    gaze_frame: str
    pose_rule: str
    info: dict[str, Any]
    rigs: dict[str, Rig]
    columns: Columns
    rows: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def root(self) -> Path:
        """The folder that the `image` column is relative to."""
        return self.path.parent


def read_index(
    path: str | os.PathLike,
    splits: Sequence[str] | None = None,
    subjects: Sequence[str] | None = None,
) -> Index:
    """Open an index, whole or some splits or subjects of it, and check it.

    Args:
        path: the file, or the folder that holds `index.parquet`.
        splits: keep these only.
        subjects: keep these only.

    Raises:
        IndexFileError: no such file (names the command that makes one), not an index, an undeclared convention,
            invalid rows.
    """
    path = _file_of(path)
    with _parquet(path) as (file, schema):
        meta, rigs, info = declarations(schema, path)
        keep = _selection(file, splits, subjects)
        rows = np.flatnonzero(keep)
        if not len(rows):
            chosen = ', '.join(
                f'{name}={list(w)}' for name, w in (('split', splits), ('subject', subjects)) if w is not None
            )
            have = _load(file, ['split', 'subject'], np.ones(len(keep), bool), None, path)
            raise IndexFileError(
                f'{path} has no rows with {chosen}; it has splits {have.distinct("split")} and subjects '
                f'{have.distinct("subject")[:20]}'
            )
        columns = _load(file, list(BY_NAME), keep, rigs, path)
    return Index(path, meta['evg.dataset'], meta['evg.gaze_frame'], meta['evg.pose_rule'], info, rigs, columns, rows)


def read_column(
    path: str | os.PathLike, name: str, splits: Sequence[str] | None = None, subjects: Sequence[str] | None = None
) -> NDArray:
    """One column of numbers, (N,) or (N, size), of some splits or subjects; N may be 0. See `read_index`."""
    path = _file_of(path)
    with _parquet(path) as (file, schema):
        declarations(schema, path)
        return _load(file, [name], _selection(file, splits, subjects), None, path)[name]


def read_persons(
    path: str | os.PathLike, splits: Sequence[str] | None = None, subjects: Sequence[str] | None = None
) -> tuple[str, dict[str, Any], set[tuple[str, str]]]:
    """The data set's name, its info, and each (split, subject) of some splits or subjects. See `read_index`."""
    path = _file_of(path)
    with _parquet(path) as (file, schema):
        meta, _, info = declarations(schema, path)
        rows = file.read(['split', 'subject']).filter(pa.array(_selection(file, splits, subjects))).unify_dictionaries()
        found = rows.group_by(['split', 'subject']).aggregate([]).to_pylist()
    return meta['evg.dataset'], info, {(row['split'] or '', row['subject'] or '') for row in found}


def _file_of(path: str | os.PathLike) -> Path:
    path = Path(path)
    if path.is_dir() or path.suffix != '.parquet':
        path = path / INDEX_NAME
    if not path.is_file():
        raise IndexFileError(
            f'no data at {path}: prepare it with `python tools/prepare_data.py NAME --out {path.parent}` '
            '(docs/datasets.md lists the names), or set data_root'
        )
    return path


@contextmanager
def _parquet(path: Path):
    """An opened Parquet file and its schema; what is damaged in it becomes an `IndexFileError`."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise IndexFileError(f'{path} is not a whole Parquet file ({error}); prepare the data again') from error
    repeating = [column.name for column in COLUMNS if column.repeats and column.name in schema.names]
    try:
        with pq.ParquetFile(path, read_dictionary=repeating, memory_map=True) as file:
            yield file, schema
    except (pa.ArrowInvalid, OSError) as error:
        raise IndexFileError(f'{path} is damaged ({error}); prepare the data again') from error


def _selection(file: pq.ParquetFile, splits: Sequence[str] | None, subjects: Sequence[str] | None) -> NDArray[np.bool_]:
    """(N,) which rows of the file are wanted."""
    keep = np.ones(file.metadata.num_rows, bool)
    for name, wanted in (('split', splits), ('subject', subjects)):
        if wanted is not None:
            text, allowed = joined(file.read([name])[name].chunks, repeats=True), set(map(str, wanted))
            good = np.array([*(value in allowed for value in text.dictionary.to_pylist()), False])
            keep &= good[codes(text)]
    return keep


def _load(
    file: pq.ParquetFile, names: list[str], keep: NDArray[np.bool_], rigs: Mapping[str, Rig] | None, path: Path
) -> Columns:
    """Some columns, group of rows by group of rows, so that hardly more memory is needed than they take in the end.

    Args:
        file: the file.
        names: of the columns.
        keep: (N,) which rows of the file.
        rigs: by key, to check the rows with; None checks nothing.
        path: for messages.
    """
    count = int(keep.sum())
    numbers: dict[str, NDArray] = {}
    texts: dict[str, list] = {name: [] for name in names if BY_NAME[name].type == 'string'}
    first = done = 0
    for group in range(file.num_row_groups):
        length = file.metadata.row_group(group).num_rows
        rows = first + np.flatnonzero(keep[first : first + length])
        first += length
        if not len(rows):
            continue
        table = file.read_row_group(group, names)
        if len(rows) < length:
            table = table.filter(pa.array(keep[first - length : first]))
        arrays = checked(table, rows, rigs, path)
        for name in texts:
            texts[name] += table[name].chunks
        for name, array in arrays.items():
            if name not in numbers:
                if table[name].null_count == len(array):
                    continue
                numbers[name] = np.empty((count, *array.shape[1:]), array.dtype)
                numbers[name][:done] = MISSING[array.dtype.name]
            numbers[name][done : done + len(array)] = array
        done += len(rows)
    # What the reading needed would count as used memory of this process and of all its workers.
    pa.default_memory_pool().release_unused()
    for name in set(names) - texts.keys() - numbers.keys():
        # One value seen N times: a column that a data set does not have costs no memory.
        column = BY_NAME[name]
        nothing = np.array(MISSING[column.type], column.type)
        numbers[name] = np.broadcast_to(nothing, (count, column.size) if column.size else (count,))
    return Columns(numbers, {name: joined(chunks, BY_NAME[name].repeats) for name, chunks in texts.items()})
