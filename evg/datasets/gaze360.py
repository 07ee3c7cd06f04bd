"""Gaze360 (2019): head crops read in place, gaze directions from the published lists, `metadata.mat` beside them."""

import os
import re
from argparse import ArgumentParser
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from evg.datasets.converter import BadUnitError, Converter, Unit, UnitResult
from evg.datasets.pictures import read_image
from evg.datasets.reader_tools import resolved
from evg.errors import UserError
from evg.geometry import angle_between_deg

Array = NDArray[np.float64]
WHERE = 'Gaze360 is at http://gaze360.csail.mit.edu (register), its lists at https://github.com/erkil1452/gaze360'
LISTS = {'train': 'train.txt', 'val': 'validation.txt', 'test': 'test.txt'}
# gaze_dir has x to the picture's left, y up, z away from the camera.
AXES = (-1, -1, 1)
MAX_ANGLE_DEG = 0.5
CHECK = 'angle of the list to gaze_dir of metadata.mat, deg'
_PATH = re.compile(r'[^/\s]+/head/\d{6}/\d{6}\.jpg')
_COLUMNS = {'person_head_bbox': 4, 'person_face_bbox': 4, 'gaze_dir': 3}
_SCALARS = ('recording', 'frame', 'person_identity', 'ts', 'split')


@dataclass(frozen=True)
class Gaze360Converter(Converter):
    """Gaze360: head crops with the lists train.txt, validation.txt and test.txt"""

    name = 'gaze360'
    gaze_frame = 'line_of_sight'

    src: str
    lists: str

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add('--src', required=True, type=resolved, help='folder that holds imgs and metadata.mat')
        add('--lists', required=True, type=resolved, help='folder of train.txt, validation.txt, test.txt')

    def units(self) -> list[Unit]:
        for path in (Path(self.src) / 'imgs', Path(self.src) / 'metadata.mat', *self._lists().values()):
            if not path.exists():
                raise UserError(f'there is no {path}: {WHERE}')
        units = []
        for split, path in self._lists().items():
            recordings: dict[str, list[tuple[str, tuple[float, ...]]]] = defaultdict(list)
            for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), start=1):
                if line.split():
                    name, gaze = _list_line(line, f'{path}: line {number}')
                    recordings[name.split('/')[0]].append((name, gaze))
            units += [Unit(f'{split}/{name}', len(rows), rows) for name, rows in sorted(recordings.items())]
        return units

    def convert(self, unit: Unit, out: Path) -> UnitResult:
        known = _metadata(self.src)
        split = unit.name.split('/')[0]
        result = UnitResult()
        for name, direction in unit.data:
            path = Path(self.src) / 'imgs' / name
            try:
                height, width = read_image(str(path)).shape[:2]
            except UserError:
                result.dropped['pictures that are missing or cannot be read'] += 1
                continue
            gaze = np.multiply(direction, AXES)
            length = np.linalg.norm(gaze)
            if not abs(length - 1) < 0.01:
                result.dropped['rows whose gaze is not a unit vector'] += 1
                continue
            recording, _, number, file = name.split('/')
            frame = int(file.removesuffix('.jpg'))
            # A person's number is unique in a recording only; a recording's people are in no other one.
            person = f'{recording}/{number}'
            row: dict[str, Any] = {
                'sample_id': f'{person}/{frame:06d}',
                'image': os.path.relpath(path, out),
                'split': split,
                'subject': person,
                'sequence': person,
                'frame': frame,
                'gaze': gaze / length,
            }
            more = known.get((recording, int(number), frame))
            if more is None:
                result.notes['rows of the lists that metadata.mat does not have'] += 1
            else:
                angle = angle_between_deg(np.multiply(more['gaze_dir'], AXES), gaze)
                result.checks.setdefault(CHECK, []).append(round(float(angle), 4))
                row['time_s'] = float(more['ts'])
                box = _face_box(more['person_face_bbox'], more['person_head_bbox'], (width, height))
                if box is not None:
                    row['face_box_px'] = box
            result.rows.append(row)
        angles = result.checks.get(CHECK, [])
        if angles and np.median(angles) > MAX_ANGLE_DEG:
            raise BadUnitError(
                f'{unit.name}: the list and gaze_dir of metadata.mat differ by {np.median(angles):.2f} deg (median)'
            )
        return result

    def _lists(self) -> dict[str, Path]:
        return {split: Path(self.lists) / name for split, name in LISTS.items()}


def _list_line(line: str, where: str) -> tuple[str, tuple[float, ...]]:
    """Picture name and gaze_dir of one line of a list."""
    cells = line.split()
    try:
        gaze = tuple(float(cell) for cell in cells[1:])
    except ValueError:
        gaze = ()
    if len(gaze) != 3 or not np.isfinite(gaze).all() or not _PATH.fullmatch(cells[0]):
        raise UserError(f'{where}: {line[:80]!r} is not "rec_000/head/000000/000000.jpg x y z"')
    return cells[0], gaze


def _face_box(face: Array, head: Array, size: tuple[int, int]) -> Array | None:
    """dlib's face in px of the head crop, x1 y1 x2 y2, clipped to it; None where there is none.

    Both boxes are x, y, width, height as fractions of the full frame; the crop is the head's box.
    """
    if face[2] <= 0 or face[3] <= 0 or head[2] <= 0 or head[3] <= 0:
        return None
    scale = np.divide(size, head[2:])
    low = (face[:2] - head[:2]) * scale - 0.5
    limit = np.subtract(size, 1)
    low, high = np.clip(low, 0, limit), np.clip(low + face[2:] * scale, 0, limit)
    return np.concatenate([low, high]) if (high - low).min() >= 1 else None


@lru_cache(maxsize=1)
def _metadata(src: str) -> dict[tuple[str, int, int], dict[str, Array]]:
    """The rows of metadata.mat by (recording, person, frame)."""
    path = Path(src) / 'metadata.mat'
    names = ['recordings', *_SCALARS, *_COLUMNS]
    try:
        stored = loadmat(str(path), variable_names=names)
        recordings = [str(cell[0]) for cell in stored['recordings'].reshape(-1)]
        columns: dict[str, NDArray] = {name: np.asarray(stored[name], np.float64).reshape(-1) for name in _SCALARS}
        count = len(columns['frame'])
        columns |= {name: np.asarray(stored[name], np.float64).reshape(count, size) for name, size in _COLUMNS.items()}
        keys = [
            (recordings[int(recording)], int(person), int(frame))
            for recording, person, frame in zip(
                columns['recording'], columns['person_identity'], columns['frame'], strict=True
            )
        ]
    except (OSError, KeyError, ValueError, TypeError, IndexError, NotImplementedError) as error:
        raise UserError(f'{path} cannot be read as the metadata of Gaze360 ({error}): {WHERE}') from error
    wanted = ('ts', *_COLUMNS)
    return {key: {name: columns[name][i] for name in wanted} for i, key in enumerate(keys)}
