"""Metrics of the runner: error of the point of gaze, angular error, and error of gaze vectors.

All keep one small row per sample and compute once, over all rows, so that every sample weighs the same whatever the
batches and processes were. After `evaluate`, on the main process, `report` holds the whole result as JSON values (see
`report.render`) and `rows()` the columns behind it.

Convention:
    Plane points: plane frame, mm. Angles: between two rays from the true face origin, degrees; pitch and yaw of the
    camera frame. Labels are the true ones, not those clamped to the virtual plane; VP px are mm times ppm. Gaze
    vectors: unit vectors, eye to target, in the frame that the sample declares.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from numpy.typing import NDArray

from evg.datasets.index import GAZE_FRAMES
from evg.errors import UserError
from evg.geometry import Rig, angle_between_deg
from evg.registry import METRICS
from evg.structures import GazeDataSample

from . import functional as F
from .breakdown import gaze_subsets

Columns = dict[str, NDArray]

# What a report's constant answer is.
OF_THE_TRAINING, OF_THE_TEST = 'the training mean', 'the mean of these labels'

# Places in a row's numbers.
_VALUES = {
    'gt_plane_mm': slice(0, 2),
    'pred_plane_mm': slice(2, 4),
    'gt_screen_px': slice(4, 6),
    'gt_target_mm': slice(6, 9),
    'gt_origin_mm': slice(9, 12),
    'pred_score': slice(12, 13),
}
_GAZE_VALUES = {'gt_gaze': slice(0, 3), 'pred_gaze': slice(3, 6), 'pred_score': slice(6, 7)}


@dataclass(slots=True)
class _Row:
    """What is kept of one sample; it can be pickled for gathering."""

    sample_id: str
    subject: str
    convention: str  # plane rule or gaze frame
    rig: Rig | None
    values: NDArray[np.float64]


class _GazeMetric(BaseMetric):
    """The rows of a metric; a child names what it reads and computes.

    Attributes:
        places: where each field of a sample stands in a row's numbers.
        required: fields that may not be None.
        prediction: the field that the model fills in.
        convention: the field that says how the others are to be read.
        error: the column of `rows()` that the report is about.
    """

    places: Mapping[str, slice] = _VALUES
    required: tuple[str, ...] = ()
    prediction = 'pred_plane_mm'
    convention = 'plane_rule'
    error = ''

    def __init__(self, collect_device: str = 'cpu', prefix: str | None = None, collect_dir: str | None = None) -> None:
        super().__init__(collect_device, prefix, collect_dir)
        self.report: dict[str, Any] | None = None
        self._rows: Columns | None = None
        self._rigs: dict[tuple, Rig] = {}

    def process(self, data_batch: Any, data_samples: Sequence[GazeDataSample]) -> None:
        """Keep one row of each sample.

        Raises:
            UserError: a label is NaN, a required label or the prediction is None, or the picture was mirrored.
        """
        self.results.extend(self._row(sample) for sample in data_samples)

    def rows(self) -> Columns:
        """Columns of the last evaluation, one row per sample, units in the names; main process only."""
        if self._rows is None:
            raise RuntimeError(f'{type(self).__name__}.rows() needs a finished evaluation, on the main process')
        return self._rows

    def _row(self, sample: GazeDataSample) -> _Row:
        if sample.flipped:
            raise UserError(
                f'sample {sample.sample_id!r} was mirrored, so its rig does not apply: '
                'take RandomFlip out of the pipeline'
            )
        if getattr(sample, self.prediction) is None:
            raise UserError(
                f'sample {sample.sample_id!r} carries no {self.prediction}: the model has no head and codec for it, or '
                'was not called in the mode predict'
            )
        values = np.full(max(place.stop for place in self.places.values()), np.nan)
        for name, place in self.places.items():
            value = getattr(sample, name)
            if value is None:
                if name in self.required:
                    raise UserError(f'sample {sample.sample_id!r} has no {name}, which {type(self).__name__} needs')
                continue
            size = place.stop - place.start
            if np.size(value) != size:
                raise UserError(f'sample {sample.sample_id!r}: {name} has {np.size(value)} values instead of {size}')
            values[place] = np.ravel(value)
            if name.startswith('gt_') and not np.isfinite(values[place]).all():
                raise UserError(f'sample {sample.sample_id!r}: label {name} is {value}; a missing label must be None')
        convention = getattr(sample, self.convention)
        return _Row(sample.sample_id, sample.subject, convention, self._shared(sample.rig), values)

    def _shared(self, rig: Rig | None) -> Rig | None:
        """One object for equal rigs: loader workers send a new copy with each batch."""
        return rig if rig is None else self._rigs.setdefault(_rig_key(rig), rig)

    def _table(self, results: Sequence[_Row]) -> tuple[Columns, NDArray[np.intp], list[Rig]]:
        """Columns of the rows, each row's rig (-1 for none) and the rigs."""
        if not results:
            raise UserError(f'{type(self).__name__} got not one sample: the evaluated split is empty')
        values = np.stack([row.values for row in results])
        table = {name: np.array([getattr(row, name) for row in results]) for name in ('sample_id', 'subject')}
        table[self.convention] = np.array([row.convention for row in results])
        table |= {name: values[:, place] for name, place in self.places.items()}
        table['pred_score'] = table['pred_score'][:, 0]
        # Rows of other processes bring their own objects; few keys are made, one for each object.
        objects = {id(row.rig): row.rig for row in results if row.rig is not None}
        numbers: dict[tuple, int] = {}
        by_object = {key: numbers.setdefault(_rig_key(rig), len(numbers)) for key, rig in objects.items()}
        index = np.array([by_object.get(id(row.rig), -1) for row in results])
        rigs: list[Any] = [None] * len(numbers)
        for key, number in by_object.items():
            rigs[number] = objects[key]
        return table, index, rigs

    def _meta(self, name: str) -> Any:
        return (self.dataset_meta or {}).get(name)


@METRICS.register_module()
class PoGError(_GazeMetric):
    """Distance between predicted and true point of gaze.

    Scalars under `pog/`: `mean_mm`, `median_mm`, `p95_mm`, `x_mean_mm`, `y_mean_mm`, `mean_cm`, `subject_mean_mm` and
    `subject_ci95_mm` (mean over subjects, half width of its 95 % interval), `n`, `n_missing` (the prediction is NaN: in
    `n`, not in the averages), `n_subjects`; `mean_vp_px` where ppm is known, `mean_screen_px` where the rigs place a
    screen, `constant_mean_mm` (always answering the training mean) where `dataset_meta['train_mean_plane_mm']` is set.

    Args:
        ppm: VP pixels per mm; `dataset_meta['ppm']` by default.
        collect_device: see mmengine.
        prefix: see mmengine.
        collect_dir: see mmengine.
    """

    default_prefix = 'pog'
    required = ('gt_plane_mm',)
    error = 'error_mm'

    def __init__(
        self,
        ppm: float | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix, collect_dir)
        if ppm is not None and not ppm > 0:
            raise UserError(f'PoGError.ppm must be positive (VP pixels per mm), not {ppm}')
        self.ppm = ppm

    def compute_metrics(self, results: Sequence[_Row]) -> dict[str, float]:
        """All scalars; see the class."""
        table, rig_index, rigs = self._table(results)
        pred, truth = table['pred_plane_mm'], table['gt_plane_mm']
        error, axes = F.distance(pred, truth), F.axis_distance(pred, truth)
        pred_screen = F.plane_to_screen_px(pred, table['gt_origin_mm'], table['plane_rule'], rig_index, rigs)
        screen = F.distance(pred_screen, table['gt_screen_px'])
        self._rows = table | {'pred_screen_px': pred_screen, 'error_mm': error, 'error_screen_px': screen}

        ppm = self._ppm()
        overall = [
            _quantity('distance', 'mm', error),
            _quantity('across (u)', 'mm', axes[:, 0]),
            _quantity('down (v)', 'mm', axes[:, 1]),
            _quantity('distance', 'cm', error / 10),
        ]
        if ppm is not None:
            overall.append(_quantity('distance', 'VP px', error * ppm))
        if np.isfinite(screen).any():
            overall.append(_quantity('distance', 'screen px', screen))
        constant = self._meta('train_mean_plane_mm')
        baseline = None if constant is None else F.constant_distance(constant, truth)
        if baseline is not None:
            self._rows['constant_error_mm'] = baseline
        self.report = _report(self.prefix, 'Point of gaze', 'mm', table, overall, error, baseline)
        if ppm is not None:
            self.report['ppm'] = ppm
            self.report['notes'].append(f'VP px = mm x {ppm:g} (ppm, VP pixels per mm)')
        return _scalars(self.report, 'mm') | {
            'x_mean_mm': overall[1]['mean'],
            'y_mean_mm': overall[2]['mean'],
            'mean_cm': overall[3]['mean'],
            **{f'mean_{q["unit"].lower().replace(" ", "_")}': q['mean'] for q in overall[4:]},
        }

    def _ppm(self) -> float | None:
        declared = self._meta('ppm')
        if self.ppm is not None and declared is not None and not np.isclose(self.ppm, declared):
            raise UserError(f'PoGError.ppm is {self.ppm}, the data set says {declared}: make them equal or drop one')
        ppm = declared if self.ppm is None else self.ppm
        return None if ppm is None else float(ppm)


@METRICS.register_module()
class AngularError(_GazeMetric):
    """Angle between the rays from the true face origin to the predicted and to the true 3-D point of gaze.

    Scalars under `angle/`: `mean_deg`, `median_deg`, `p95_deg`, `pitch_mean_deg`, `yaw_mean_deg` (camera frame),
    `subject_mean_deg`, `subject_ci95_deg`, `n` (samples with a 3-D label), `n_missing` (of those: no prediction,
    or the rule is `offset` and the rig has no pose), `n_subjects`, `n_unlabelled` (no origin or target: not in `n`),
    `constant_mean_deg` as in `PoGError`. Without any 3-D label, `n` is 0 and the angles are NaN.

    Args:
        collect_device: see mmengine.
        prefix: see mmengine.
        collect_dir: see mmengine.
    """

    default_prefix = 'angle'
    error = 'error_deg'

    def compute_metrics(self, results: Sequence[_Row]) -> dict[str, float]:
        """All scalars; see the class."""
        table, rig_index, rigs = self._table(results)
        origin = table['gt_origin_mm']
        truth = table['gt_target_mm'] - origin
        labelled = np.isfinite(truth).all(axis=1)
        place = (origin, table['plane_rule'], rig_index, rigs)
        direction = F.plane_to_direction(table['pred_plane_mm'], *place)
        error, axes = angle_between_deg(direction, truth), F.pitchyaw_error_deg(direction, truth)
        self._rows = table | {'error_deg': error, 'error_pitchyaw_deg': axes}

        overall = [
            _quantity('angle', 'deg', error),
            _quantity('pitch', 'deg', axes[:, 0]),
            _quantity('yaw', 'deg', axes[:, 1]),
        ]
        constant, baseline = self._meta('train_mean_plane_mm'), None
        if constant is not None:
            answer = F.plane_to_direction(np.broadcast_to(constant, (len(truth), 2)), *place)
            baseline = angle_between_deg(answer, truth)
            self._rows['constant_error_deg'] = baseline
        chosen = {name: table[name][labelled] for name in ('sample_id', 'subject')}
        self.report = _report(self.prefix, 'Gaze direction', 'deg', chosen, overall, error[labelled], baseline)
        self.report['n_unlabelled'] = int((~labelled).sum())
        if not labelled.all():
            note = f'{(~labelled).sum():,} of {len(labelled):,} samples have no face origin or no 3-D target: no angle'
            self.report['notes'].append(note)
            print_log(f'{type(self).__name__}: {note}', 'current', logging.WARNING)
        scalars = _scalars(self.report, 'deg')
        scalars |= {'pitch_mean_deg': overall[1]['mean'], 'yaw_mean_deg': overall[2]['mean']}
        return scalars | {'n_unlabelled': self.report['n_unlabelled']}


@METRICS.register_module()
class GazeError(_GazeMetric):
    """Angle between predicted and true gaze vector, both in the frame that the samples declare.

    For data without a place of the target. Scalars under `gaze/`: `mean_deg`, `median_deg`, `p95_deg`,
    `pitch_mean_deg`, `yaw_mean_deg`, `subject_mean_deg`, `subject_ci95_deg`, `n`, `n_missing`, `n_subjects`,
    `constant_mean_deg` (always answering the mean of the tested labels: a pipeline may turn them, so the training mean
    is not in the index), and Gaze360's subsets by the true gaze's angle to (0, 0, -1), which looks into a camera:
    `front180_mean_deg` (within 90 deg) and `front20_mean_deg` (within 20 deg), NaN where there is none.

    Args:
        frame: what the model answers in, one of `evg.datasets.index.GAZE_FRAMES`; by default whatever the samples
            declare, as long as it is one and the same.
        collect_device: see mmengine.
        prefix: see mmengine.
        collect_dir: see mmengine.
    """

    default_prefix = 'gaze'
    places = _GAZE_VALUES
    required = ('gt_gaze',)
    prediction = 'pred_gaze'
    convention = 'gaze_frame'
    error = 'error_gaze_deg'

    def __init__(
        self,
        frame: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix, collect_dir)
        if frame is not None and frame not in GAZE_FRAMES:
            raise UserError(f'GazeError.frame must be one of {", ".join(GAZE_FRAMES)}, not {frame!r}')
        self.frame = frame

    def compute_metrics(self, results: Sequence[_Row]) -> dict[str, float]:
        """All scalars; see the class.

        Raises:
            UserError: samples of an undeclared frame, of several frames, or of another one than `frame`.
        """
        table, _, _ = self._table(results)
        frames = set(table['gaze_frame'].tolist())
        wanted = self.frame or min(frames)
        if frames != {wanted} or wanted not in GAZE_FRAMES:
            raise UserError(
                f'the gaze vectors are in the frame {", ".join(map(repr, sorted(frames)))}, '
                f'{repr(self.frame) if self.frame else "one of " + ", ".join(GAZE_FRAMES)} is needed: angles between '
                'vectors of different frames mean nothing'
            )
        pred, truth = table['pred_gaze'], table['gt_gaze']
        error, axes = angle_between_deg(pred, truth), F.pitchyaw_error_deg(pred, truth)
        baseline = angle_between_deg(truth.mean(axis=0), truth)
        self._rows = table | {'error_gaze_deg': error, 'error_gaze_pitchyaw_deg': axes}
        self._rows['constant_error_gaze_deg'] = baseline
        overall = [
            _quantity('angle', 'deg', error),
            _quantity('pitch', 'deg', axes[:, 0]),
            _quantity('yaw', 'deg', axes[:, 1]),
        ]
        self.report = _report(self.prefix, f'Gaze vector, frame {wanted}', 'deg', table, overall, error, baseline)
        self.report['constant_answer'] = OF_THE_TEST
        subsets = gaze_subsets(error, truth, wanted)
        self.report['groups'].append(subsets)
        scalars = _scalars(self.report, 'deg')
        scalars |= {'pitch_mean_deg': overall[1]['mean'], 'yaw_mean_deg': overall[2]['mean']}
        front, facing = (row['mean'] for row in subsets['rows'][1:])
        return scalars | {'front180_mean_deg': front, 'front20_mean_deg': facing}


def _rig_key(rig: Rig) -> tuple:
    """What makes two rigs equal, hashable."""
    values = (getattr(rig, name) for name in Rig.__dataclass_fields__)
    return tuple(value.tobytes() if isinstance(value, np.ndarray) else value for value in values)


def _quantity(name: str, unit: str, values: NDArray[np.float64]) -> dict[str, Any]:
    return {'quantity': name, 'unit': unit, **F.summarise(values)}


def _report(
    prefix: str | None,
    title: str,
    unit: str,
    table: Mapping[str, NDArray],
    overall: list[dict[str, Any]],
    error: NDArray[np.float64],
    baseline: NDArray[np.float64] | None,
) -> dict[str, Any]:
    """The result as JSON values: overall, over subjects, each subject, baseline, notes."""
    missing = np.flatnonzero(~np.isfinite(error))
    subjects = F.per_subject(error, table['subject'])
    subject_mean, subject_ci95 = F.mean_ci95(subjects['mean'])
    by_subject = zip(*(column.tolist() for column in subjects.values()), strict=True)
    constant = None if baseline is None else F.summarise(baseline)['mean']
    with np.errstate(divide='ignore', invalid='ignore'):
        ratio = None if constant is None else float(np.divide(overall[0]['mean'], constant))
    report: dict[str, Any] = {
        'metric': prefix,
        'title': title,
        'unit': unit,
        'n': len(error),
        'n_missing': len(missing),
        'missing_sample_ids': table['sample_id'][missing[:20]].tolist(),
        'n_subjects': len(subjects['subject']),
        'overall': overall,
        'subject_mean': subject_mean,
        'subject_ci95': subject_ci95,
        'constant_answer': OF_THE_TRAINING,
        'constant_mean': constant,
        'constant_ratio': ratio,
        'subjects': [dict(zip(subjects, row, strict=True)) for row in by_subject],
        'groups': [],
        'notes': [],
    }
    if len(missing):
        some = ', '.join(report['missing_sample_ids'][:5])
        report['notes'].append(f'{len(missing):,} of {len(error):,} samples could not be measured, e.g. {some}')
    return report


def _scalars(report: Mapping[str, Any], unit: str) -> dict[str, float]:
    """The scalars that both metrics have."""
    main = report['overall'][0]
    scalars = {f'{name}_{unit}': main[name] for name in ('mean', 'median', 'p95')}
    scalars |= {f'subject_mean_{unit}': report['subject_mean'], f'subject_ci95_{unit}': report['subject_ci95']}
    if report['constant_mean'] is not None:
        scalars[f'constant_mean_{unit}'] = report['constant_mean']
    return scalars | {name: report[name] for name in ('n', 'n_missing', 'n_subjects')}
