"""MPIIFaceGaze (MPI Informatics, 2017): 15 persons at their own laptops, raw frames, read as they lie on disk.

Convention of the files: `pNN.txt` has 28 fields, target in screen px from the upper left corner, head pose, face centre
and target in the camera frame (OpenCV), mm. `monitorPose.mat` takes screen mm (x to the user's right, y down) to the
camera frame.
"""

import re
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from evg.datasets import reader_tools as tools
from evg.datasets.converter import BadUnitError, Converter, Unit, UnitResult, save_jpeg
from evg.datasets.mpiifacegaze_normalized import MPIIFaceGazeNormalizedConverter
from evg.errors import UserError
from evg.geometry import Rig, angle_between_deg, normalisation_rotation, plane_point_by_ray

Array = NDArray[np.float64]
TARGET_CHECK = 'columns 24-26 to the target by monitorPose, mm'
ANGLE_CHECK = 'columns 24-26 to the target by monitorPose, deg at the face'
CENTER_CHECK = 'columns 21-23 to the face centre by the head pose, mm'
# A wrong frame, sign or unit is off by hundreds.
MAX_TARGET_MM = 1.0
UNREADABLE = 'lines that are not a path, 26 numbers, left or right'
WHERE = (
    'MPIIFaceGaze is at https://www.perceptualui.org (Datasets); unpack MPIIFaceGaze.zip, the one with p00/p00.txt, '
    'to SRC/p00 ... SRC/p14'
)
# mm; right eye outer and inner, left eye inner and outer, mouth right and left corner: '6 points-based face model.mat'.
FACE_MODEL_MM = np.array(
    [
        (-45.0968, -0.4838, 2.397),
        (-21.3129, 0.4838, -2.397),
        (21.3129, 0.4838, -2.397),
        (45.0968, -0.4838, 2.397),
        (-26.2996, 68.595, 0),
        (26.2996, 68.595, 0),
    ]
)


@dataclass(frozen=True)
class MPIIFaceGazeConverter(Converter):
    """MPIIFaceGaze: raw frames of 15 persons, or with --format normalized the publishers' face patches"""

    name = 'mpiifacegaze'
    unit_name = 'day'

    src: str
    size: tuple[int, int]
    quality: int
    undistort: bool

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add('--src', required=True, type=tools.resolved, help='folder of p00, p01, ...; normalized: of p00.mat, ...')
        add('--format', choices=('raw', 'normalized'), default='raw', help='which of the two downloads it is')
        add('--size', type=int, nargs=2, metavar=('W', 'H'), default=(640, 360), help='size of the stored pictures, px')
        add('--quality', type=int, default=90, help='JPEG quality')
        add('--undistort', action='store_true', help="take the lens's distortion (Camera.mat) out of the pictures")
        add('--frame', choices=('normalised_r', 'normalised_sr'), help='normalized: how labels were turned; not stated')
        add(
            '--sign',
            choices=('up-right', 'down-left'),
            default='up-right',
            help='normalized: where angles are positive',
        )

    @classmethod
    def from_args(cls, args: Namespace) -> Converter:
        if args.format == 'raw':
            return cls(args.src, tuple(args.size), args.quality, args.undistort)
        if args.frame is None:
            raise UserError(
                '--format normalized needs --frame normalised_r or --frame normalised_sr: the publishers do not state '
                'whether labels were turned by R or by S R (they differ by 2 deg and more); see docs/datasets.md'
            )
        return MPIIFaceGazeNormalizedConverter(args.src, args.frame, args.sign)

    def units(self) -> list[Unit]:
        src = Path(self.src)
        tools.check_size(self.size, self.quality)
        people = sorted(path for path in src.glob('p*') if re.fullmatch(r'p\d\d', path.name) and path.is_dir())
        if not any((person / f'{person.name}.txt').is_file() for person in people):
            inner = next((path.parent.parent for path in src.glob('*/p00/p00.txt')), None)
            hint = f'did you mean --src {inner}? ' if inner else ''
            what = 'holds no p00/p00.txt' if src.is_dir() else 'is not a folder'
            raise UserError(f'{src} {what}: {hint}{WHERE}')
        return [unit for person in people for unit in _days(person)]

    def convert(self, unit: Unit, out: Path) -> UnitResult:
        person = unit.name.split('/')[0]
        folder = Path(self.src) / person
        if unit.data is None:
            raise BadUnitError(f'{folder / person}.txt is missing or is not text')
        result = UnitResult()
        names, values = _parsed(unit.data, result.dropped)
        calibration = _Calibration(folder / 'Calibration')
        labels = calibration.labels(values)
        checks, outside = calibration.checks(values, labels)
        if len(names) and np.median(checks[TARGET_CHECK]) > MAX_TARGET_MM:
            raise BadUnitError(
                f'{unit.name}: the target of {person}.txt and the one by monitorPose.mat differ by '
                f'{np.median(checks[TARGET_CHECK]):.1f} mm (median): the frames, signs or units are not those of '
                'docs/datasets.md'
            )
        (out / 'images' / unit.name).mkdir(parents=True, exist_ok=True)
        files = [folder / name for name in names]
        kept = [i for i, file in enumerate(files) if self._row(unit, out, file, i, calibration, labels, result)]
        for name, numbers in checks.items():
            tools.add_check(result.checks, name, numbers[kept])
        if outside[kept].any():
            result.notes['rows whose target lies outside the screen (kept)'] += int(outside[kept].sum())
        tools.refuse_wrong_signs(unit.name, result)
        return result

    def _row(
        self,
        unit: Unit,
        out: Path,
        file: Path,
        number: int,
        calibration: '_Calibration',
        labels: dict[str, Array],
        result: UnitResult,
    ) -> bool:
        """Store one picture and its row; False where there is no usable picture."""
        image = tools.readable_picture(file, result.dropped)
        if image is None:
            return False
        original = (image.shape[1], image.shape[0])
        if self.undistort:
            image = cv2.undistort(image, calibration.camera_matrix, calibration.distortion).astype(np.uint8, copy=False)
        name = f'images/{unit.name}/{file.stem}.jpg'
        save_jpeg(out / name, tools.resized(image, self.size), self.quality)
        rig = calibration.rig(original, self.size)
        person, day = unit.name.split('/')
        key = tools.rig_key(person, rig)
        result.rigs[key] = rig
        result.rows.append(
            {
                'sample_id': f'{unit.name}/{file.stem}',
                'image': name,
                # Leave-one-person-out: a config's `subjects` choose who trains and who is tested.
                'split': 'train',
                'subject': person,
                'sequence': day,
                'camera': 'laptop',
                'rig': key,
                **({'frame': int(file.stem)} if file.stem.isdigit() else {}),
                **{column: value[number] for column, value in labels.items() if np.isfinite(value[number]).all()},
            }
        )
        return True


def _days(person: Path) -> list[Unit]:
    """The units of a person: its lines by day. Without a readable list there is one unit, without data, that fails."""
    try:
        lines = (person / f'{person.name}.txt').read_text(encoding='ascii').splitlines()
    except (OSError, ValueError):
        return [Unit(f'{person.name}/all')]
    days: dict[str, list[str]] = {}
    for line in filter(str.strip, lines):
        day = line.partition('/')[0]
        days.setdefault(day if re.fullmatch(r'day\d+', day) else 'unknown', []).append(line)
    return [Unit(f'{person.name}/{day}', len(days[day]), days[day]) for day in sorted(days)]


def _parsed(lines: Sequence[str], dropped: Counter[str]) -> tuple[list[str], Array]:
    """Paths, and (N, 26) columns 1 to 26; other lines are counted."""
    names, rows = [], []
    for line in lines:
        fields = line.split()
        try:
            path, flag = fields[0], fields[27]
            row = np.array(fields[1:27], np.float64)
            if len(fields) != 28 or flag not in ('left', 'right') or not re.fullmatch(r'day\d+/\w+\.jpg', path):
                raise ValueError
        except (ValueError, IndexError):
            dropped[UNREADABLE] += 1
            continue
        if not np.isfinite(row).all():
            dropped['lines with a value that is not finite'] += 1
        elif path in names:
            dropped['lines that repeat a picture'] += 1
        elif row[22] <= 0:
            dropped['lines whose face is not in front of the camera'] += 1
        else:
            names.append(path)
            rows.append(row)
    return names, np.array(rows, np.float64).reshape(len(rows), 26)


class _Calibration:
    """A person's Calibration folder."""

    def __init__(self, folder: Path):
        camera, screen, pose = (_mat(folder / f'{name}.mat') for name in ('Camera', 'screenSize', 'monitorPose'))
        self.camera_matrix = _matrix(camera, folder / 'Camera.mat', ('cameraMatrix',), 9).reshape(3, 3)
        self.distortion = _matrix(camera, folder / 'Camera.mat', ('distCoeffs',), 5)
        file = folder / 'screenSize.mat'
        sizes = [
            _matrix(screen, file, (f'{side}_{unit}',), 1)[0] for unit in ('pixel', 'mm') for side in ('width', 'height')
        ]
        if min(sizes) <= 0:
            raise BadUnitError(f'{file}: the screen is {sizes[0]} x {sizes[1]} px, {sizes[2]} x {sizes[3]} mm')
        self.screen_px, self.screen_mm = (sizes[0], sizes[1]), (sizes[2], sizes[3])
        file = folder / 'monitorPose.mat'
        # The readme says rvecs, the files say rvects.
        rotation = cv2.Rodrigues(_matrix(pose, file, ('rvects', 'rvecs'), 3))[0]
        self.screen_to_camera = np.eye(4)
        self.screen_to_camera[:3, :3] = rotation
        self.screen_to_camera[:3, 3] = _matrix(pose, file, ('tvecs',), 3)

    def rig(self, original: tuple[int, int], size: tuple[int, int]) -> Rig:
        """Camera and screen, for pictures scaled from `original` to `size` (width, height)."""
        # EVG: the camera stands at the middle of the screen's upper edge.
        center = (0, self.screen_mm[1] / 2)
        matrix = tools.scaled_camera_matrix(self.camera_matrix, np.divide(size, original))
        return Rig(size, self.screen_px, self.screen_mm, center, matrix, self.screen_to_camera)

    def labels(self, values: Array) -> dict[str, Array]:
        """Columns of the index of (N, 26) fields 1 to 26."""
        rig = self.rig((1, 1), (1, 1))
        px, rvec, tvec, center = values[:, :2], values[:, 14:17], values[:, 17:20], values[:, 20:23]
        target = rig.screen_px_to_camera(px)
        gaze = target - center
        heads, points = self.model_points(rvec, tvec)
        return {
            'pog_screen_px': px,
            'pog_plane_offset_mm': rig.offset_screen_px_to_plane(px),
            'pog_plane_pose_mm': plane_point_by_ray(center, target),
            'target_cam_mm': target,
            'face_origin_mm': center,
            'left_eye_mm': points[:, 2:4].mean(axis=1),
            'right_eye_mm': points[:, 0:2].mean(axis=1),
            'gaze': gaze / np.linalg.norm(gaze, axis=1, keepdims=True),
            'head_rvec': rvec,
            'head_tvec_mm': tvec,
            'norm_rotation': normalisation_rotation(center, heads).reshape(-1, 9),
        }

    @staticmethod
    def model_points(rvec: Array, tvec_mm: Array) -> tuple[Array, Array]:
        """Head rotations (N, 3, 3) and the six points of the face model (N, 6, 3), camera frame, mm."""
        heads = np.array([cv2.Rodrigues(r)[0] for r in rvec]).reshape(-1, 3, 3)
        return heads, np.einsum('nij,kj->nki', heads, FACE_MODEL_MM) + tvec_mm[:, None]

    def checks(self, values: Array, labels: dict[str, Array]) -> tuple[dict[str, Array], NDArray[np.bool_]]:
        """Self-tests by name, (N,) each, and which targets lie outside the screen."""
        rig = self.rig((1, 1), (1, 1))
        stored, center, px = values[:, 23:26], labels['face_origin_mm'], labels['pog_screen_px']
        model_center = self.model_points(labels['head_rvec'], labels['head_tvec_mm'])[1].mean(axis=1)
        checks = {
            TARGET_CHECK: np.linalg.norm(stored - labels['target_cam_mm'], axis=1),
            ANGLE_CHECK: angle_between_deg(stored - center, labels['gaze']),
            CENTER_CHECK: np.linalg.norm(model_center - center, axis=1),
            tools.SIGN_CHECK: tools.sign_faults(px, rig, (0, self.screen_mm[1] / 2), stored, center),
        }
        return checks, np.any((px < 0) | (px > self.screen_px), axis=1)


def _mat(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise BadUnitError(f'{file} is missing')
    try:
        return loadmat(str(file))
    # scipy raises whatever a damaged file leads it to.
    except Exception as error:
        raise BadUnitError(f'{file} cannot be read ({type(error).__name__}: {error})') from error


def _matrix(content: dict[str, Any], file: Path, names: Sequence[str], count: int) -> Array:
    """The first of `names` that is there, as (count,) finite numbers."""
    value = next((content[name] for name in names if name in content), None)
    try:
        flat = np.asarray(value, np.float64).reshape(-1)
    except (TypeError, ValueError):
        flat = np.empty(0)
    if len(flat) != count or not np.isfinite(flat).all():
        raise BadUnitError(f'{file}: {names[0]} is missing or not {count} finite numbers')
    return flat
