"""Files for the servers that hold withheld test labels: ETH-XGaze's text and EVE's zip.

Convention:
    ETH-XGaze: (pitch, yaw) in radians, pitch up +, yaw towards the user's right +, of the normalised camera (R of Zhang
    2018). EVE: px of the 1920 x 1080 screen, origin upper left.
"""

import gzip
import io
import os
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from numpy.typing import ArrayLike, NDArray

from evg.datasets.index import Index
from evg.errors import UserError
from evg.files import atomic_write
from evg.geometry import vector_to_pitchyaw
from evg.registry import METRICS
from evg.structures import GazeDataSample

from . import functional as F

# The order of `test` in ETH-XGaze's train_test_split.json; the server compares line by line.
XGAZE_TEST_ORDER = tuple(
    f'subject{number:04d}' for number in (1, 2, 20, 23, 37, 64, 68, 70, 82, 87, 49, 91, 112, 114, 118)
)


@METRICS.register_module()
class Predictions(BaseMetric):
    """Keeps what the model answers, without any label; measures nothing but `n`. For submissions.

    Args:
        collect_device: see mmengine.
        prefix: see mmengine.
        collect_dir: see mmengine.
    """

    default_prefix = 'predictions'

    def __init__(self, collect_device: str = 'cpu', prefix: str | None = None, collect_dir: str | None = None) -> None:
        super().__init__(collect_device, prefix, collect_dir)
        self._rows: dict[str, NDArray] | None = None

    def process(self, data_batch: Any, data_samples: Sequence[GazeDataSample]) -> None:
        """Keep sample id, direction and screen point of each sample."""
        for sample in data_samples:
            gaze = np.full(3, np.nan) if sample.pred_gaze is None else np.asarray(sample.pred_gaze, np.float64)
            self.results.append((sample.sample_id, gaze, _screen_px(sample)))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The number of samples."""
        ids, gaze, screen = zip(*results, strict=True)
        self._rows = {'sample_id': np.array(ids), 'pred_gaze': np.stack(gaze), 'pred_screen_px': np.stack(screen)}
        return {'n': len(results)}

    def rows(self) -> dict[str, NDArray]:
        """Columns `sample_id`, `pred_gaze` (N, 3), `pred_screen_px` (N, 2), NaN where the model gives none."""
        if self._rows is None:
            raise RuntimeError('Predictions.rows() needs a finished test, on the main process')
        return self._rows


def write_submission(path: str | os.PathLike, index: Index, rows: dict[str, NDArray]) -> None:
    """Write what the server of the index's data set takes.

    Args:
        path: the file.
        index: of the tested rows.
        rows: `Predictions.rows()`.

    Raises:
        UserError: a data set without a known server, an answer that lacks or is not of the right frame.
    """
    columns = index.columns
    order = np.argsort(columns['sample_id'])
    place = order[np.searchsorted(columns['sample_id'], rows['sample_id'], sorter=order)]
    if index.dataset == 'ethxgaze':
        if index.gaze_frame != 'normalised_r':
            raise UserError(f'{index.path} is in the frame {index.gaze_frame!r}; ETH-XGaze wants normalised_r')
        write_xgaze(path, columns['subject'][place], columns['frame'][place], rows['pred_gaze'])
    elif index.dataset == 'eve':
        ticks = _eve_timestamps(index, place)
        subjects, steps, cameras, frames = (columns[name][place] for name in ('subject', 'sequence', 'camera', 'frame'))
        write_eve(path, subjects, steps, cameras, frames, ticks, rows['pred_screen_px'])
    else:
        raise UserError(f'no submission format is known for the data set {index.dataset!r}; known: ethxgaze, eve')


def write_xgaze(
    path: str | os.PathLike,
    subjects: ArrayLike,
    frames: ArrayLike,
    gaze: ArrayLike,
    order: Sequence[str] = XGAZE_TEST_ORDER,
) -> None:
    """ETH-XGaze's test_results.txt: one `pitch,yaw` line per sample, persons in the json's order, then file order.

    Args:
        path: the file.
        subjects: (N,) 'subject0001', ...
        frames: (N,) row of the sample in the person's h5 file.
        gaze: (N, 3) predicted vectors, eye to target, normalised camera.
        order: the persons of the json, in its order.

    Raises:
        UserError: persons that differ from those of `order`, rows that are not 0, 1, 2, ..., a missing answer.
    """
    names, numbers, vectors = np.asarray(subjects), np.asarray(frames), np.asarray(gaze, np.float64)
    lacking, foreign = set(order) - set(names.tolist()), set(names.tolist()) - set(order)
    if lacking or foreign:
        raise UserError(
            f'the submission is for the persons {", ".join(order)}; without an answer: '
            f'{", ".join(sorted(lacking)) or "none"}; too many: {", ".join(sorted(foreign)) or "none"}'
        )
    rows: list[np.intp] = []
    for person in order:
        own = np.flatnonzero(names == person)
        own = own[np.argsort(numbers[own], kind='stable')]
        if not np.array_equal(numbers[own], np.arange(len(own))):
            raise UserError(f'{person}: the rows of its file are not all there, 0 to {len(own) - 1}; lines would shift')
        rows.extend(own)
    if not np.isfinite(vectors).all():
        raise UserError('some samples have no predicted gaze vector; a submission needs a line for each')
    with atomic_write(path, 'w') as file:
        np.savetxt(file, vector_to_pitchyaw(vectors[rows]), delimiter=',')


def write_eve(
    path: str | os.PathLike,
    subjects: ArrayLike,
    steps: ArrayLike,
    cameras: ArrayLike,
    frames: ArrayLike,
    timestamps: Sequence[int] | NDArray,
    pog_px: ArrayLike,
    pupil_mm: ArrayLike | None = None,
) -> None:
    """EVE's submission: a zip with a gzipped pickle (protocol 3) of nested dicts, person, step, camera.

    Args:
        path: the zip file.
        subjects: (N,) 'test01', ...
        steps: (N,) names of the step folders.
        cameras: (N,) 'basler', 'webcam_c', ...
        frames: (N,) number of the frame in its recording; rows of a recording are sorted by it.
        timestamps: (N,) whole numbers as in the release's timestamps files.
        pog_px: (N, 2) px of the 1920 x 1080 screen; stands for the initial and the final estimate.
        pupil_mm: (N, 2) diameters of the left and the right pupil, mm; 0 where the model does not estimate them.

    Raises:
        UserError: a point is NaN.
    """
    points = np.asarray(pog_px, np.float32)
    if not np.isfinite(points).all():
        raise UserError('some samples have no predicted point on the screen; a submission needs one for each')
    pupils = np.zeros((len(points), 2), np.float32) if pupil_mm is None else np.asarray(pupil_mm, np.float32)
    ticks = np.asarray(timestamps, np.int64)
    keys = list(zip(*(np.asarray(names).tolist() for names in (subjects, steps, cameras)), strict=True))
    found: dict[tuple[str, str, str], list[int]] = {}
    numbers = np.asarray(frames)
    for row in np.argsort(numbers, kind='stable').tolist():
        found.setdefault(keys[row], []).append(row)
    content: dict[str, dict[str, dict[str, dict[str, NDArray]]]] = {}
    for (subject, step, camera), rows in sorted(found.items()):
        content.setdefault(subject, {}).setdefault(step, {})[camera] = {
            'timestamps': ticks[rows],
            'left_pupil_size': pupils[rows, 0],
            'right_pupil_size': pupils[rows, 1],
            'PoG_px_initial': points[rows],
            'PoG_px_final': points[rows],
        }
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode='wb', mtime=0) as zipped:
        pickle.dump(content, zipped, protocol=3)
    with atomic_write(path) as file, zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('for_codalab.pkl.gz', packed.getvalue())


def _screen_px(sample: GazeDataSample) -> NDArray[np.float64]:
    if sample.pred_plane_mm is None or sample.rig is None:
        return np.full(2, np.nan)
    origin = np.full(3, np.nan) if sample.gt_origin_mm is None else sample.gt_origin_mm
    return F.plane_to_screen_px([sample.pred_plane_mm], [origin], [sample.plane_rule], [0], [sample.rig])[0]


def _eve_timestamps(index: Index, place: NDArray[np.intp]) -> list[int]:
    """The release's own timestamps; the index keeps seconds since the first frame."""
    columns, source = index.columns, Path(str(index.info.get('settings', {}).get('src', '')))
    lines: dict[Path, list[str]] = {}
    ticks = []
    for row in place:
        subject, step, camera = (str(columns[name][row]) for name in ('subject', 'sequence', 'camera'))
        file = source / subject / step / f'{camera}.timestamps.txt'
        try:
            if file not in lines:
                lines[file] = file.read_text(encoding='ascii').split()
            ticks.append(int(lines[file][int(columns['frame'][row])]))
        except (OSError, ValueError, IndexError) as error:
            raise UserError(f'{file}: no timestamp of frame {columns["frame"][row]} ({error})') from error
    return ticks
