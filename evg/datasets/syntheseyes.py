"""SynthesEyes (Cambridge, 2015): rendered eye pictures with a Python 2 pickle beside each one, read in place.

The pickles are opened by an unpickler that knows numpy arrays and plain containers and nothing else.
"""

import io
import os
import pickle
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy._core.multiarray import _reconstruct, scalar
from numpy.typing import ArrayLike, NDArray

from evg.datasets.converter import BadUnitError, Converter, Unit, UnitResult
from evg.datasets.reader_tools import readable_picture, resolved
from evg.errors import UserError

Array = NDArray[np.float64]
WHERE = 'SynthesEyes is at https://www.cl.cam.ac.uk/research/rainbow/projects/syntheseyes/'
# Factors to OpenCV axes: x right in the picture, y down, z into the scene.
AXES = {'opencv': (1, 1, 1), 'opengl': (1, -1, -1)}
IRIS_CHECK = 'correlation of gaze and iris in the picture, x and y'
_FEW = 8


def _latin1(text: str, encoding: str) -> bytes:
    """What a pickle of Python 3 says for bytes, for this one encoding."""
    if encoding not in ('latin1', 'latin-1'):
        raise pickle.UnpicklingError(f'the pickle encodes text as {encoding}')
    return text.encode('latin1')


_ALLOWED: dict[tuple[str, str], Callable] = {
    ('_codecs', 'encode'): _latin1,
    ('numpy', 'ndarray'): np.ndarray,
    ('numpy', 'dtype'): np.dtype,
}
for _module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
    _ALLOWED |= {(_module, '_reconstruct'): _reconstruct, (_module, 'scalar'): scalar}


class ForbiddenPickleError(BadUnitError):
    """A pickle that asks for something which is neither numpy array nor plain value."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise ForbiddenPickleError(f'it asks for {module}.{name}; only numpy arrays and plain values are read')
        return _ALLOWED[module, name]


def read_plain_pickle(path: Path) -> Any:
    """A pickle of numpy arrays, dicts, lists, text and numbers, of Python 2 or 3; nothing in it is executed.

    Raises:
        ForbiddenPickleError: it asks for any other class; the message names it.
        BadUnitError: it is damaged.
    """
    try:
        return _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding='latin1').load()
    except ForbiddenPickleError as error:
        raise ForbiddenPickleError(f'{path} is refused: {error}') from None
    except Exception as error:  # a damaged pickle can raise anything
        raise BadUnitError(f'{path} is damaged: {error}') from error


@dataclass(frozen=True)
class SynthesEyesConverter(Converter):
    """SynthesEyes: rendered eyes of ten head models, read in place; training only"""

    name = 'syntheseyes'
    unit_name = 'head model'

    src: str
    axes: str

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add('--src', required=True, type=resolved, help='folder that holds f01, f02, ...')
        add('--axes', required=True, choices=list(AXES), help='axes of look_vec, which nobody states; see docs')

    def units(self) -> list[Unit]:
        folders = [p for p in sorted(Path(self.src).glob('*')) if p.is_dir() and any(p.glob('*.pkl'))]
        if not folders:
            raise UserError(f'no folder below {self.src} holds pictures with *.pkl beside them: {WHERE}')
        return [Unit(path.name, sum(1 for _ in path.glob('*.pkl'))) for path in folders]

    def convert(self, unit: Unit, out: Path) -> UnitResult:
        result = UnitResult()
        iris: list[Array] = []
        for path in sorted((Path(self.src) / unit.name).glob('*.pkl')):
            picture = path.with_suffix('.png')
            if readable_picture(picture, result.dropped) is None:
                continue
            try:
                values = read_plain_pickle(path)
                look = np.asarray(values['look_vec'], np.float64).reshape(3)
                offset = _iris_offset(values['ldmks'])
            except ForbiddenPickleError:
                raise
            except BadUnitError:
                result.dropped['pickles that are damaged'] += 1
                continue
            except (KeyError, TypeError, ValueError):
                result.dropped['pickles without look_vec and ldmks'] += 1
                continue
            length = np.linalg.norm(look)
            if not (np.isfinite(look).all() and length > 0):
                result.dropped['look_vec is no direction'] += 1
                continue
            iris.append(offset)
            result.rows.append(
                {
                    'sample_id': f'{unit.name}/{path.stem}',
                    'image': os.path.relpath(picture, out),
                    'split': 'train',
                    'subject': unit.name,
                    'gaze': look / length * AXES[self.axes],
                    'pupil_landmarks_px': _pupil(values['ldmks'], result.notes),
                }
            )
        check_iris(result, iris, f'{unit.name}: --axes {self.axes}')
        return result


def check_iris(result: UnitResult, offset_px: list[Array], what: str) -> None:
    """The sign self-test of rendered eyes: they look at the camera's side, and the iris moves the way of the gaze.

    Convention: gaze in the camera frame (OpenCV), so n_z < 0; the offset grows with n_x and n_y.

    Args:
        result: rows with `gaze`; gets the check's numbers.
        offset_px: for each row (2,), centre of the iris minus centre of the eye, px of the picture, y down.
        what: the choice that may be wrong, for the message.

    Raises:
        BadUnitError: the data contradict the chosen axes.
    """
    if not result.rows:
        return
    gaze = np.array([row['gaze'] for row in result.rows])
    if np.median(gaze[:, 2]) >= 0:
        raise BadUnitError(f'{what} cannot be: most eyes would look away from the camera')
    if len(gaze) < _FEW:
        result.notes['recordings too small for the sign self-test'] += 1
        return
    moved = np.array(offset_px)
    for axis, name in enumerate('xy'):
        if gaze[:, axis].std() < 0.02 or moved[:, axis].std() < 1e-6:
            continue
        correlation = float(np.corrcoef(gaze[:, axis], moved[:, axis])[0, 1])
        result.checks.setdefault(IRIS_CHECK, []).append(round(correlation, 4))
        if correlation < -0.3:
            raise BadUnitError(
                f'{what} cannot be: the iris moves against the gaze along {name} (correlation {correlation:.2f})'
            )


def center(points: ArrayLike) -> Array:
    """Centre (2,) of points (N, 2 or 3), px."""
    return np.asarray(points, np.float64).reshape(-1, np.shape(points)[-1])[:, :2].mean(axis=0)


def _pupil(landmarks: Any, notes: Counter[str]) -> Array | None:
    """The 8 points (8, 2) of the one pupil, twice: nobody says which eye it is, and the index has room for both."""
    points = np.asarray(landmarks.get('ldmks_pupil_2d', ()), np.float64)
    if points.shape != (8, 2) or not np.isfinite(points).all():
        notes['pictures without 8 points of the pupil'] += 1
        return None
    return np.concatenate([points, points])


def _iris_offset(landmarks: Any) -> Array:
    """Centre of the iris minus centre of the lids, px."""
    return center(landmarks['ldmks_iris_2d']) - center(landmarks['ldmks_lids_2d'])
