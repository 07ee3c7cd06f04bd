"""What a predictor says about one face in one frame."""

import math
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evg.errors import UserError, did_you_mean
from evg.geometry import vector_to_pitchyaw

Array = NDArray[np.float64]

# Shapes of the arrays, None is any length.
_SHAPES: dict[str, tuple[int | None, ...]] = {
    'plane_mm': (2,),
    'screen_px': (2,),
    'gaze': (3,),
    'gaze_normalised': (3,),
    'origin_mm': (3,),
    'head_rotation': (3, 3),
    'face_center_px': (2,),
    'face_box_px': (4,),
    'landmarks_px': (None, 2),
    'features': (None,),
}
_FLAGS, _TEXTS = ('found', 'on_screen', 'calibrated'), ('reason', 'gaze_frame')
_UNIT = ('gaze', 'gaze_normalised')
_DERIVED = ('plane_cm', 'pitchyaw_rad')


@dataclass(eq=False)
class GazeResult:
    """The gaze of one face in one frame; a frame without a face is a result too, with `found=False`.

    Convention:
        Frames and signs of docs/conventions.md. `*_mm` with three values and `gaze` are camera frame (OpenCV axes),
        `plane_mm` is plane frame (u to the user's right, v down), `screen_px` px of the declared `Screen`, other
        `*_px` px of the picture. What a model does not know is None.

    Attributes:
        found: whether there is a gaze.
        reason: why not: 'no face', 'eyes closed', 'low score', ...; '' with a gaze.
        plane_mm: (2,) where the line of gaze meets the camera's plane; a plane model's answer by its own rule.
        screen_px: (2,) point of gaze on the declared screen; it may lie outside. None where the line misses the plane.
        on_screen: whether it lies on the screen.
        gaze: (3,) unit vector, eye to target.
        gaze_normalised: (3,) the same in the frame of the normalised patch that a network saw.
        gaze_frame: the frame of `gaze_normalised`: 'normalised_r' or 'normalised_sr'; '' without it.
        origin_mm: (3,) where the gaze starts: face or eye centre.
        head_rotation: (3, 3) head to camera; identity for a face straight at the camera.
        score: confidence, 0..1.
        eyes_open: 0 closed to 1 open.
        face_center_px: (2,).
        face_box_px: (4,) x1 y1 x2 y2.
        landmarks_px: (K, 2).
        features: (F,) inputs of the calibration by features; their names are `FEATURES` of the estimator's module.
        calibrated: whether a calibration was applied.
        times_ms: how long the steps took: 'detect', 'prepare', 'network', 'decode', 'total'.
        timestamp_ms: of the frame, the caller's clock.
    """

    found: bool
    reason: str = ''
    plane_mm: Array | None = None
    screen_px: Array | None = None
    on_screen: bool = False
    gaze: Array | None = None
    gaze_normalised: Array | None = None
    gaze_frame: str = ''
    origin_mm: Array | None = None
    head_rotation: Array | None = None
    score: float = 0.0
    eyes_open: float | None = None
    face_center_px: Array | None = None
    face_box_px: Array | None = None
    landmarks_px: Array | None = None
    features: Array | None = None
    calibrated: bool = False
    times_ms: dict[str, float] = field(default_factory=dict)
    timestamp_ms: float | None = None

    @property
    def plane_cm(self) -> Array | None:
        """(2,) `plane_mm` in cm."""
        return None if self.plane_mm is None else self.plane_mm / 10

    @property
    def pitchyaw_rad(self) -> Array | None:
        """(2,) (pitch, yaw) of `gaze`, radians: up and the user's right positive."""
        return None if self.gaze is None else vector_to_pitchyaw(self.gaze)

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`, with `plane_cm` and `pitchyaw_rad`; what is not finite is null."""
        names = [*(f.name for f in fields(self)), *_DERIVED]
        return {name: _plain(getattr(self, name)) for name in names}

    @classmethod
    def from_json(cls, values: Any) -> 'GazeResult':
        """The inverse of `to_json`; null within an array becomes NaN, derived values are made anew.

        Raises:
            UserError: not an object, an unknown or missing name, a wrong type or shape.
        """
        if not isinstance(values, dict):
            raise UserError(f'a gaze result must be a JSON object, not {type(values).__name__}')
        known = [f.name for f in fields(cls)]
        for name in values:
            if name not in known and name not in _DERIVED:
                raise UserError(f'a gaze result has no {str(name)[:60]!r}{did_you_mean(str(name)[:60], known)}')
        if 'found' not in values:
            raise UserError("a gaze result needs 'found': true or false")
        given = {name: value for name, value in values.items() if name in known and value is not None}
        return cls(**{name: _checked(name, value) for name, value in given.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (bool, np.bool_)) or value is None or isinstance(value, str):
        return bool(value) if isinstance(value, np.bool_) else value
    return float(value) if math.isfinite(value) else None


def _checked(name: str, value: Any) -> Any:
    """A value of a field as it came out of JSON; never None."""
    try:
        if name in _SHAPES:
            shape = _SHAPES[name]
            array = np.array(_numbers(value, len(shape)), np.float64)
            if array.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
                raise ValueError
            if name in _UNIT and not abs(np.linalg.norm(array) - 1) < 1e-3:
                raise ValueError
            return array
        if name in _FLAGS or name in _TEXTS:
            if not isinstance(value, bool if name in _FLAGS else str):
                raise ValueError
            return value
        if name == 'times_ms':
            if not isinstance(value, dict):
                raise ValueError
            return {str(k): _numbers(v, 0) for k, v in value.items()}
        return _numbers(value, 0)
    except (ValueError, OverflowError):
        expected = 'true or false' if name in _FLAGS else 'a text' if name in _TEXTS else 'a finite number'
        if name in _SHAPES:
            expected = f'numbers of shape {tuple("N" if n is None else n for n in _SHAPES[name])}'
            expected += ', a unit vector' * (name in _UNIT)
        raise UserError(f'{name} of a gaze result must be {expected}') from None


def _numbers(value: Any, depth: int) -> Any:
    """Lists of finite floats, `depth` deep; null is NaN within a list."""
    if depth and isinstance(value, list):
        return [math.nan if v is None and depth == 1 else _numbers(v, depth - 1) for v in value]
    if depth or isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError
    return float(value)
