"""Calibration: a person looks at a few known points, and what the model got wrong there is corrected from then on.

docs/calibration.md says which method for what, and what it brings on the synthetic world's persons.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evg.errors import UserError, did_you_mean
from evg.inference.calibration_errors import LeaveOneOut, leave_one_out
from evg.inference.calibration_methods import (
    METHODS,
    MIN_POINTS,
    NEEDS,
    Kappa,
    Method,
    method_of,
    on_a_line,
    parameters,
)
from evg.inference.calibration_samples import (
    MAX_POINTS,
    SETTLE_MS,
    CalibrationSample,
    Observations,
    count_reasons,
    known,
    usable,
)
from evg.inference.json_files import checked_json, read_json, write_json
from evg.inference.result import GazeResult
from evg.inference.screen import Screen

__all__ = ['METHODS', 'Calibration', 'CalibrationSample', 'LeaveOneOut', 'fit_calibration', 'target_points']

Array = NDArray[np.float64]

_CORNERS, _QUARTERS = (0, 1), (0.25, 0.75)
# Rows of (y, the xs), in shares of the screen inside the margin.
_GRIDS: dict[int, list[tuple[float, tuple]]] = {
    4: [(0, _CORNERS), (1, _CORNERS)],
    5: [(0, _CORNERS), (0.5, (0.5,)), (1, _CORNERS)],
    9: [(y, (0, 0.5, 1)) for y in (0, 0.5, 1)],
    13: [(y, _QUARTERS if y in _QUARTERS else (0, 0.5, 1)) for y in (0, 0.25, 0.5, 0.75, 1)],
}


def target_points(n: int, screen: Screen, margin: float = 0.1) -> Array:
    """Where to look for a calibration.

    Args:
        n: 4 (corners), 5 (and the middle), 9 (three rows of three) or 13 (and the middle of each quarter).
        screen: the declared screen.
        margin: distance of the outer points from the border, as a share of width and height.

    Returns:
        (n, 2) screen px, row by row.
    """
    if n not in _GRIDS:
        raise UserError(f'calibrate with {", ".join(map(str, _GRIDS))} points, not {n}')
    if not 0 <= margin < 0.5:
        raise UserError(f'margin must be from 0 to less than 0.5, not {margin}')
    shares = np.array([(x, y) for y, xs in _GRIDS[n] for x in xs], np.float64)
    return (margin + (1 - 2 * margin) * shares) * screen.size_px


@dataclass(frozen=True, eq=False)
class Calibration:
    """A correction for one person, one screen, one camera and one model; made by `fit_calibration`.

    Attributes:
        model: the fitted method.
        screen: the screen that it is for.
        model_identity, camera_identity: of the predictor and camera that it is for.
        n_points, n_samples: that it was fitted to.
        rejected: (number of the sample, reason) of those left out.
        leave_one_out: its error on points that it was not fitted to; None with one point.
        message: what the user should know, '' if nothing.
    """

    model: Method
    screen: Screen
    model_identity: str = ''
    camera_identity: str = ''
    n_points: int = 0
    n_samples: int = 0
    rejected: tuple[tuple[int, str], ...] = ()
    leave_one_out: LeaveOneOut | None = None
    message: str = ''

    @property
    def method(self) -> str:
        """The name of the fitted method; 'translation' where 'affine' had to fall back."""
        return self.model.NAME

    def apply(self, result: GazeResult) -> GazeResult:
        """The corrected result, a new object.

        `screen_px`, `on_screen`, `plane_mm` and, where the origin is known, `gaze` change together; `gaze_normalised`
        goes, as it is the network's own answer. A result without what the method needs comes back as it is,
        `calibrated=False`.

        Raises:
            UserError: the result is calibrated already.
        """
        if result.calibrated:
            raise UserError('the result is calibrated already')
        needed = ('screen_px', *NEEDS.get(self.method, ()))
        if isinstance(self.model, Kappa):
            needed = NEEDS['kappa'] + (('head_rotation',) if self.model.frame == 'head' else ())
        if not result.found or not all(known(getattr(result, name)) for name in needed):
            return replace(result)
        unknown = np.full(2, np.nan)
        whole = replace(result, screen_px=unknown if result.screen_px is None else result.screen_px)
        seen = Observations.of([CalibrationSample(unknown, whole)], self.screen)
        point = self.model.correct(seen)[0]
        if not known(point):
            gaze = self.model.turned(seen)[0] if isinstance(self.model, Kappa) else None
            return self._moved(result, None, gaze)
        return self._moved(result, point, None)

    def _moved(self, result: GazeResult, point: Array | None, gaze: Array | None) -> GazeResult:
        """A result with another point of gaze, or without one."""
        plane = None
        if point is not None:
            plane = self.screen.px_to_plane_mm(point, result.origin_mm)
            if result.origin_mm is not None:
                gaze = self.screen.px_to_camera(point) - result.origin_mm
                gaze = gaze / np.linalg.norm(gaze)
        return replace(
            result,
            screen_px=point,
            on_screen=point is not None and bool(self.screen.contains(point)),
            plane_mm=plane if plane is not None and np.isfinite(plane).all() else None,
            gaze=gaze,
            gaze_normalised=None,
            gaze_frame='',
            calibrated=True,
        )

    def check(self, screen: Screen, model_identity: str = '', camera_identity: str = '') -> None:
        """Compare with a set-up.

        Raises:
            UserError: the calibration is for another screen, model or camera; the message names all that differ.
        """
        pairs = (
            ('screen', self.screen.identity(), screen.identity()),
            ('model', self.model_identity, model_identity),
            ('camera', self.camera_identity, camera_identity),
        )
        other = [f'{name} ({mine or "none"}, not {yours or "none"})' for name, mine, yours in pairs if mine != yours]
        if other:
            raise UserError(f'this calibration is for another {" and another ".join(other)}: calibrate again')

    def to_json(self) -> dict[str, Any]:
        """What stands in the file."""
        return {
            'format': 'evg-calibration',
            'version': 1,
            'method': self.method,
            'parameters': parameters(self.model),
            'screen': self.screen.to_json(),
            'model': self.model_identity,
            'camera': self.camera_identity,
            'n_points': self.n_points,
            'n_samples': self.n_samples,
            'rejected': [list(pair) for pair in self.rejected],
            'leave_one_out': None if self.leave_one_out is None else self.leave_one_out.to_json(),
            'message': self.message,
        }

    @classmethod
    def from_json(cls, values: Any, where: str = 'the calibration') -> 'Calibration':
        """The inverse of `to_json`.

        Raises:
            UserError: not a calibration; the message begins with `where`.
        """
        required = ('method', 'parameters', 'screen', 'model', 'camera')
        report = ('n_points', 'n_samples', 'rejected', 'leave_one_out', 'message')
        values = checked_json(values, 'evg-calibration', required, report, where)
        texts = (values['method'], values['model'], values['camera'], values.get('message', ''))
        if not all(isinstance(text, str) for text in texts) or values['method'] not in METHODS:
            raise UserError(f'{where}: method must be one of {", ".join(METHODS)}, and model and camera texts')
        try:
            loo = values.get('leave_one_out')
            return cls(
                model=method_of(values['method'], values['parameters']),
                screen=Screen.from_json(values['screen'], 'screen'),
                model_identity=values['model'],
                camera_identity=values['camera'],
                n_points=int(values.get('n_points', 0)),
                n_samples=int(values.get('n_samples', 0)),
                rejected=tuple((int(number), str(reason)) for number, reason in values.get('rejected', ())),
                leave_one_out=None if loo is None else LeaveOneOut.from_json(loo),
                message=values.get('message', ''),
            )
        except UserError as error:
            raise UserError(f'{where}: {error}') from None
        except (TypeError, ValueError, KeyError, OverflowError):
            raise UserError(f'{where}: its report (n_points, rejected, leave_one_out) is damaged') from None

    def save(self, path: str | os.PathLike) -> None:
        """Write the calibration as JSON, whole or not at all."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike) -> 'Calibration':
        """Read a file of `save`; call `check` before it is used.

        Raises:
            UserError: missing, not JSON, or not a calibration.
        """
        return cls.from_json(read_json(path, 'Calibration.save'), str(path))


def fit_calibration(
    samples: Sequence[CalibrationSample],
    screen: Screen,
    method: str = 'affine',
    model_identity: str = '',
    camera_identity: str = '',
    settle_ms: float = SETTLE_MS,
    min_score: float = 0.0,
) -> Calibration:
    """Fit a calibration.

    Args:
        samples: frames in the order of time; those of one point have the same `target_px`.
        screen: the declared screen.
        method: a name in `METHODS`.
        model_identity, camera_identity: of the predictor and the camera, for `Calibration.check`.
        settle_ms: how much of the beginning of each point is left out, see `usable`.
        min_score: smallest score of a sample, 0..1.

    Raises:
        UserError: an unknown method, no usable sample, or too few points for the method.
    """
    if method not in METHODS:
        raise UserError(f'unknown calibration method {method!r}{did_you_mean(method, METHODS)}')
    needs = NEEDS.get(method, ())
    kept, rejected = usable(samples, screen, needs, settle_ms, min_score)
    if not kept:
        raise UserError(
            f'none of the {len(samples)} samples can be used ({count_reasons(rejected) or "there is none"}); let the '
            'camera see the face in good light, look at each point, and calibrate again'
            + _other_method(rejected, needs)
        )
    seen = Observations.of([samples[i] for i in kept], screen)
    targets = seen.means(seen.target_px)
    if len(targets) > MAX_POINTS:
        raise UserError(f'a calibration has at most {MAX_POINTS} points, not {len(targets)}')
    if len(targets) < MIN_POINTS[method] or (MIN_POINTS[method] > 1 and on_a_line(seen, targets)):
        raise UserError(
            f'method {method!r} needs {MIN_POINTS[method]} points or more that do not lie on a line, and has '
            f'{len(targets)} ({count_reasons(rejected) or "no sample was left out"}); use 4, 5, 9 or 13 points '
            "(target_points), or method 'translation'"
        )
    # Values at the border of what passed the checks may still overflow; the parameters are looked at instead.
    with np.errstate(all='ignore'):
        model = METHODS[method].fit(seen)
        if not all(np.isfinite(value).all() for value in vars(model).values() if not isinstance(value, str)):
            raise UserError(f'method {method!r} finds no finite correction for these samples; calibrate again')
        errors = leave_one_out(method, seen)
    return Calibration(
        model=model,
        screen=screen,
        model_identity=model_identity,
        camera_identity=camera_identity,
        n_points=len(targets),
        n_samples=len(kept),
        rejected=tuple(rejected),
        leave_one_out=errors,
        message=' '.join(_remarks(method, model, samples, kept)),
    )


def _remarks(method: str, model: Method, samples: Sequence[CalibrationSample], kept: Sequence[int]) -> list[str]:
    """Sentences for the user."""
    remarks = []
    if method != model.NAME:
        remarks.append(
            f'{method} needs three points or more that do not lie on a line, in truth and as measured: '
            f'a {model.NAME} was fitted instead.'
        )
    used = {tuple(samples[i].target_px) for i in kept}
    for x, y in dict.fromkeys(tuple(sample.target_px) for sample in samples):
        if (x, y) not in used:
            remarks.append(f'No usable sample at the point ({x:.0f}, {y:.0f}): look there again.')
    return remarks


def _other_method(rejected: Sequence[tuple[int, str]], needs: Sequence[str]) -> str:
    """A hint where the model does not have what the method needs."""
    lacking = [name for name in needs if any(reason == f'no {name}' for _, reason in rejected)]
    return f"; this model does not give {' and '.join(lacking)}: use method 'affine'" if lacking else ''
