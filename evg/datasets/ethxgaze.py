"""ETH-XGaze (2020): the normalised h5 files read in place, or the raw photographs normalised here."""

import csv
import json
import os
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
from numpy.typing import NDArray

from evg.datasets.converter import BadUnitError, Converter, Unit, UnitResult, save_jpeg
from evg.datasets.pictures import read_image
from evg.datasets.reader_tools import finite_rows, resolved
from evg.errors import UserError
from evg.geometry import Normaliser, angle_between_deg, head_pitchyaw, pitchyaw_to_vector
from evg.geometry.warp import warp_patch

Array = NDArray[np.float64]
WHERE = 'ETH-XGaze is at https://ait.ethz.ch/xgaze (a form has to be signed)'
SPLIT_FILE = 'train_test_split.json'
# Validation persons of hysts/pl_gaze_estimation: 1, 23, 24, 35, 38, 46, 58, 63, 70, 78. Three of the ten (1, 23, 70)
# are test persons of the official split and have no labels; these seven are in its train list.
VAL_SUBJECTS = (24, 35, 38, 46, 58, 63, 78)
# Key in train_test_split.json, and the folder of its files; the third key has two spellings.
TEST_SETS = {
    'within': ('test', ('test',)),
    'person-specific': ('test_person_specific', ('test_specific', 'test_person_specific')),
}
HEAD_CHECK = 'angle of the gaze to the face direction, deg'

# Raw: cameras that hang upside down, columns of a train csv, rows of the face model that define the head.
UPSIDE_DOWN = (3, 6, 13)
CSV_COLUMNS = 149
MODEL_POINTS = (20, 23, 26, 29, 15, 19)  # four eye corners, two nose corners
MODEL_LANDMARKS = (36, 39, 42, 45, 31, 35)
# A pose that fits its landmarks leaves some px of 6000; an upside-down or foreign one, thousands.
MAX_POSE_ERROR = 0.1
POSE_CHECK = 'distance of the posed face model to the landmarks, px'


@dataclass(frozen=True)
class EthXGazeConverter(Converter):
    """ETH-XGaze: xgaze_224 or xgaze_448 (h5, read in place), or with --format raw the photographs"""

    name = 'ethxgaze'
    unit_name = 'person'
    gaze_frame = 'normalised_r'

    src: str
    test_set: str
    val_subjects: tuple[int, ...]

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add('--src', required=True, type=resolved, help='xgaze_224 or xgaze_448; the raw folder with --format raw')
        add('--format', choices=('h5', 'raw'), default='h5', help='h5 files as they are, or raw pictures and csv')
        add('--test-set', choices=list(TEST_SETS), default='within', help='which test files to list (no labels)')
        add('--val-subjects', type=int, nargs='*', default=VAL_SUBJECTS, help='train persons held out as val')
        add('--size', type=int, nargs=2, metavar=('W', 'H'), default=(224, 224), help='raw: patch, px')
        add('--focal', type=float, default=960, help='raw: focal length of the virtual camera, px')
        add('--distance', type=float, default=600, help='raw: distance of the virtual camera, mm; 300 for 448 px')
        add('--quality', type=int, default=95, help='raw: JPEG quality')

    @classmethod
    def from_args(cls, args: Namespace) -> Converter:
        if args.format == 'raw':
            return EthXGazeRawConverter.from_args(args)
        return cls(args.src, args.test_set, tuple(args.val_subjects))

    def units(self) -> list[Unit]:
        train, test = _persons(Path(self.src), self.test_set)
        strangers = [number for number in self.val_subjects if f'subject{number:04d}.h5' not in train]
        if strangers:
            raise UserError(
                f'--val-subjects {" ".join(map(str, strangers))}: not among the train persons of {SPLIT_FILE}'
            )
        # In the order of the json file: the submission file wants the test persons so.
        units = [Unit(f'train/{Path(name).stem}') for name in train]
        return units + [Unit(f'{TEST_SETS[self.test_set][0]}/{Path(name).stem}') for name in test]

    def convert(self, unit: Unit, out: Path) -> UnitResult:
        path = Path(self.src) / f'{unit.name}.h5'
        folder, subject = unit.name.split('/')
        split = _split(subject, self.val_subjects) if folder == 'train' else 'test'
        if not path.is_file():
            raise BadUnitError(f'{path} is missing: {WHERE}')
        try:
            with h5py.File(path, 'r') as file:
                labels = self._labels(file, split)
        except (OSError, KeyError, ValueError) as error:
            raise BadUnitError(f'{path} cannot be read ({error})') from error
        result = UnitResult()
        link = os.path.relpath(path, out)
        good = np.ones(len(labels['camera']), bool)
        for name in ('gaze', 'head', 'rotation'):
            good &= finite_rows(labels[name]) if name in labels else True
        if not good.all():
            result.dropped['rows whose labels are not finite'] += int((~good).sum())
        head = pitchyaw_to_vector(labels['head'])
        gaze = pitchyaw_to_vector(labels['gaze']) if 'gaze' in labels else None
        for i in np.flatnonzero(good):
            row: dict[str, Any] = {
                'sample_id': f'{subject}/{i:06d}',
                'image': f'{link}#face_patch/{i}',
                'split': split,
                'subject': subject,
                'sequence': f'frame{int(labels["frame"][i]):04d}',
                # The row in the file, which the submission is sorted by.
                'frame': int(i),
                'camera': f'cam{int(labels["camera"][i]):02d}',
                'head_pitchyaw_rad': labels['head'][i],
                'norm_rotation': labels['rotation'][i],
            }
            if gaze is not None:
                row['gaze'] = gaze[i]
            result.rows.append(row)
        if gaze is not None:
            result.checks[HEAD_CHECK] = angle_between_deg(gaze, head)[good].round(3).tolist()
        return result

    @staticmethod
    def _labels(file: h5py.File, split: str) -> dict[str, Array]:
        """Columns of one file, (N, ...); 'gaze' is missing in test files."""
        shape = file['face_patch'].shape
        if len(shape) != 4 or shape[3] != 3 or file['face_patch'].dtype != np.uint8:
            raise ValueError(f'face_patch is {file["face_patch"].dtype} {shape}, not uint8 (N, S, S, 3)')
        count = shape[0]
        names = {'face_head_pose': 'head', 'face_mat_norm': 'rotation', 'cam_index': 'camera', 'frame_index': 'frame'}
        shapes = {
            'face_gaze': (2,),
            'face_head_pose': (2,),
            'face_mat_norm': (3, 3),
            'cam_index': (),
            'frame_index': (),
        }
        if split != 'test' or 'face_gaze' in file:
            names['face_gaze'] = 'gaze'
        labels = {
            to: np.asarray(file[name][()], np.float64).reshape(count, *shapes[name]) for name, to in names.items()
        }
        for name in ('gaze', 'head'):
            if name in labels and (np.nanmax(np.abs(labels[name]), initial=0) > np.pi + 1e-6):
                raise ValueError(f'{name} angles reach {np.nanmax(np.abs(labels[name])):.3g}: they are not radians')
        rotation = labels['rotation']
        error = np.nanmax(np.abs(rotation @ rotation.swapaxes(1, 2) - np.eye(3)), initial=0)
        if error > 1e-3:
            raise ValueError(f'face_mat_norm is not R of the 2018 normalisation: R R^T differs from 1 by {error:.3g}')
        return labels


@dataclass(frozen=True)
class EthXGazeRawConverter(Converter):
    """ETH-XGaze's photographs, normalised here to face patches"""

    name = 'ethxgaze'
    unit_name = 'person'
    gaze_frame = 'normalised_r'

    src: str
    val_subjects: tuple[int, ...]
    size: tuple[int, int]
    focal: float
    distance: float
    quality: int

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        EthXGazeConverter.add_arguments(parser)

    @classmethod
    def from_args(cls, args: Namespace) -> Converter:
        if min(args.size) < 16 or args.focal <= 0 or args.distance <= 0:
            raise UserError('--size must be at least 16 16, --focal and --distance positive')
        return cls(args.src, tuple(args.val_subjects), tuple(args.size), args.focal, args.distance, args.quality)

    def units(self) -> list[Unit]:
        files = sorted((Path(self.src) / 'data' / 'annotation_train').glob('subject*.csv'))
        if not files:
            raise UserError(f'{self.src} holds no data/annotation_train/subject*.csv: {WHERE}')
        _face_model(self.src)
        return [Unit(file.stem) for file in files]

    def convert(self, unit: Unit, out: Path) -> UnitResult:
        src, normaliser = Path(self.src), Normaliser(self.focal, self.distance, self.size)
        (out / 'images' / unit.name).mkdir(parents=True, exist_ok=True)
        result = UnitResult()
        errors: list[float] = []
        with open(src / 'data' / 'annotation_train' / f'{unit.name}.csv', newline='', encoding='ascii') as file:
            for line in csv.reader(file):
                if not line:
                    continue
                try:
                    sample = _RawSample(line, self.src)
                except ValueError:
                    result.dropped[f'csv lines that are not {CSV_COLUMNS} names and finite numbers'] += 1
                    continue
                try:
                    image = sample.picture(src / 'data' / 'train' / unit.name)
                except UserError:
                    result.dropped['pictures that are missing or cannot be read'] += 1
                    continue
                error_px = sample.pose_error_px()
                if error_px > MAX_POSE_ERROR * image.shape[1]:
                    result.dropped['frames whose head pose does not fit the landmarks'] += 1
                    continue
                errors.append(round(error_px, 3))
                row, patch = sample.normalised(image, normaliser)
                name = f'{unit.name}/{sample.frame:04d}_{sample.camera:02d}'
                save_jpeg(out / 'images' / f'{name}.jpg', patch, self.quality)
                person = {'subject': unit.name, 'split': _split(unit.name, self.val_subjects)}
                result.rows.append({'sample_id': name, 'image': f'images/{name}.jpg', **person, **row})
        result.checks[POSE_CHECK] = errors
        return result


class _RawSample:
    """One line of a train csv: names, target, head pose, landmarks; camera frame of its own camera, mm, px."""

    def __init__(self, line: list[str], src: str):
        if len(line) < 2:
            raise ValueError('a line without names')
        self.folder, self.image = line[0], line[1]
        self.frame, self.camera = int(line[0].removeprefix('frame')), int(line[1][3:5])
        values = np.array(line[2:CSV_COLUMNS], np.float64)
        if len(line) < CSV_COLUMNS or not np.isfinite(values).all():
            raise ValueError(f'{line[0]}/{line[1]}: {len(line)} columns, or a value that is not finite')
        self.screen_px, self.target_mm = values[:2], values[2:5]
        self.rvec, self.tvec_mm = values[5:8], values[8:11]
        self.landmarks_px = values[11:].reshape(68, 2)
        self.camera_matrix = _camera_matrix(src, self.camera)
        self.head = cv2.Rodrigues(self.rvec)[0]
        self.points_mm = _face_model(src)[list(MODEL_POINTS)] @ self.head.T + self.tvec_mm

    def picture(self, folder: Path) -> NDArray[np.uint8]:
        """The upright photograph; landmarks, pose and intrinsics are those of the upright one already."""
        image = read_image(str(folder / self.folder / self.image))
        return image[::-1, ::-1] if self.camera in UPSIDE_DOWN else image

    def pose_error_px(self) -> float:
        """Mean distance of the projected model points to their landmarks."""
        projected = self.points_mm @ self.camera_matrix.T
        offset = projected[:, :2] / projected[:, 2:] - self.landmarks_px[list(MODEL_LANDMARKS)]
        return float(np.linalg.norm(offset, axis=1).mean())

    def normalised(self, image: NDArray[np.uint8], normaliser: Normaliser) -> tuple[dict[str, Any], NDArray[np.uint8]]:
        """Columns of the row and the patch. The lens distortion is ignored, as in the publishers' example."""
        # A mean of two means, not of six points.
        center = (self.points_mm[:4].mean(axis=0) + self.points_mm[4:].mean(axis=0)) / 2
        norm = normaliser.apply(center, self.head, self.camera_matrix)
        patch = warp_patch(np.ascontiguousarray(image), norm.warp, normaliser.size_px)
        return {
            'sequence': self.folder,
            'frame': self.frame,
            'camera': f'cam{self.camera:02d}',
            'pog_screen_px': self.screen_px,
            'target_cam_mm': self.target_mm,
            'face_origin_mm': center,
            'gaze': norm.gaze_to(self.target_mm - center),
            'head_rvec': self.rvec,
            'head_tvec_mm': self.tvec_mm,
            'head_pitchyaw_rad': head_pitchyaw(norm.head_to(self.head)),
            'norm_rotation': norm.rotation,
            'norm_scale': norm.scale[2, 2],
            'eye_landmarks_px': norm.points_to(self.landmarks_px[36:48]),
        }, patch


def _persons(src: Path, test_set: str) -> tuple[list[str], list[str]]:
    """File names of the train and the test persons, in the order of the json file."""
    path = src / SPLIT_FILE
    try:
        lists = json.loads(path.read_text(encoding='utf-8'))
    except OSError:
        inner = next((p.parent for p in src.glob(f'*/{SPLIT_FILE}')), None)
        raise UserError(f'there is no {path}: ' + (f'did you mean --src {inner}?' if inner else WHERE)) from None
    except ValueError as error:
        raise UserError(f'{path} is not a json file ({error})') from error
    keys = TEST_SETS[test_set][1]
    test = next((lists[key] for key in keys if key in lists), None)
    if 'train' not in lists or test is None:
        raise UserError(f'{path} has the keys {", ".join(lists)}; train and {" or ".join(keys)} are needed')
    both = set(lists['train']) & set(test)
    if both:
        raise UserError(f'{path} lists {sorted(both)[0]} as train and as test')
    return lists['train'], test


def _split(subject: str, val_subjects: tuple[int, ...]) -> str:
    return 'val' if int(subject.removeprefix('subject')) in val_subjects else 'train'


@lru_cache(maxsize=32)
def _camera_matrix(src: str, camera: int) -> Array:
    path = Path(src) / 'calibration' / 'cam_calibration' / f'cam{camera:02d}.xml'
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ) if path.is_file() else None
    matrix = None if storage is None else storage.getNode('Camera_Matrix').mat()
    if matrix is None or matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        raise UserError(f'{path} is missing or holds no 3 x 3 Camera_Matrix: {WHERE}')
    return np.asarray(matrix, np.float64)


@lru_cache(maxsize=2)
def _face_model(src: str) -> Array:
    path = Path(src) / 'calibration' / 'face_model.txt'
    try:
        model = np.loadtxt(path)
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read ({error}): {WHERE}') from error
    if model.shape != (50, 3):
        raise UserError(f'{path} holds {model.shape} numbers, not 50 points')
    return model
