"""A conversion divided over machines: which units are whose, and the check that all are there.

Every machine converts its share into its own copy of `out`, or all into one on a common file system; the copies are
then put together in one folder (rsync), where the index is made. A finished share leaves
`OUT/.prepare/shards/I_of_N.json`.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evg.datasets.converter import Unit
from evg.errors import UserError
from evg.files import atomic_write

FOLDER = '.prepare/shards'


@dataclass(frozen=True)
class Shard:
    """Share `number` (from 1) of `count`."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> 'Shard':
        """From 'I/N'."""
        match = re.fullmatch(r'(\d{1,6})/(\d{1,6})', text)
        shard = cls(int(match[1]), int(match[2])) if match else cls(0, 0)
        if not 1 <= shard.number <= shard.count:
            raise UserError(f'--shard {text}: it is I/N with I from 1 to N, for instance 1/8 to 8/8 on eight machines')
        return shard

    def of(self, units: Sequence[Unit]) -> list[Unit]:
        """Its units: every N-th, so that the shares are about equally long."""
        return list(units[self.number - 1 :: self.count])

    def file(self, out: Path) -> Path:
        """Where a finished share says so."""
        return out / FOLDER / f'{self.number}_of_{self.count}.json'


def finish_shard(shard: Shard, units: Sequence[Unit], settings: Mapping, failed: Mapping[str, str], out: Path) -> None:
    """Leave the record of a share.

    Args:
        shard: which one.
        units: all units of the data set.
        settings: of the converter.
        failed: units of the share that could not be read, with the reason.
        out: the folder.
    """
    record = {'settings': dict(settings), 'all': _digest(units), 'units': [unit.name for unit in shard.of(units)]}
    with atomic_write(shard.file(out)) as file:
        file.write(json.dumps({**record, 'failed': dict(failed)}).encode())


def check_shards(count: int, units: Sequence[Unit], settings: Mapping[str, Any], out: Path) -> dict[str, str]:
    """Check that the shares 1 to `count` are all there, of this data set, and together every unit once.

    Returns:
        The units that could not be read, with the reasons.

    Raises:
        UserError: a share is missing, overlaps another, or is of another division, source or settings.
    """
    expected = {Shard(number, count).file(out).name for number in range(1, count + 1)}
    found = {path.name for path in (out / FOLDER).glob('*.json')}
    if found - expected:
        raise UserError(
            f'{out / FOLDER} holds {", ".join(sorted(found - expected))}, no share of {count}: give the right '
            '--merge, or delete what does not belong'
        )
    missing = sorted(int(name.partition('_')[0]) for name in expected - found)
    if missing:
        numbers = ', '.join(map(str, missing[:20]))
        raise UserError(
            f'{len(missing)} of {count} shares are not in {out}: {numbers}; convert them with --shard I/{count}'
        )
    failed: dict[str, str] = {}
    owner: dict[str, str] = {}
    for name in sorted(expected):
        record = _read(out / FOLDER / name)
        if record['settings'] != settings:
            raise UserError(f'{out / FOLDER / name} was converted with other settings than these: convert it again')
        if record['all'] != _digest(units):
            raise UserError(
                f'{out / FOLDER / name} was made from another list of recordings than the one here: compare the '
                'sources of the machines'
            )
        twice = next((unit for unit in record['units'] if unit in owner), None)
        if twice is not None:
            raise UserError(f'{twice} is in {owner[twice]} and in {name}: the shares overlap')
        owner |= dict.fromkeys(record['units'], name)
        failed |= record['failed']
    left = [unit.name for unit in units if unit.name not in owner]
    if left:
        raise UserError(f'{len(left)} of {len(units)} recordings are in no share, the first is {left[0]}')
    return failed


def _digest(units: Sequence[Unit]) -> str:
    return hashlib.sha256('\n'.join(unit.name for unit in units).encode()).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding='utf-8'))
        return {name: record[name] for name in ('settings', 'all', 'units', 'failed')}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path} is damaged: convert this share again') from error
