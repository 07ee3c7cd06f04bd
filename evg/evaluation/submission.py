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
from collections.abc import Callable, Sequence
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
from .breakdown import EVE_LENGTH, EVE_STEP

# The order of `test` in ETH-XGaze's train_test_split.json; the server compares line by line.
XGAZE_TEST_ORDER = tuple(
    f'subject{number:04d}' for number in (1, 2, 20, 23, 37, 64, 68, 70, 82, 87, 49, 91, 112, 114, 118)
)

_NEEDS_LABELS = ('VPProjection', 'GaussianTarget')


def without_labels(dataset: dict[str, Any]) -> None:
    """Change the config of a test's `GazeDataset` to the rows of the server: split 'test', no labels, no targets."""
    dataset['splits'], dataset['labels'] = 'test', None
    dataset['pipeline'] = [step for step in dataset['pipeline'] if step['type'] not in _NEEDS_LABELS]


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
    place = columns.rows_of(rows['sample_id'])
    if index.dataset == 'ethxgaze':
        if index.gaze_frame != 'normalised_r':
            raise UserError(f'{index.path} is in the frame {index.gaze_frame!r}; ETH-XGaze wants normalised_r')
        write_xgaze(path, columns['subject'][place], columns['frame'][place], rows['pred_gaze'])
    elif index.dataset == 'eve':
        source = Path(str(index.info.get('settings', {}).get('src', '')))
        subjects, steps, cameras, frames = (columns[name][place] for name in ('subject', 'sequence', 'camera', 'frame'))
        points = rows['pred_screen_px']
        write_eve(path, subjects, steps, cameras, frames, points, lambda *key: _ticks(source, *key))
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
    pog_px: ArrayLike,
    timestamps: Callable[[str, str, str], Sequence[int]],
) -> None:
    """EVE's submission: a zip with a gzipped pickle (protocol 3) of nested dicts, person, step, camera.

    As the publishers' own script writes it: frames at 10 Hz, in sequences of 30, the last one of a recording filled up
    with zeros; points moved onto the screen.

    Args:
        path: the zip file.
        subjects: (N,) 'test01', ...
        steps: (N,) names of the step folders.
        cameras: (N,) 'basler', 'webcam_c', ...
        frames: (N,) number of the frame in its recording; those between the 10 Hz are left out.
        pog_px: (N, 2) px of the 1920 x 1080 screen; stands for the initial and the final estimate. Pupil sizes are 0.
        timestamps: gives all of a recording (person, step, camera), whole numbers as in the release's files.

    Raises:
        UserError: a frame at 10 Hz is not there, or its point is NaN.
    """
    points = np.asarray(pog_px, np.float64)
    keys = list(zip(*(np.asarray(names).tolist() for names in (subjects, steps, cameras)), strict=True))
    found: dict[tuple[str, str, str], dict[int, int]] = {}
    for row, (key, number) in enumerate(zip(keys, np.asarray(frames).tolist(), strict=True)):
        found.setdefault(key, {})[number] = row
    content: dict[str, dict[str, dict[str, dict[str, NDArray]]]] = {}
    for (subject, step, camera), rows in sorted(found.items()):
        ticks = np.array(timestamps(subject, step, camera), np.int64)[:: EVE_STEP[camera]]
        wanted = [rows.get(number * EVE_STEP[camera], -1) for number in range(len(ticks))]
        pog = np.where(np.equal(wanted, -1)[:, None], np.nan, points[wanted])
        if not np.isfinite(pog).all():
            raise UserError(
                f'{subject}/{step}/{camera}: {np.isnan(pog).any(axis=1).sum()} of {len(pog)} frames at 10 Hz (one in '
                f'{EVE_STEP[camera]}) have no predicted point on the screen; a submission needs all: prepare '
                "the data with --every 1, and use a model of plane_rule='offset', which needs no eye position"
            )
        pog = np.clip(pog, 0, (1920, 1080)).astype(np.float32)
        padding = -len(pog) % EVE_LENGTH
        pog, none = np.pad(pog, ((0, padding), (0, 0))), np.zeros(len(pog) + padding, np.float32)
        content.setdefault(subject, {}).setdefault(step, {})[camera] = {
            'timestamps': np.pad(ticks, (0, padding)),
            'left_pupil_size': none,
            'right_pupil_size': none,
            'PoG_px_initial': pog,
            'PoG_px_final': pog,
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


def _ticks(source: Path, subject: str, step: str, camera: str) -> list[int]:
    """The release's own timestamps of a recording; the index keeps seconds since its first frame."""
    file = source / subject / step / f'{camera}.timestamps.txt'
    try:
        return [int(line) for line in file.read_text(encoding='ascii').split()]
    except (OSError, ValueError) as error:
        raise UserError(f'{file}, which a submission needs, cannot be read ({error})') from error
