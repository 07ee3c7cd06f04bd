"""UnityEyes (Cambridge, 2016): eye pictures that a user has rendered, each with a JSON file of texts, read in place."""

import ast
import os
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evg.datasets.converter import BadUnitError, Converter, Unit, UnitResult
from evg.datasets.reader_tools import read_json, readable_picture, resolved
from evg.datasets.syntheseyes import center, check_iris
from evg.errors import UserError

Array = NDArray[np.float64]
WHERE = 'UnityEyes is at https://www.cl.cam.ac.uk/research/rainbow/projects/unityeyes/; it writes imgs/N.jpg and N.json'
CHUNK = 1000
# Which way look_vec's x points in the picture.
X_SIGN = {'right': 1, 'left': -1}


@dataclass(frozen=True)
class UnityEyesConverter(Converter):
    """UnityEyes: pictures and JSON files as the program writes them, read in place; training only"""

    name = 'unityeyes'
    unit_name = 'thousand pictures'

    src: str
    x_axis: str

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add('--src', required=True, type=resolved, help='folder that holds N.jpg and N.json (imgs)')
        text = "side of the picture that look_vec's x points to; see docs"
        add('--x-axis', required=True, choices=list(X_SIGN), help=text)

    def units(self) -> list[Unit]:
        numbers = sorted(int(path.stem) for path in Path(self.src).glob('*.json') if path.stem.isdecimal())
        if not numbers:
            inner = Path(self.src) / 'imgs'
            hint = f'did you mean --src {inner}? ' if inner.is_dir() else ''
            raise UserError(f'{self.src} holds no N.json: {hint}{WHERE}')
        starts = range(0, len(numbers), CHUNK)
        return [Unit(f'{i // CHUNK:05d}', len(numbers[i : i + CHUNK]), numbers[i : i + CHUNK]) for i in starts]

    def convert(self, unit: Unit, out: Path) -> UnitResult:
        result = UnitResult()
        iris: list[Array] = []
        for number in unit.data:
            path = Path(self.src) / f'{number}.json'
            image = readable_picture(path.with_suffix('.jpg'), result.dropped)
            if image is None:
                continue
            try:
                values = read_json(path)
                look = parse_tuple(values['eye_details']['look_vec'])[:3]
                offset = _points(values['iris_2d']) - _points(values['interior_margin_2d'])
            except (BadUnitError, KeyError, TypeError, ValueError):
                result.dropped['JSON files that are damaged'] += 1
                continue
            length = np.linalg.norm(look)
            if len(look) < 3 or not length > 0:
                result.dropped['look_vec is no direction'] += 1
                continue
            # Their y points up, in the picture and in space; z is negative towards the camera, as in OpenCV.
            iris.append(offset * (1, -1))
            result.rows.append(
                {
                    'sample_id': f'{number:06d}',
                    'image': os.path.relpath(path.with_suffix('.jpg'), out),
                    'split': 'train',
                    # Every picture is of another random eye; the program has no persons.
                    'subject': 'unityeyes',
                    'frame': number,
                    'gaze': look / length * (X_SIGN[self.x_axis], -1, 1),
                }
            )
        check_iris(result, iris, f'{unit.name}: --x-axis {self.x_axis}')
        return result


def parse_tuple(text: Any) -> Array:
    """Numbers of a text such as "(0.1, -0.2, 3.0)"; nothing in it is executed.

    Raises:
        ValueError: it is not a tuple of finite numbers.
    """
    try:
        values = np.asarray(ast.literal_eval(text), np.float64)
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f'{text!r} is not a tuple of numbers') from error
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f'{text!r} is not a tuple of numbers')
    return values


def _points(texts: Any) -> Array:
    """Centre (2,) of a list of points, px, y up."""
    return center([parse_tuple(text) for text in texts])
