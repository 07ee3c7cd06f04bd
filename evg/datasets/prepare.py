"""Runs a converter: jobs on all cores, resuming, counting, and the index at the end.

A finished unit leaves a part in `OUT/.prepare/parts` (written, synced, renamed), so that a restarted run goes on where
the last one stopped; a unit that cannot be read is reported, counted and skipped; the index is written last.
"""

import contextlib
import errno
import json
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from evg.datasets.converter import BadUnitError, Converter, Unit, UnitResult
from evg.datasets.index import INDEX_NAME, SPLITS, IndexFileError, write_index, write_table
from evg.datasets.pictures import picture_file
from evg.datasets.shards import Shard, check_shards, finish_shard
from evg.errors import UserError
from evg.files import atomic_write

STATE_DIR = '.prepare'
# Nothing can be written any more: going on with the next unit would fail in the same way.
_FATAL = {errno.ENOSPC: 'the disk is full', errno.EDQUOT: 'the disk quota is used up', errno.EROFS: 'read-only disk'}
# A wrong format or a wrong convention shows in the first units; do not read on for hours.
_GIVE_UP_AFTER = 8


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that the file appears whole or not at all."""
    with atomic_write(path) as file:
        file.write(json.dumps(value).encode())


def prepare(
    converter: Converter,
    out: str | os.PathLike,
    jobs: int | None = None,
    limit: int | None = None,
    shard: Shard | None = None,
    merge: int | None = None,
) -> dict:
    """Convert a data set, or go on with an interrupted conversion.

    Args:
        converter: the data set with its settings.
        out: folder for the pictures, the index and the state of the work.
        jobs: worker processes; None for one per core, 1 for none beside this one.
        limit: convert this many units only, spread evenly over all, for a trial.
        shard: convert this share only and make no index.
        merge: convert nothing, make the index of so many shares, which must all be there.

    Returns:
        The summary, also printed and stored as the index's `info`; empty for a share.

    Raises:
        UserError: another data set or other settings in `out`, nothing to read, nothing to keep, a full disk, shares
            that are not one whole.
    """
    out = Path(out).resolve()
    units = converter.units()
    repeated = [name for name, n in Counter(u.name for u in units).items() if n > 1]
    if repeated:
        raise ValueError(f'{type(converter).__name__}.units() names {repeated[0]!r} twice')
    if limit is not None:
        units = [units[i * len(units) // limit] for i in range(limit)] if limit < len(units) else units
    _claim(converter, out)
    parts = _Parts(out)
    if merge is not None:
        return _merge(converter, units, out, merge)
    everything = units
    if shard is not None:
        units = shard.of(units)
    todo = [unit for unit in units if not parts.finished(unit)]
    if len(todo) < len(units):
        print(f'{len(units) - len(todo)} of {len(units)} {converter.unit_name}s are finished in {out}; doing the rest')
    try:
        failed = _run_all(converter, units, todo, out, min(jobs or _cores(), max(len(todo), 1)))
        if shard is not None:
            finish_shard(shard, everything, converter.settings(), failed, out)
            print(f'{out}: share {shard.number} of {shard.count} is done; when all are: --merge {shard.count}')
            return {}
        summary = _finish(converter, out, [unit for unit in units if unit.name not in failed], failed)
    except OSError as error:
        full = _fatal(error, out)
        if full is None:
            raise
        raise full from None
    except KeyboardInterrupt:
        done = sum(parts.finished(unit) for unit in units)
        print(
            f'\nstopped: {done} of {len(units)} {converter.unit_name}s are finished; the same command goes on from '
            'there',
            file=sys.stderr,
        )
        raise SystemExit(130) from None
    print_summary(summary, out, converter.made)
    return summary


def _merge(converter: Converter, units: list[Unit], out: Path, count: int) -> dict[str, Any]:
    """The index of a conversion that was divided over machines."""
    failed = check_shards(count, units, converter.settings(), out)
    kept, parts = [unit for unit in units if unit.name not in failed], _Parts(out)
    absent = [unit.name for unit in kept if not parts.finished(unit)]
    if absent:
        raise UserError(
            f'files of {len(absent)} {converter.unit_name}s are missing in {out}, the first is {absent[0]}: copy the '
            'whole folder of every machine'
        )
    summary = _finish(converter, out, kept, failed)
    print_summary(summary, out, converter.made)
    return summary


def _fatal(error: Exception, out: Path) -> UserError | None:
    if not isinstance(error, OSError) or error.errno not in _FATAL:
        return None
    return UserError(f'{_FATAL[error.errno]} ({out}): what is finished stays; make room and repeat the command')


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def print_summary(summary: Mapping[str, Any], out: Path, made: str = '') -> None:
    """Print what was kept and dropped; `made`: see `Converter`."""
    done = made.format(out=out) if made else f'units finished, {summary["rows"]} rows in the index'
    print(f'{out}: {summary["units"]} {done}')
    for split, (rows, subjects) in summary['splits'].items():
        print(f'  {split:6s} {rows:8d} rows, {subjects} subjects')
    for title, counts in (('dropped', summary['dropped']), ('note', summary['notes'])):
        for reason, count in counts.items():
            print(f'  {title}: {count} {reason}')
    for name, check in summary['checks'].items():
        print(f'  check: {name}: median {check["median"]:.3g}, max {check["max"]:.3g} ({check["n"]} rows)')
    if summary['failed']:
        print(
            f'  FAILED and skipped: {len(summary["failed"])} units, see {out / STATE_DIR / "failures.txt"}; '
            'the same command tries them again'
        )


def _claim(converter: Converter, out: Path) -> None:
    """Make `out` this converter's, or refuse it."""
    file, settings = out / STATE_DIR / 'settings.json', converter.settings()
    try:
        stored = json.loads(file.read_text(encoding='utf-8')) if file.exists() else None
    except ValueError:
        raise UserError(f'{file} is damaged: delete {out} and start again') from None
    if stored is None and (out / INDEX_NAME).exists():
        raise UserError(f'{out} holds an index that was not made here: give another --out')
    if stored is not None and stored != settings:
        keys = [k for k in {**stored, **settings} if stored.get(k) != settings.get(k)]
        changes = ', '.join(f'{k}: {stored.get(k)} then, {settings.get(k)} now' for k in keys)
        raise UserError(f'{out} was begun with other settings ({changes}): give another --out, or delete that folder')
    if stored is None:
        try:
            write_json(file, settings)
        except OSError as error:
            raise UserError(f'cannot write to {out}: {error.strerror}; give another --out') from error


class _Parts:
    """The finished units below `out`: NAME.json says that one is finished, NAME.parquet holds its rows, if any."""

    def __init__(self, out: Path):
        self.out = out
        self.folder = out / STATE_DIR / 'parts'

    def _path(self, unit: Unit, suffix: str) -> Path:
        return self.folder / f'{unit.name}{suffix}'

    def write(self, converter: Converter, unit: Unit, result: UnitResult) -> None:
        if result.rows:
            write_index(
                self._path(unit, '.parquet'),
                result.rows,
                result.rigs,
                converter.name,
                converter.gaze_frame,
                converter.pose_rule,
            )
        size = self._bytes([row['image'] for row in result.rows] + result.files)
        marker = {'rows': len(result.rows), 'files': result.files, 'bytes': size}
        for name in ('dropped', 'notes', 'checks'):
            marker[name] = dict(getattr(result, name))
        # Last: without this file the unit does not count.
        write_json(self._path(unit, '.json'), marker)

    def marker(self, unit: Unit) -> dict[str, Any]:
        return json.loads(self._path(unit, '.json').read_text(encoding='utf-8'))

    def rows(self, unit: Unit) -> tuple[pa.Table, dict[bytes, bytes]]:
        """Its rows and the metadata of its part."""
        path = self._path(unit, '.parquet')
        try:
            return pq.read_table(path), pq.read_schema(path).metadata
        except pa.ArrowException as error:
            raise UserError(f'{path} is damaged ({error}): delete it and repeat the command') from error

    def finished(self, unit: Unit) -> bool:
        """Whether its part and all its files are there, in the size in which they were written."""
        try:
            marker = self.marker(unit)
            names = marker['files']
            if marker['rows']:
                names = names + pq.read_table(self._path(unit, '.parquet'), columns=['image'])['image'].to_pylist()
            return len(names) == marker['rows'] + len(marker['files']) and self._bytes(names) == marker['bytes']
        except (OSError, ValueError, KeyError, pa.ArrowException):
            return False

    def _bytes(self, names: Sequence[str]) -> int:
        return sum(os.stat(self.out / picture_file(name)).st_size for name in names)


def _run_unit(converter: Converter, unit: Unit, out: Path) -> tuple[str, str] | None:
    """Convert one unit and leave its part. Returns None, or what went wrong: one line and the details."""
    try:
        _Parts(out).write(converter, unit, converter.convert(unit, out))
    except (BadUnitError, IndexFileError) as error:
        return str(error), str(error)
    except UserError:
        raise
    except MemoryError:
        raise UserError(f'out of memory at {unit.name}: what is finished stays; go on with fewer --jobs') from None
    except Exception as error:
        full = _fatal(error, out)
        if full is not None:
            raise full from None
        return f'{type(error).__name__}: {error}', traceback.format_exc()
    return None


def _run_all(converter: Converter, units: list[Unit], todo: list[Unit], out: Path, jobs: int) -> dict[str, str]:
    """Convert the units that are to do. Returns the failed ones: name -> one line."""
    failed: dict[str, str] = {}
    log = out / STATE_DIR / 'failures.txt'
    log.unlink(missing_ok=True)
    terminal = sys.stderr.isatty()
    total = sum(unit.size for unit in units)
    bar = tqdm(
        total=total,
        initial=total - sum(unit.size for unit in todo),
        desc=converter.name,
        unit='frame' if total > len(units) else converter.unit_name,
        mininterval=0.2 if terminal else 20,
        dynamic_ncols=terminal,
    )
    with bar, contextlib.closing(_results(converter, todo, out, jobs)) as results:
        for done, (unit, failure) in enumerate(results, start=1):
            bar.update(unit.size)
            if failure is None:
                continue
            failed[unit.name] = failure[0]
            with open(log, 'a', encoding='utf-8') as file:
                file.write(f'{unit.name}: {failure[1]}\n')
            if len(failed) <= _GIVE_UP_AFTER:
                tqdm.write(f'skipped {unit.name}: {failure[0]}', file=sys.stderr)
            if len(failed) == done == _GIVE_UP_AFTER and len(todo) == len(units):
                raise UserError(
                    f'the first {done} {converter.unit_name}s all failed ({unit.name}: {failure[0]}); details in {log}'
                )
    return failed


def _results(converter: Converter, todo: list[Unit], out: Path, jobs: int) -> Generator[tuple[Unit, Any], None, None]:
    """(unit, failure or None) in the order in which they end."""
    if jobs == 1:
        for unit in todo:
            yield unit, _run_unit(converter, unit, out)
        return
    others = multiprocessing.active_children()
    # spawn: forking a process that already runs threads (OpenCV, PyAV, Arrow) can lock up.
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context('spawn'), _start_worker)
    try:
        with _ignoring_ctrl_c():
            waiting = {pool.submit(_run_unit, converter, unit, out): unit for unit in todo}
        while waiting:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(future), future.result()
        pool.shutdown()
    except BrokenProcessPool:
        raise UserError(
            'a worker process was killed, most likely for lack of memory: what is finished stays; go on '
            'with fewer --jobs'
        ) from None
    finally:
        # After an error or Ctrl-C nobody waits for units that are half done.
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - set(others):
            child.terminate()


@contextlib.contextmanager
def _ignoring_ctrl_c() -> Generator[None, None, None]:
    """Processes that start in here ignore Ctrl-C for good, also while they import: the parent alone answers it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start_worker() -> None:
    cv2.setNumThreads(1)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End this worker with its parent, also when that was killed: a restarted run must not meet old workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _finish(converter: Converter, out: Path, units: list[Unit], failed: Mapping[str, str]) -> dict[str, Any]:
    """Put the parts together into the index. Returns the summary."""
    parts = _Parts(out)
    dropped: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    checks: dict[str, list[float]] = {}
    rigs: dict[str, Any] = {}
    tables: list[pa.Table] = []
    metadata: dict[bytes, bytes] = {}
    for unit in units:
        marker = parts.marker(unit)
        dropped.update(marker['dropped'])
        notes.update(marker['notes'])
        for name, values in marker['checks'].items():
            checks.setdefault(name, []).extend(values)
        if marker['rows']:
            table, metadata = parts.rows(unit)
            tables.append(table)
            for key, rig in json.loads(metadata[b'evg.rigs']).items():
                if rigs.setdefault(key, rig) != rig:
                    raise ValueError(f'{unit.name} gives another rig the name {key!r}')
    summary: dict[str, Any] = {
        'settings': converter.settings(),
        'units': len(units),
        'rows': sum(map(len, tables)),
        'splits': {},
        'dropped': dict(dropped.most_common()),
        'notes': dict(notes.most_common()),
        'checks': {
            name: {'median': float(np.median(v)), 'max': float(np.max(v)), 'n': len(v)} for name, v in checks.items()
        },
        'failed': dict(sorted(failed.items())),
    }
    if not converter.writes_index:
        return summary
    if not tables:
        why = [f'{name}: {text}' for name, text in failed.items()][:3]
        why += [f'{count} dropped: {reason}' for reason, count in dropped.items()]
        raise UserError(f'no row came out of {len(units) + len(failed)} {converter.unit_name}s ({"; ".join(why)})')
    table = pa.concat_tables(tables)
    ids = pc.value_counts(table['sample_id'])
    if len(ids) < len(table):
        worst = ids[int(np.argmax(ids.field('counts').to_numpy()))]
        raise UserError(f'{out}: the sample_id {worst["values"].as_py()!r} stands {worst["counts"].as_py()} times')
    for name in SPLITS:
        subjects = table.filter(pc.equal(table['split'], name))['subject']
        if len(subjects):
            summary['splits'][name] = [len(subjects), pc.count_distinct(subjects).as_py()]
    metadata |= {b'evg.rigs': json.dumps(rigs).encode(), b'evg.info': json.dumps(summary).encode()}
    write_table(table.replace_schema_metadata(metadata), out / INDEX_NAME)
    return summary
