"""The work folder of a training: one run at a time in it, and which of its checkpoints is the newest."""

import atexit
import errno
import fcntl
import json
import os
import re
import socket
import sys
import time
from pathlib import Path
from typing import IO, Any

from evg.errors import UserError

LOCK_NAME = 'run.lock'
_NAME = re.compile(r'model_(\d+)(?:_iter_(\d+))?')
_held: dict[Path, IO[str]] = {}


def newest_checkpoint(work_dir: str | os.PathLike) -> str | None:
    """The newest `model_EPOCHS.pth` or `model_EPOCHS_iter_ITERATIONS.pth` of a folder, None where there is none.

    Checkpoints are written whole, so the latest one can be trusted; mmengine's pointer file `last_checkpoint` is not.
    """
    found = {(int(m[1]), int(m[2] or 0)): path for path in Path(work_dir).glob('model_*.pth') if (m := _match(path))}
    return str(found[max(found)]) if found else None


def interrupted_name(epochs: int, iterations: int) -> str:
    """Name of the checkpoint of a run that was stopped after some iterations in all, in the epoch after `epochs`."""
    return f'model_{epochs}_iter_{iterations}.pth'


def drop_interrupted(work_dir: str | os.PathLike) -> None:
    """Delete what stopped runs left, once the checkpoint of a finished epoch is newer."""
    newest = newest_checkpoint(work_dir)
    if newest is None or _match(Path(newest))[2] is not None:  # type: ignore[index]  # it matched
        return
    for path in Path(work_dir).glob('model_*_iter_*.pth'):
        path.unlink(missing_ok=True)


def _match(path: Path) -> re.Match | None:
    return _NAME.fullmatch(path.stem)


def lock(work_dir: str | os.PathLike) -> str | None:
    """Make a folder this process's until it ends; a second run in it would mix its checkpoints and logs with ours.

    The lock is one of the kernel's on `run.lock`, which no killed process can leave behind; the file says whose it is.

    Returns:
        A line about a run that was killed in this folder, or None.

    Raises:
        UserError: another process works in this folder, or it was left by one of another machine, which may still run.
    """
    path = Path(work_dir).resolve() / LOCK_NAME
    if path in _held:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, 'a+', encoding='utf-8')  # noqa: SIM115 (open as long as the process lives)
    locks = True
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise UserError(
                f'another run works in {path.parent}: {_whose(_read(file))}; wait for it, end it, or give another '
                '--work-dir'
            ) from error
        locks = False
    left, own = _read(file), _own()
    # Not every network file system passes locks on, or has any. A scheduler never runs one job twice.
    unsure = not locks or left.get('host') != own['host']
    if left and unsure and (left.get('job') is None or left.get('job') != own['job']):
        file.close()
        raise UserError(f'a run in {path.parent} did not end: {_whose(left)}; if it is not running, delete {path}')
    file.truncate(0)
    file.write(json.dumps(own))
    file.flush()
    _held[path] = file
    if len(_held) == 1:
        atexit.register(_release, os.getpid())
    # What a killed process was writing; nobody else writes here now.
    for partial in path.parent.glob('.*.partial'):
        partial.unlink(missing_ok=True)
    return f'the last run here did not end by itself: {_whose(left)}' if left else None


def _release(process: int) -> None:
    """An empty file says that its run has ended."""
    if process == os.getpid():
        for file in _held.values():
            file.truncate(0)
            file.close()
        _held.clear()


def _own() -> dict[str, Any]:
    return {
        'pid': os.getpid(),
        'host': socket.gethostname(),
        'job': os.environ.get('SLURM_JOB_ID'),
        'since': time.strftime('%Y-%m-%d %H:%M:%S'),
        'command': ' '.join(sys.argv),
    }


def _read(file: IO[str]) -> dict[str, Any]:
    """What the file says, empty where it says nothing or cannot be read."""
    file.seek(0)
    try:
        content = json.loads(file.read() or '{}')
    except ValueError:
        return {'command': 'unknown'}
    return content if isinstance(content, dict) else {}


def _whose(content: dict[str, Any]) -> str:
    known = {name: content.get(name, 'unknown') for name in ('pid', 'host', 'since', 'command')}
    return 'process {pid} on {host}, since {since} ({command})'.format(**known)
