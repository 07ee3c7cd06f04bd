"""The small JSON files of a set-up (screen, camera, calibration): read with checks, written whole or not at all."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evg.errors import UserError, did_you_mean
from evg.files import atomic_write

_MAX_BYTES = 8_000_000  # a calibration with thousands of samples has less


def read_json(path: str | os.PathLike, made_by: str) -> Any:
    """The content of a JSON file.

    Args:
        path: the file.
        made_by: what makes such a file, for the message.

    Raises:
        UserError: missing, unreadable, too large or not JSON.
    """
    try:
        with open(path, 'rb') as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f'cannot read {path}: {error.strerror}; {made_by} makes one') from error
    if len(data) > _MAX_BYTES:
        raise UserError(f'{path} is larger than {_MAX_BYTES:,} bytes: not a file that {made_by} makes')
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path} is not JSON ({error}); {made_by} makes one') from None


def write_json(path: str | os.PathLike, values: Any) -> None:
    """Write plain finite values as indented JSON, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with atomic_write(Path(path), 'w') as file:
            file.write(json.dumps(values, indent=2, allow_nan=False) + '\n')
    except OSError as error:
        raise UserError(f'cannot write {path}: {error.strerror}') from error


def checked_json(
    values: Any, kind: str, required: Sequence[str], optional: Sequence[str] = (), where: str = ''
) -> dict[str, Any]:
    """The fields of an object {"format": kind, "version": 1, ...}, with no unknown and no missing name.

    Raises:
        UserError: otherwise; the message begins with `where`.
    """
    if not isinstance(values, dict):
        raise UserError(f'{where}: must be a JSON object, not {type(values).__name__}')
    if values.get('format', kind) != kind or values.get('version', 1) != 1:
        found = f'{values.get("format")!r:.40} version {values.get("version")!r:.20}'
        raise UserError(f'{where}: this is {found}; needed is {kind!r} version 1')
    fields = {name: value for name, value in values.items() if name not in ('format', 'version')}
    for name in fields:
        if name not in (*required, *optional):
            raise UserError(f'{where}: unknown field {name[:60]!r}{did_you_mean(name[:60], [*required, *optional])}')
    for name in required:
        if name not in fields:
            raise UserError(f'{where}: the field {name!r} is missing')
    return fields


def numbers(name: str, value: Any, length: int) -> tuple[float, ...]:
    """A tuple of finite numbers.

    Args:
        name: of the field, for the message.
        value: a list, tuple or array.
        length: how many.

    Raises:
        UserError: anything else.
    """
    try:
        values = tuple(value)
        # numpy's numbers are numbers; True is none.
        if len(values) == length and not any(isinstance(v, (bool, str)) for v in values):
            plain = tuple(float(v) for v in values)
            if all(math.isfinite(v) for v in plain):
                return plain
    except (TypeError, ValueError, OverflowError):
        pass
    raise UserError(f'{name} must be {length} finite number{"s" * (length > 1)}, not {value!r:.60}')
