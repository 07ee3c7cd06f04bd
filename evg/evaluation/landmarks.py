"""Metric of the runner: distance of predicted to true landmarks."""

from collections.abc import Sequence

import numpy as np

from evg.registry import METRICS

from . import functional as F
from .metrics import OF_THE_TEST, _GazeMetric, _quantity, _report, _Row, _scalars


@METRICS.register_module()
class LandmarkError(_GazeMetric):
    """Mean distance of a sample's landmarks, in px of the stored picture or patch, whatever the network's input.

    Scalars under `landmarks/`: `mean_px`, `median_px`, `p95_px`, `subject_mean_px`, `subject_ci95_px`, `n`,
    `n_missing`, `n_subjects`, `constant_mean_px` (always answering the mean of the tested labels), and, where the
    corners of the eyes are known, `nme_percent`: the mean of each sample's distance in percent of its eye's width.

    Args:
        num_landmarks: landmarks of a sample.
        collect_device: see mmengine.
        prefix: see mmengine.
        collect_dir: see mmengine.
    """

    default_prefix = 'landmarks'
    required = ('gt_landmarks_px',)
    prediction = 'pred_landmarks_px'
    convention = 'gaze_frame'
    error = 'error_landmarks_px'

    def __init__(
        self,
        num_landmarks: int = 8,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix, collect_dir)
        size = 2 * num_landmarks
        names = {'gt_landmarks_px': size, 'pred_landmarks_px': size, 'gt_eye_width_px': 1, 'pred_score': 1}
        ends = np.cumsum(list(names.values())).tolist()
        self.places = {name: slice(end - count, end) for (name, count), end in zip(names.items(), ends, strict=True)}

    def compute_metrics(self, results: Sequence[_Row]) -> dict[str, float]:
        """All scalars; see the class."""
        table, _, _ = self._table(results)
        table['gt_eye_width_px'] = table['gt_eye_width_px'][:, 0]
        pred, truth = (table[name].reshape(len(results), -1, 2) for name in ('pred_landmarks_px', 'gt_landmarks_px'))
        points = F.distance(pred, truth)
        error, baseline = points.mean(axis=1), F.distance(truth.mean(axis=0), truth).mean(axis=1)
        share = 100 * error / table['gt_eye_width_px']
        self._rows = table | {'error_landmarks_px': error, 'constant_error_landmarks_px': baseline}
        overall = [_quantity('distance', 'px', error)]
        if np.isfinite(share).any():
            self._rows['error_landmarks_percent'] = share
            overall.append(_quantity('distance', '% of the eye width', share))
        self.report = _report(self.prefix, 'Landmarks', 'px', table, overall, error, baseline)
        self.report['constant_answer'] = OF_THE_TEST
        rows = [{'group': f'point {k}', **F.summarise(points[:, k])} for k in range(points.shape[1])]
        self.report['groups'].append({'title': 'landmark', 'unit': 'px', 'rows': rows, 'notes': []})
        scalars = _scalars(self.report, 'px')
        return scalars | ({'nme_percent': overall[1]['mean']} if len(overall) > 1 else {})
