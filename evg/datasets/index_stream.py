"""An index read group by group, for those that do not fit into memory."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from evg.datasets.index import Index, _file_of, _parquet
from evg.datasets.index_columns import Columns, checked, joined
from evg.datasets.index_schema import BY_NAME, declarations


def index_file(path: str | os.PathLike) -> Path:
    """The index file of a folder, or the file itself. Raises IndexFileError where there is none."""
    return _file_of(path)


def index_groups(path: str | os.PathLike, splits: Sequence[str] | None = None) -> Iterator[Index]:
    """The rows of an index, a group of at most 65,536 at a time, checked as `read_index` does.

    Args:
        path: the file, or the folder that holds `index.parquet`.
        splits: keep these only; groups without such rows are left out.

    Yields:
        Each group as an index of its own; `rows` are places in the whole file.

    Raises:
        IndexFileError: as `read_index`.
    """
    path = _file_of(path)
    with _parquet(path) as (file, schema):
        meta, rigs, info = declarations(schema, path)
        first = 0
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, list(BY_NAME))
            rows = np.arange(first, first + len(table))
            first += len(table)
            if splits is not None:
                keep = np.isin(table['split'].to_numpy(), list(splits))
                table, rows = table.filter(pa.array(keep)), rows[keep]
            if not len(rows):
                continue
            numbers = checked(table, rows, rigs, path)
            texts = {
                name: joined(table[name].chunks, column.repeats)
                for name, column in BY_NAME.items()
                if column.type == 'string'
            }
            columns = Columns(numbers, texts)
            yield Index(
                path, meta['evg.dataset'], meta['evg.gaze_frame'], meta['evg.pose_rule'], info, rigs, columns, rows
            )
