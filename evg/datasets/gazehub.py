"""GazeHub's processed data sets: text label files whose columns are found by the names in their header line."""

import os
import re
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from evg.datasets.converter import BadUnitError, Converter, Unit, UnitResult
from evg.datasets.ethxgaze import VAL_SUBJECTS
from evg.datasets.index import GAZE_FRAMES
from evg.datasets.reader_tools import resolved
from evg.errors import UserError
from evg.geometry import angle_between_deg, pitchyaw_to_vector

Array = NDArray[np.float64]
WHERE = 'GazeHub is at https://phi-ai.buaa.edu.cn/Gazehub'
PATCHES = {'face': 'Face', 'left': 'Left', 'right': 'Right'}
# 3DGaze and 2DGaze of one row say the same; more means another order, sign or axis.
MAX_ANGLE_DEG = 0.5
CHECK = 'angle of 3DGaze to 2DGaze, deg'
# The person in a picture's name.
_SESSION = re.compile(r's\d{3}')
_SUBJECT = re.compile(r'subject\d{4}')
_NUMBER = re.compile(r'p\d+(?=/)')


@dataclass(frozen=True)
class Kind:
    """The convention of one data set's label files.

    Attributes:
        gaze_frame: frame of the vectors; None where nobody states it.
        gaze: name of the column that the label is taken from.
        yaw_first: order of the angles in 2DGaze and 2DHead.
        axes: factors that turn a 3DGaze vector into OpenCV axes.
        head: column of the head's angles, or ''.
        rotation: column of R (3 Rodrigues numbers, or 9 of a matrix), or ''.
        scale: column of S's diagonal, or ''.
    """

    gaze_frame: str | None
    gaze: str = '3DGaze'
    yaw_first: bool = True
    axes: tuple[int, int, int] = (1, 1, 1)
    head: str = ''
    rotation: str = ''
    scale: str = ''


KINDS = {
    'mpiifacegaze': Kind('normalised_sr', head='2DHead', rotation='Rmat', scale='Smat'),
    'eyediap': Kind('normalised_r', head='2DHead', rotation='Rvec', scale='Svec'),
    # The raw gaze_dir: x to the picture's left, y up, z away from the camera.
    'gaze360': Kind('line_of_sight', axes=(-1, -1, 1)),
    'rtgene': Kind(None),
    'ethxgaze': Kind('normalised_r', gaze='gaze', yaw_first=False, head='head', rotation='normmat'),
}


@dataclass(frozen=True)
class GazeHubConverter(Converter):
    """GazeHub's label files (MPIIFaceGaze, EYEDIAP, Gaze360, RT-GENE, ETH-XGaze), pictures read in place"""

    unit_name = 'label file'

    src: str
    kind: str
    patch: str
    labels: str
    images: str
    sign: str | None
    frame: str | None

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add('--src', required=True, type=resolved, help='folder that holds Label and Image')
        add('--kind', required=True, choices=list(KINDS), help='which data set it is; never guessed')
        add('--patch', choices=list(PATCHES), default='face', help='which pictures')
        add('--labels', default='Label', help='folder of the label files below SRC')
        add('--images', default='Image', help='folder that the picture names are relative to, below SRC')
        add('--sign', choices=('subject', 'camera'), help='rtgene: whose right a positive first angle is')
        add('--frame', choices=GAZE_FRAMES, help='rtgene: frame of the gaze angles')

    def __post_init__(self):
        needed = KINDS[self.kind].gaze_frame is None
        if needed and (self.sign is None or self.frame is None):
            raise UserError(
                'RT-GENE states neither the sign nor the frame of its angles: give --sign subject (a positive first '
                "angle looks to the person's right, the likely reading) or --sign camera (to the picture's right), and "
                '--frame head (relative to the head, as its maintainers remember) or another; see docs/datasets.md'
            )
        if not needed and (self.sign is not None or self.frame is not None):
            raise UserError(f'--sign and --frame are for --kind rtgene; the convention of {self.kind} is known')

    @property
    def name(self) -> str:  # type: ignore[override]
        """The kind: its persons are those of the original data set."""
        return self.kind

    @property
    def gaze_frame(self) -> str:  # type: ignore[override]
        """The frame that the kind of label file declares."""
        return KINDS[self.kind].gaze_frame or str(self.frame)

    def units(self) -> list[Unit]:
        folder = Path(self.src) / self.labels
        files = sorted(folder.glob('*.label'), key=lambda path: [int(n) for n in re.findall(r'\d+', path.stem)] or [0])
        if not files:
            raise UserError(f'there are no *.label files in {folder}: {WHERE}; --labels names another folder')
        return [Unit(path.stem) for path in files]

    def convert(self, unit: Unit, out: Path) -> UnitResult:
        path, kind = Path(self.src) / self.labels / f'{unit.name}.label', KINDS[self.kind]
        images = Path(self.src) / self.images
        result = UnitResult()
        if self.kind == 'gaze360' and unit.name == 'unused':
            result.dropped["frames of Gaze360's split unused"] += sum(1 for _ in _lines(path))
            return result
        column = PATCHES[self.patch]
        for number, cells in _lines(path):
            picture = cells.get(column, cells.get(column.lower()))
            if picture is None:
                raise BadUnitError(f'{path} has no column {column}: its header is {" ".join(cells)}')
            if not (images / picture).is_file():
                result.dropped['rows whose picture is missing'] += 1
                continue
            try:
                values = self._values(cells, kind, result)
            except ValueError:
                result.dropped['rows with numbers that cannot be read'] += 1
                continue
            split, subject = self._person(unit.name, picture)
            result.rows.append(
                {
                    'sample_id': f'{unit.name}/{number:06d}',
                    'image': os.path.relpath(images / picture, out),
                    'split': split,
                    'subject': subject or self._origin(cells, path),
                    **values,
                }
            )
        angles = result.checks.get(CHECK, [])
        if angles and np.median(angles) > MAX_ANGLE_DEG:
            raise BadUnitError(
                f'{path}: 3DGaze and 2DGaze differ by {np.median(angles):.2f} deg (median): order, signs or axes are '
                f'not those of --kind {self.kind}'
            )
        return result

    def _values(self, cells: Mapping[str, str], kind: Kind, result: UnitResult) -> dict[str, Any]:
        """Gaze, head pose and normalisation of one row."""
        values: dict[str, Any] = {}
        if kind.gaze in cells:
            values['gaze'] = self._gaze(cells, kind, result)
        mirrored = self.kind == 'mpiifacegaze' and cells.get('WhichEye') == 'right'
        if mirrored:
            result.notes['rows that GazeHub mirrored (WhichEye right): their R is left out'] += 1
        if kind.head in cells and not mirrored:
            values['head_pitchyaw_rad'] = _angles(cells[kind.head], kind.yaw_first)
        if kind.rotation in cells and not mirrored:
            rotation = _numbers(cells[kind.rotation])
            matrix = cv2.Rodrigues(rotation)[0] if rotation.size == 3 else rotation.reshape(3, 3)
            if np.abs(matrix @ matrix.T - np.eye(3)).max() > 1e-3:
                raise ValueError('not a rotation')
            values['norm_rotation'] = matrix
        if kind.scale in cells:
            values['norm_scale'] = float(_numbers(cells[kind.scale], 3)[2])
        return values

    def _gaze(self, cells: Mapping[str, str], kind: Kind, result: UnitResult) -> Array:
        """Unit vector in OpenCV axes of the kind's frame; where the file has vector and angles, they are compared."""
        if kind.gaze != '3DGaze':
            return pitchyaw_to_vector(_angles(cells[kind.gaze], kind.yaw_first))
        stored = _numbers(cells['3DGaze'], 3)
        if not np.linalg.norm(stored) > 0.5:
            raise ValueError('not a unit vector')
        vector = stored / np.linalg.norm(stored) * kind.axes
        if '2DGaze' in cells:
            angle = angle_between_deg(vector, pitchyaw_to_vector(_angles(cells['2DGaze'], kind.yaw_first)))
            result.checks.setdefault(CHECK, []).append(round(float(angle), 4))
        # GazeHub made RT-GENE's vectors from the text's angles with the sign of --sign subject.
        return vector * (-1, 1, 1) if self.sign == 'camera' else vector

    def _person(self, file: str, picture: str) -> tuple[str, str]:
        """Split and person of a row; the person is '' where `Origin` has to name him."""
        if self.kind == 'ethxgaze':
            person = _first(_SUBJECT, picture)
            held_out = person.endswith(tuple(f'{number:04d}' for number in VAL_SUBJECTS))
            return ('test' if file.startswith('test') else 'val' if held_out else 'train'), person
        if self.kind == 'rtgene':
            return ('val' if file.startswith('valid') else 'train'), _first(_SESSION, picture)
        if self.kind == 'gaze360':
            return (file if file in ('train', 'val', 'test') else 'train'), ''
        found = _NUMBER.match(picture)
        return 'train', found.group() if found else file

    @staticmethod
    def _origin(cells: Mapping[str, str], path: Path) -> str:
        """Recording and person of a Gaze360 row: rec_022/head/000000/000131.jpg gives rec_022/000000."""
        origin = cells.get('Origin', '')
        parts = Path(origin).parts
        if len(parts) < 3:
            raise BadUnitError(f'{path}: neither the picture nor Origin ({origin!r}) names the person')
        return f'{parts[0]}/{parts[-2]}'


def _lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(number, cells by header name) of the rows of a label file; number 1 is the first row."""
    try:
        with open(path, encoding='utf-8') as file:
            header = file.readline().split()
            if len(header) < 2 or len(set(header)) < len(header) or any(',' in name for name in header):
                raise BadUnitError(f'{path} has no header line of column names but {" ".join(header)[:80]!r}')
            for number, line in enumerate(file, start=1):
                cells = line.split()
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise BadUnitError(
                        f'{path}: row {number} has {len(cells)} fields, the header {len(header)} (a space in a name?)'
                    )
                yield number, dict(zip(header, cells, strict=True))
    except (OSError, UnicodeDecodeError) as error:
        raise BadUnitError(f'{path} cannot be read ({error})') from error


def _numbers(cell: str, size: int | None = None) -> Array:
    values = np.array(cell.strip('[]').split(','), np.float64)
    if not np.isfinite(values).all() or values.size not in ((3, 9) if size is None else (size,)):
        raise ValueError(f'{cell!r} is not a list of finite numbers')
    return values


def _angles(cell: str, yaw_first: bool) -> Array:
    """(pitch, yaw), rad."""
    angles = _numbers(cell, 2)
    if np.abs(angles).max() > np.pi + 1e-6:
        raise ValueError('not radians')
    return angles[::-1] if yaw_first else angles


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    if found is None:
        raise BadUnitError(f'no person ({pattern.pattern}) in the picture name {text!r}')
    return found.group()
