"""Pictures in a few large tar files: where the picture is stands in the index, so that each is one read.

A packed data set is again a folder with `index.parquet`; its `image` column says `pictures-000012.tar#OFFSET+SIZE`, in
bytes of the file. The members are named as WebDataset wants them, `000000042.jpg` and `000000042.json` for row 42, so
that other programs can stream the same files.
"""

import json
import os
import re
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from evg.datasets.index import INDEX_NAME, ROW_GROUP, read_persons
from evg.datasets.index_stream import index_file
from evg.datasets.pictures import PictureError, picture_file
from evg.errors import UserError
from evg.files import atomic_write

NAME = 'pictures-{:06d}.tar'
_OURS = re.compile(r'pictures-\d{6,}\.tar|\.pictures-\d{6,}\.tar\.\d+\.partial')  # also of a run that was interrupted
_BLOCK = 512  # of a tar file; a header is one of them


def pack(src: str | os.PathLike, out: str | os.PathLike, shard_bytes: int = 1 << 30) -> tuple[int, int]:
    """Copy a prepared data set with its pictures in tar files; rows, labels and pictures stay as they are.

    Shards that an interrupted run finished are made again, and removed where this run makes fewer: the index, written
    last, makes the folder a data set.

    Args:
        src: folder of a prepared data set whose pictures are files of their own.
        out: another folder.
        shard_bytes: a tar file is closed when it is as large as this; at least 1.

    Returns:
        (pictures, tar files).

    Raises:
        UserError: `out` holds an index already, that of `src` cannot be used, its pictures are no files of their own or
            cannot be read.
    """
    path, out = index_file(src), Path(out)
    if (out / INDEX_NAME).exists():
        raise UserError(f'{out / INDEX_NAME} exists: give another folder, or delete it')
    read_persons(path)  # refuses a file that is cut, or no index
    out.mkdir(parents=True, exist_ok=True)
    writer = _Shards(out, shard_bytes)
    count = 0
    with pq.ParquetFile(path) as source, atomic_write(out / INDEX_NAME) as file:
        schema = source.schema_arrow
        text = [field.name for field in schema if pa.types.is_string(field.type)]
        with pq.ParquetWriter(file, schema, compression='lz4', use_dictionary=text) as index:
            place = schema.get_field_index('image')
            for group in range(source.num_row_groups):
                table = source.read_row_group(group)
                names, ids = table['image'].to_pylist(), table['sample_id'].to_pylist()
                where = [writer.add(path.parent, name, count + i, ids[i]) for i, name in enumerate(names)]
                index.write_table(table.set_column(place, schema.field('image'), pa.array(where)), ROW_GROUP)
                count += len(where)
        writer.close()
        written = {NAME.format(number) for number in range(writer.number)}
        for file_path in out.iterdir():
            if _OURS.fullmatch(file_path.name) and file_path.name not in written:
                file_path.unlink()
    return count, writer.number


class _Shards:
    """The tar files, one after the other."""

    def __init__(self, out: Path, shard_bytes: int) -> None:
        self._out, self._limit = out, shard_bytes
        self._steps: Iterator[tarfile.TarFile] | None = None
        self.number = 0

    def add(self, root: Path, name: str, row: int, sample_id: str) -> str:
        """Copy one picture; its address."""
        if picture_file(name) != name:
            raise UserError(f'row {row}: {name} is inside another file already; only pictures of their own are packed')
        try:
            data = (root / name).read_bytes()
        except OSError as error:
            raise PictureError(f'row {row}: cannot read {root / name}: {error.strerror}') from error
        if self._steps is None:
            self._steps = self._write(self._out / NAME.format(self.number))
            self._tar = next(self._steps)
            self.number += 1
        offset = self._tar.offset + _BLOCK
        self._member(f'{row:09d}{Path(name).suffix.lower()}', data)
        self._member(f'{row:09d}.json', json.dumps({'sample_id': sample_id}).encode())
        if self._tar.offset >= self._limit:
            self.close()
        return f'{NAME.format(self.number - 1)}#{offset}+{len(data)}'

    def close(self) -> None:
        """Finish the file that is open."""
        if self._steps is not None:
            next(self._steps, None)
            self._steps = None

    def _member(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._tar.addfile(info, BytesIO(data))

    @staticmethod
    def _write(path: Path) -> Iterator[tarfile.TarFile]:
        with atomic_write(path) as file, tarfile.open(fileobj=file, mode='w', format=tarfile.USTAR_FORMAT) as tar:
            yield tar
