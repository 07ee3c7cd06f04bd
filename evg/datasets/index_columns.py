"""Columns of an index between Arrow and numpy, and the checks of their values."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from evg.datasets.index_schema import BY_NAME, SPLITS, Column, IndexFileError
from evg.geometry import Rig

# What stands for a missing value of each type.
MISSING = {'int32': -1, 'bool': True, 'float64': np.nan, 'float32': np.nan}


class Columns(Mapping[str, NDArray]):
    """The columns of an opened index by name, as numpy arrays (N,) or (N, size); see `COLUMNS` for units and frames.

    A missing label is NaN, a missing number -1, a missing text ''; eyes of which nothing is known are open. Numbers are
    arrays all along, one block a column, whose pages forked workers share. Text stays in Arrow (a million Python
    strings take seconds, and each worker copies them) and becomes an array when it is asked for; `text` gives a cell.

    Args:
        numbers: arrays by name.
        texts: `pa.LargeStringArray`, or `pa.DictionaryArray` for a text that repeats, by name.
    """

    def __init__(self, numbers: dict[str, NDArray], texts: dict[str, Any]) -> None:
        self._numbers = numbers
        self._texts = texts

    def __getitem__(self, name: str) -> NDArray:
        if name not in self._texts:
            return self._numbers[name]
        text = self._texts[name]
        if isinstance(text, pa.DictionaryArray):
            words = np.array([*text.dictionary.to_pylist(), ''], np.str_)
            return words[codes(text)]
        return np.array(text.fill_null('').to_pylist(), np.str_)

    def __iter__(self) -> Iterator[str]:
        yield from self._texts
        yield from self._numbers

    def __len__(self) -> int:
        return len(self._texts) + len(self._numbers)

    def text(self, name: str, row: int) -> str:
        """One cell of a text column, '' where it is missing."""
        return self._texts[name][int(row)].as_py() or ''

    def distinct(self, name: str) -> list[str]:
        """The different values of a text column, sorted."""
        return sorted(value or '' for value in pc.unique(self._texts[name]).to_pylist())

    def rows_of(self, sample_ids: ArrayLike) -> NDArray[np.intp]:
        """(N,) the rows of samples, by name.

        Raises:
            KeyError: a name that no row has.
        """
        wanted = pa.array(np.asarray(sample_ids).tolist(), pa.large_string())
        rows = pc.index_in(wanted, self._texts['sample_id'])
        if rows.null_count:
            raise KeyError(f'the index has no sample {wanted.filter(rows.is_null())[0].as_py()!r}')
        return rows.to_numpy().astype(np.intp)


def from_cells(cells: Sequence[Any], column: Column, path: Path) -> pa.Array:
    """A column of Python or numpy values, None where missing, as Arrow; arrays are flattened row-major."""
    kind = column.field().type
    if not column.size:
        return pa.array([cell.item() if isinstance(cell, np.generic) else cell for cell in cells], kind)
    known = np.array([cell is not None for cell in cells], bool)
    flat = [np.reshape(cell, -1) for cell in cells if cell is not None]
    wrong = next((i for i, cell in enumerate(flat) if len(cell) != column.size), None)
    if wrong is not None:
        row = int(np.flatnonzero(known)[wrong])
        raise IndexFileError(
            f'{path}: row {row}: {column.name} has {len(flat[wrong])} values, {column.size} are needed'
        )
    values = np.zeros((len(cells), column.size), column.type)
    if flat:
        values[known] = flat
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), column.size, mask=pa.array(~known))


def to_numpy(values: Any, column: Column) -> NDArray:
    """An Arrow array of numbers as (N,) or (N, size); see `Columns` for what stands for a missing value."""
    if not column.size:
        return values.fill_null(MISSING[column.type]).to_numpy(zero_copy_only=False)
    flat = values.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(-1, column.size)
    if len(flat) == len(values):
        return flat
    spread = np.full((len(values), column.size), np.nan, column.type)
    spread[values.is_valid().to_numpy(zero_copy_only=False)] = flat
    return spread


def joined(chunks: Sequence[Any], repeats: bool) -> Any:
    """The pieces of a text column as one array; see `Columns`."""
    if repeats:
        kind = pa.dictionary(pa.int32(), pa.string())
        return pa.chunked_array(chunks, kind).unify_dictionaries().combine_chunks()
    return pa.chunked_array([chunk.cast(pa.large_string()) for chunk in chunks], pa.large_string()).combine_chunks()


def codes(text: pa.DictionaryArray) -> NDArray[np.int64]:
    """(N,) place of each value in the dictionary; the place after the last one for a missing value."""
    return text.indices.fill_null(len(text.dictionary)).to_numpy(zero_copy_only=False)


def checked(table: pa.Table, rows: NDArray[np.intp], rigs: Mapping[str, Rig] | None, path: Path) -> dict[str, NDArray]:
    """The columns of numbers of some rows as arrays; refuses what no index may hold.

    Args:
        table: the rows, in columns of `COLUMNS`.
        rows: (N,) their numbers in the file.
        rigs: by key; None leaves split, rig and face box unchecked.
        path: the file.

    Raises:
        IndexFileError: a required value is missing, a number is not finite, a split or rig is unknown, a face box is
            empty or outside its picture; names the file, the first such row and the value.
    """
    arrays: dict[str, NDArray] = {}
    for name in table.column_names:
        column, values = BY_NAME[name], table[name].combine_chunks()
        missing = values.is_null().to_numpy(zero_copy_only=False) if values.null_count else None
        if column.required and missing is not None:
            raise IndexFileError(f'{path}: row {rows[missing.argmax()]} has no {name}')
        if column.type == 'string':
            continue
        array = arrays[name] = to_numpy(values, column)
        # A sum is finite only if all its terms are, and takes no memory; what overflows is looked at one by one.
        known = array if missing is None else array[~missing]
        if column.type.startswith('float') and not np.isfinite(known.sum()):
            bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
            if missing is not None:
                bad &= ~missing
            _refuse(bad, array, name, 'is not finite; a missing value must be null', rows, path)
    if rigs is not None:
        _check_rows(table, arrays['face_box_px'], rigs, rows, path)
    return arrays


def _check_rows(table: pa.Table, box: NDArray, rigs: Mapping[str, Rig], rows: NDArray, path: Path) -> None:
    """Splits, rigs and face boxes (N, 4); see `checked`."""
    split, rig = (_dictionary(table[name]) for name in ('split', 'rig'))
    for name, text, allowed in (('split', split, SPLITS), ('rig', rig, tuple(rigs))):
        words = text.dictionary.to_pylist()
        bad = np.array([word not in allowed for word in words] + [False])[codes(text)]
        _refuse(bad, text, name, f'is not one of {sorted(allowed)[:20]}', rows, path)
    # The picture's size, where a rig tells it; px of its edge may be counted either way.
    unknown = (np.inf, np.inf)
    sizes = [rigs[key].image_size if key in rigs else unknown for key in rig.dictionary.to_pylist()]
    limit = np.array([*sizes, unknown])[codes(rig)]
    with np.errstate(invalid='ignore'):
        for wrong, text in (
            ((box[:, 2] <= box[:, 0]) | (box[:, 3] <= box[:, 1]), 'is not x1 < x2, y1 < y2'),
            (np.any(box[:, :2] < -1, axis=1) | np.any(box[:, 2:] > limit, axis=1), 'is not inside the picture'),
        ):
            _refuse(wrong, box, 'face_box_px', text, rows, path)


def _dictionary(values: pa.ChunkedArray) -> pa.DictionaryArray:
    array = values.combine_chunks()
    return array if isinstance(array, pa.DictionaryArray) else array.dictionary_encode()


def _refuse(bad: NDArray[np.bool_], values: Any, name: str, text: str, rows: NDArray, path: Path) -> None:
    """An error about the first bad row, if there is one."""
    if bad.any():
        row = int(bad.argmax())
        value = values[row].tolist() if isinstance(values, np.ndarray) else repr(values[row].as_py())
        raise IndexFileError(f'{path}: row {rows[row]}: {name} {value} {text}')
