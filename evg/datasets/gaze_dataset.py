"""The dataset over an annotation index; every data set of the field is one of these after its preparation."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.logging import print_log
from torch.utils.data import Dataset

from evg.datasets.index import Index, read_column, read_index
from evg.datasets.pictures import PictureError, picture_file
from evg.errors import UserError
from evg.geometry import VirtualPlane
from evg.registry import DATASETS

PLANE_COLUMNS = {'offset': 'pog_plane_offset_mm', 'pose': 'pog_plane_pose_mm'}
# Columns that a sample carries as they are, null as None.
_LABELS = {
    'pog_screen_px': 'gt_screen_px',
    'target_cam_mm': 'gt_target_mm',
    'face_origin_mm': 'gt_origin_mm',
    'left_eye_mm': 'gt_left_eye_mm',
    'right_eye_mm': 'gt_right_eye_mm',
    'gaze': 'gt_gaze',
    'head_pitchyaw_rad': 'gt_head_pitchyaw_rad',
    'head_rvec': 'gt_head_rvec',
    'face_box_px': 'gt_face_box_px',
    'eye_landmarks_px': 'gt_eye_landmarks_px',
    'pupil_landmarks_px': 'gt_pupil_landmarks_px',
}


@DATASETS.register_module()
class GazeDataset(Dataset):
    """Samples of a prepared data set.

    A sample's random numbers depend on (seed, epoch, position) alone, so that a resumed run sees what an uninterrupted
    one would have seen, with any number of workers.

    Args:
        data_root: folder that holds `index.parquet`.
        pipeline: transforms, objects or configs.
        splits: 'train', 'val', 'test', one or several.
        subjects: keep these persons only.
        plane_rule: 'offset' (EVG: the screen lies in the camera's plane) or 'pose' (calibrated), see `Rig`.
        labels: what every row must have: 'plane' (a point of gaze by `plane_rule`), 'gaze' (a gaze vector, in the frame
            that the index declares), 'landmarks' (the points of the pupils), or None (nothing: test rows whose labels
            are withheld).
        max_samples: keep this many, evenly spread over the index.
        baseline: `splits` and `subjects` whose mean label is the metrics' constant answer; all of 'train' by default.
        seed: seed of the augmentation.
        max_bad_images: so many pictures that cannot be read are replaced by the next ones that can, with a warning
            each; one more is an error that lists them all. Counted in each process of a distributed training. For
            training only: figures must count every sample.
    """

    def __init__(
        self,
        data_root: str,
        pipeline: Sequence[dict | Callable],
        splits: str | Sequence[str] = 'train',
        subjects: Sequence[str] | None = None,
        plane_rule: str = 'offset',
        labels: str | None = 'plane',
        max_samples: int | None = None,
        baseline: dict[str, Any] | None = None,
        seed: int = 0,
        max_bad_images: int = 0,
    ):
        if plane_rule not in PLANE_COLUMNS:
            raise UserError(f"plane_rule must be 'offset' or 'pose', not {plane_rule!r}")
        self.splits = [splits] if isinstance(splits, str) else list(splits)
        self.index = read_index(data_root, self.splits, subjects)
        self.plane_rule = plane_rule
        # How a plane point of these labels leads back to the screen.
        self.sample_rule = plane_rule if plane_rule == 'offset' else self.index.pose_rule
        self.plane_mm = self.index.columns[PLANE_COLUMNS[plane_rule]]
        self._check_labels(labels)
        check_pictures(self.index)
        count = len(self.index)
        self.rows = np.arange(count)
        if max_samples is not None and max_samples < count:
            self.rows = np.linspace(0, count - 1, max_samples).round().astype(np.int64)
        self.pipeline = Compose(pipeline)
        self.baseline = {'splits': 'train', 'subjects': None, **(baseline or {})}
        self.seed = seed
        # In shared memory, so that workers that outlive an epoch see its number.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self.max_bad_images = max_bad_images
        # One byte a sample, shared as well: no worker counts for itself.
        self._bad = torch.zeros(count if max_bad_images else 0, dtype=torch.uint8).share_memory_()

    def _check_labels(self, labels: str | None) -> None:
        column = label_column(labels, self.plane_rule)
        if column is None:
            return
        missing = ~np.isfinite(self.index.columns[column]).all(axis=1)
        if missing.any():
            fix = 'the other plane_rule' if labels == 'plane' else 'labels=None'
            raise UserError(
                f'{self.index.path}: {missing.sum()} of {len(missing)} rows have no {column} (the first is '
                f'{self.index.columns.text("sample_id", missing.argmax())}): choose {fix} or prepare the data again'
            )

    @property
    def metainfo(self) -> dict[str, Any]:
        """What metrics need to know of the data: its name, the plane rule and the mean label of its training split."""
        return {
            'dataset': self.index.dataset,
            'plane_rule': self.plane_rule,
            'train_mean_plane_mm': mean_plane_mm(self.index.path, self.plane_rule, **self.baseline),
        }

    def set_epoch(self, epoch: int) -> None:
        """Choose the random numbers of the augmentation."""
        self._epoch.fill_(epoch)

    def labels_outside(self, plane: VirtualPlane) -> int:
        """How many labels lie outside a virtual plane and will be clamped to it."""
        labels = self.plane_mm[self.rows]
        labels = labels[np.isfinite(labels).all(axis=1)]
        return int((~plane.contains(plane.from_mm(labels))).sum())

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> dict[str, Any]:
        """The sample through the pipeline, or the next one whose picture can be read, see `max_bad_images`."""
        while True:
            try:
                return self._sample(position)
            except PictureError as error:
                if not self.max_bad_images:
                    raise
                self._count_bad(position, error)
            position = (position + 1) % len(self)

    def _count_bad(self, position: int, error: PictureError) -> None:
        """Count a picture once, and refuse one too many."""
        if self._bad[position]:
            return
        self._bad[position] = 1
        bad = np.flatnonzero(self._bad.numpy())
        if len(bad) > self.max_bad_images:
            pictures = [self.index.columns.text('image', self.rows[place]) for place in bad]
            raise UserError(
                f'{len(bad)} pictures of {self.index.path} cannot be read, max_bad_images={self.max_bad_images} are '
                f'allowed: {", ".join(pictures)}; the last: {error}'
            ) from error
        print_log(
            f'picture {len(bad)} of at most {self.max_bad_images} that cannot be read, the next one takes its place: '
            f'{error}',
            'current',
            logging.WARNING,
        )

    def _sample(self, position: int) -> dict[str, Any]:
        row = self.rows[position]
        columns = self.index.columns
        results: dict[str, Any] = {
            'sample_id': columns.text('sample_id', row),
            'img_path': str(self.index.root / columns.text('image', row)),
            'subject': columns.text('subject', row),
            'sequence': columns.text('sequence', row),
            'device': columns.text('device', row),
            'rig': self.index.rigs.get(columns.text('rig', row)),
            'plane_rule': self.sample_rule,
            'gt_plane_mm': _known(self.plane_mm[row]),
            'gaze_frame': self.index.gaze_frame,
            'norm_rotation': None,
            'norm_scale': None,
            'rng': np.random.default_rng((self.seed, int(self._epoch), int(position))),
        }
        for column, name in _LABELS.items():
            results[name] = _known(columns[column][row])
        if (rotation := _known(columns['norm_rotation'][row])) is not None:
            results['norm_rotation'] = rotation.reshape(3, 3)
        if np.isfinite(columns['norm_scale'][row]):
            results['norm_scale'] = float(columns['norm_scale'][row])
        try:
            return self.pipeline(results)
        except UserError as error:
            raise type(error)(f'{self.index.path}: row {self.index.rows[row]}: {error}') from error


def label_column(labels: str | None, plane_rule: str) -> str | None:
    """The column that rows must have, see `GazeDataset`; None for none."""
    plane = PLANE_COLUMNS[plane_rule]
    needed = {'plane': plane, 'gaze': 'gaze', 'landmarks': 'pupil_landmarks_px', None: None}
    if labels not in needed:
        raise UserError(f"labels must be 'plane', 'gaze', 'landmarks' or None, not {labels!r}")
    return needed[labels]


def check_pictures(index: Index, count: int = 1000) -> None:
    """Look for the files of all rows, of more than `count` rows for those of some, evenly spread.

    The others are met when they are loaded, which names them too.

    Raises:
        UserError: a file is missing; the message names it and its row.
    """
    seen: set[str] = set()
    for row in np.unique(np.linspace(0, len(index) - 1, min(count, len(index))).round().astype(np.int64)):
        name = picture_file(index.columns.text('image', row))
        if name not in seen and not (index.root / name).is_file():
            raise UserError(
                f'{index.path}: row {index.rows[row]} ({index.columns.text("sample_id", row)}): there is no picture '
                f'{index.root / name}; prepare the data again, or put the source back where it was if its pictures are '
                'read in place'
            )
        seen.add(name)


def _known(value: np.ndarray) -> np.ndarray | None:
    """A label of its own, or None where it is missing."""
    return value.astype(np.float64) if np.isfinite(value).all() else None


def mean_plane_mm(
    index_path: Path, plane_rule: str, splits: str | Sequence[str], subjects: Sequence[str] | None = None
) -> list[float] | None:
    """Mean label (u, v) of some rows, plane frame, mm: the best constant answer to them.

    Args:
        index_path: the index file.
        plane_rule: 'offset' or 'pose'.
        splits: which splits.
        subjects: which persons, None for all.

    Returns:
        Two numbers, or None where no such row has a label.
    """
    splits = [splits] if isinstance(splits, str) else splits
    labels = read_column(index_path, PLANE_COLUMNS[plane_rule], splits, subjects)
    known = labels[np.isfinite(labels).all(axis=1)]
    return known.mean(axis=0).tolist() if len(known) else None
