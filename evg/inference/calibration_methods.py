"""What a calibration can be: each method fits observations and corrects the points of others.

Convention of this module (all classes):
    `fit` takes `Observations` of at least one point and never fails for want of points: with fewer than a method can
    use it shrinks to a translation. `correct` returns the corrected points (N, 2), px of the declared screen, NaN
    where there is none. Every point weighs the same, however many samples it has. A correction in mm is on the
    screen, x right, y down.
"""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evg.errors import UserError
from evg.geometry import apply_affine, pitchyaw_to_vector, vector_to_pitchyaw
from evg.inference.calibration_samples import Observations

Array = NDArray[np.float64]

# Penalties of the ridge, relative to a column of spread 1; the largest leaves a translation.
PENALTIES = (0.0, *np.logspace(-4, 3, 15).tolist())
# Beyond the points that were fitted a correction goes on as it is at this limit: in half screens from the middle, and
# in standard deviations of a feature.
_REACH, _FEATURE_REACH = 1.25, 3.0
_FLAT = 0.02  # points whose two spreads have a smaller ratio lie on a line


@dataclass(frozen=True, eq=False)
class Translation:
    """Adds one vector: the Atlas client's calibration, the mean over the points of target minus mean of the samples."""

    offset_px: Array
    NAME: ClassVar[str] = 'translation'
    SHAPES: ClassVar[dict[str, tuple]] = {'offset_px': (2,)}

    @classmethod
    def fit(cls, seen: Observations) -> 'Translation':
        return cls((seen.means(seen.target_px) - seen.means(seen.measured_px)).mean(axis=0))

    def correct(self, seen: Observations) -> Array:
        return seen.measured_px + self.offset_px


@dataclass(frozen=True, eq=False)
class Affine:
    """An affine map (2, 3) of the screen, px to px: least squares between the means of the points and the targets."""

    matrix: Array
    NAME: ClassVar[str] = 'affine'
    SHAPES: ClassVar[dict[str, tuple]] = {'matrix': (2, 3)}

    @classmethod
    def fit(cls, seen: Observations) -> 'Affine | Translation':
        measured, target = seen.means(seen.measured_px), seen.means(seen.target_px)
        if on_a_line(seen, target) or on_a_line(seen, measured):
            return Translation.fit(seen)
        rows = np.column_stack([measured, np.ones(len(measured))])
        return cls(np.linalg.lstsq(rows, target, rcond=None)[0].T.copy())

    def correct(self, seen: Observations) -> Array:
        return apply_affine(self.matrix, seen.measured_px)


@dataclass(frozen=True, eq=False)
class Ridge:
    """Adds a polynomial of degree 2 of the point.

    Fitted to the means of the points. All but the constant term are shrunk towards 0, by the largest penalty whose
    leave-one-point-out error is within one standard error of the smallest: where the points do not show more, it is a
    translation.

    Attributes:
        coefficients_mm: (6, 2) of 1, x, y, x^2, x y, y^2 with x and y from -1 to 1 over the screen.
        penalty: the one that was chosen.
    """

    coefficients_mm: Array
    penalty: float
    NAME: ClassVar[str] = 'ridge'
    SHAPES: ClassVar[dict[str, tuple]] = {'coefficients_mm': (6, 2), 'penalty': ()}

    @classmethod
    def fit(cls, seen: Observations) -> 'Ridge':
        measured, target = seen.means(seen.measured_px), seen.means(seen.target_px)
        goal = seen.screen.px_to_mm(target - measured)
        number = np.arange(len(measured))
        return cls(*_fit_ridge(_quadratic(measured, seen), goal, np.full(len(number), 1 / len(number)), number))

    def correct(self, seen: Observations) -> Array:
        correction_mm = self.coefficients_mm[0] + _quadratic(seen.measured_px, seen) @ self.coefficients_mm[1:]
        return seen.measured_px + seen.screen.mm_to_px(correction_mm)


def _quadratic(points_px: Array, seen: Observations) -> Array:
    """(N, 5) x, y, x^2, x y, y^2."""
    x, y = np.clip(2 * points_px / seen.screen.size_px - 1, -_REACH, _REACH).T
    return np.column_stack([x, y, x * x, x * y, y * y])


@dataclass(frozen=True, eq=False)
class Kappa:
    """Turns the gaze by a constant angle in the frame of the eye: what a person's kappa differs from the model's.

    The model's gaze stands for the eye's axis. The eye turns without torsion (Fick's order: pitch, then yaw about the
    vertical of the head), and the visual axis has fixed (pitch, yaw) in its frame. A sample's corrected gaze is
    therefore A v with A a rotation and v a constant unit vector, and sum |A v - d|^2 over the directions d to the
    targets is smallest for v along sum A^T d: exact, without iterations.

    Attributes:
        pitchyaw_rad: (2,) of v; (0, 0) corrects nothing.
        frame: 'head' (the head's axes, where the model knows them) or 'camera' (its vertical stands in for the head's).
    """

    pitchyaw_rad: Array
    frame: str
    NAME: ClassVar[str] = 'kappa'
    SHAPES: ClassVar[dict[str, tuple]] = {'pitchyaw_rad': (2,)}

    def __post_init__(self):
        if self.frame not in ('head', 'camera'):
            raise UserError(f"frame of a kappa calibration must be 'head' or 'camera', not {str(self.frame)[:40]!r}")

    @classmethod
    def fit(cls, seen: Observations) -> 'Kappa':
        frame = 'camera' if seen.head_rotation is None else 'head'
        sight = seen.screen.px_to_camera(seen.target_px) - seen.need('origin_mm')
        sight /= np.linalg.norm(sight, axis=1, keepdims=True)
        return cls(vector_to_pitchyaw(np.einsum('n,nij,ni->j', seen.weight, _eyes(seen, frame), sight)), frame)

    def turned(self, seen: Observations) -> Array:
        """(N, 3) corrected unit gaze vectors, camera frame."""
        return _eyes(seen, self.frame) @ pitchyaw_to_vector(self.pitchyaw_rad)

    def correct(self, seen: Observations) -> Array:
        return seen.screen.ray_to_px(seen.need('origin_mm'), self.turned(seen))


def _eyes(seen: Observations, frame: str) -> Array:
    """(N, 3, 3) eye to camera: the columns are the axes of an eye that looks along the gaze, -z the gaze."""
    head = np.broadcast_to(np.eye(3), (len(seen), 3, 3)) if frame == 'camera' else seen.need('head_rotation')
    gaze = np.einsum('nji,nj->ni', head, seen.need('gaze'))
    yaw = vector_to_pitchyaw(gaze)[:, 1]
    across = np.column_stack([np.cos(yaw), np.zeros(len(yaw)), -np.sin(yaw)])
    back = -gaze / np.linalg.norm(gaze, axis=1, keepdims=True)
    return head @ np.stack([across, np.cross(back, across), back], axis=2)


@dataclass(frozen=True, eq=False)
class Features:
    """Adds a linear function of the model's features and of its point.

    Fitted to the samples, so that a head that moves while the eyes rest teaches what to ignore; shrunk as in `Ridge`.

    Attributes:
        center, scale: (F + 2,) mean and spread of the features and the point in mm.
        coefficients_mm: (F + 3, 2) of 1 and the columns.
        penalty: the one that was chosen.
    """

    center: Array
    scale: Array
    coefficients_mm: Array
    penalty: float
    NAME: ClassVar[str] = 'features'
    SHAPES: ClassVar[dict[str, tuple]] = {
        'center': (None,),
        'scale': (None,),
        'coefficients_mm': (None, 2),
        'penalty': (),
    }

    def __post_init__(self):
        if not len(self.center) == len(self.scale) == len(self.coefficients_mm) - 1 or not (self.scale > 0).all():
            raise UserError(
                'a calibration by features needs a center, a positive scale and coefficients of each column'
            )

    @classmethod
    def fit(cls, seen: Observations) -> 'Features':
        columns = _columns(seen)
        center = seen.weight @ columns
        scale = np.sqrt(seen.weight @ (columns - center) ** 2)
        scale[scale <= 1e-9 * np.abs(center) + 1e-12] = 1.0  # a column that stands still says nothing
        goal = seen.screen.px_to_mm(seen.target_px - seen.measured_px)
        coefficients, penalty = _fit_ridge((columns - center) / scale, goal, seen.weight, seen.point)
        return cls(center, scale, coefficients, penalty)

    def correct(self, seen: Observations) -> Array:
        columns = _columns(seen)
        if columns.shape[1] != len(self.center):
            raise UserError(f'{len(self.center) - 2} features were calibrated, the result has {columns.shape[1] - 2}')
        scaled = np.clip((columns - self.center) / self.scale, -_FEATURE_REACH, _FEATURE_REACH)
        correction_mm = self.coefficients_mm[0] + scaled @ self.coefficients_mm[1:]
        return seen.measured_px + seen.screen.mm_to_px(correction_mm)


def _columns(seen: Observations) -> Array:
    """(N, F + 2) features and measured point in mm."""
    return np.column_stack([seen.need('features'), seen.screen.px_to_mm(seen.measured_px)])


Method = Translation | Affine | Ridge | Kappa | Features
METHODS: dict[str, Any] = {method.NAME: method for method in (Translation, Affine, Ridge, Kappa, Features)}
# What a result must have for a method, beside a point on the screen; how many points, not on a line, it takes.
NEEDS = {'kappa': ('gaze', 'origin_mm'), 'features': ('features',)}
MIN_POINTS = {'translation': 1, 'affine': 1, 'kappa': 1, 'ridge': 4, 'features': 4}


def parameters(model: Method) -> dict[str, Any]:
    """The JSON values of a fitted method."""
    values = {field.name: getattr(model, field.name) for field in fields(model)}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}


def method_of(method: str, values: Any) -> Method:
    """The inverse of `parameters`.

    Raises:
        UserError: other names, shapes or values.
    """
    kind = METHODS[method]
    names = [field.name for field in fields(kind)]
    if not isinstance(values, dict) or sorted(values) != sorted(names):
        raise UserError(f'parameters of method {method!r} must be {", ".join(names)}')
    arguments = {}
    for name, value in values.items():
        shape = kind.SHAPES.get(name)
        if shape is None:
            arguments[name] = value
            continue
        try:
            array = np.array(value, np.float64)
        except (TypeError, ValueError):
            array = np.array(np.nan)
        fits = array.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
        if not fits or not np.isfinite(array).all():
            raise UserError(f'parameter {name} of method {method!r} must be finite numbers of shape {shape}')
        arguments[name] = array if shape else float(array)
    return kind(**arguments)


def on_a_line(seen: Observations, points_px: Array) -> bool:
    """Whether points (P, 2) lie on a line or in one place, or are fewer than three."""
    spread = np.linalg.svd(seen.screen.px_to_mm(points_px - points_px.mean(axis=0)), compute_uv=False)
    return len(points_px) < 3 or spread[1] <= max(_FLAT * spread[0], 1.0)


def _fit_ridge(rows: Array, goal: Array, weight: Array, group: NDArray[np.intp]) -> tuple[Array, float]:
    """Ridge regression with a free constant; the penalty is chosen by leaving out one group at a time, see `Ridge`.

    Args:
        rows: (N, K).
        goal: (N, 2).
        weight: (N,), their sum is 1.
        group: (N,) 0, 1, ...

    Returns:
        Coefficients (1 + K, 2), the constant first, and the penalty.
    """
    count = int(group.max()) + 1
    error = np.zeros((count, len(PENALTIES)))
    for left_out in range(count if count > 1 else 0):
        out = group == left_out
        path = _ridge_path(rows[~out], goal[~out], weight[~out] / weight[~out].sum())
        missed = path[:, :1] + rows[out] @ path[:, 1:] - goal[out]
        error[left_out] = np.einsum('n,pnk->p', weight[out] / weight[out].sum(), missed**2)
    mean = error.mean(axis=0)
    spread = error[:, int(np.argmin(mean))].std() / np.sqrt(count)
    best = int(np.flatnonzero(mean <= mean.min() + spread)[-1])
    return _ridge_path(rows, goal, weight)[best], PENALTIES[best]


def _ridge_path(rows: Array, goal: Array, weight: Array) -> Array:
    """(penalties, 1 + K, 2) coefficients for each penalty, from one singular value decomposition."""
    center, middle = weight @ rows, weight @ goal
    root = np.sqrt(weight)[:, None]
    left, size, right = np.linalg.svd(root * (rows - center), full_matrices=False)
    along = left.T @ (root * (goal - middle))
    penalties = np.asarray(PENALTIES)[:, None]
    # Without a penalty, directions that the points do not span are left alone.
    gain = np.where(size > 1e-9 * max(size.max(initial=0), 1e-12), size, 0) / np.maximum(size**2 + penalties, 1e-300)
    slopes = np.einsum('kj,pk,kc->pjc', right, gain, along)
    return np.concatenate([(middle - center @ slopes)[:, None], slopes], axis=1)
