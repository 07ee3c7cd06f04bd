"""Annotation files of the original EVG (CenterNet_gaze): COCO style, with values that are strings.

Convention of the files: `gazepoint` in whole screen px from the upper left corner; `screenSize` (mm, px), each (width,
height); `gazeOrigin`, `gazeTarget` in the camera frame (OpenCV), mm; `cameraTransformation` (EVE) and `monitorPose`
rvects, tvecs (MPIIFaceGaze) take screen mm to camera mm; GazeCapture's `monitorPose` tvecs are (u, v, 0) of the
screen's centre from the camera, mm, u to the user's right and v down; `faceBbox` x1 y1 x2 y2 in px of the picture.
"""

import json
import os
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from evg.datasets import reader_tools as tools
from evg.datasets.converter import BadUnitError, Converter, Unit, UnitResult, save_jpeg
from evg.datasets.index import SPLITS
from evg.errors import UserError
from evg.geometry import Rig, plane_point_by_pose, plane_point_by_ray

Array = NDArray[np.float64]
TARGET_CHECK = 'gazeTarget to the target by monitorPose, mm'
MAX_TARGET_MM = 1.0
# Pictures of one unit of work; longest string that is taken apart.
CHUNK, MAX_TEXT = 512, 4096
# How the original's scripts name the pictures, and what they lay down by default.
KINDS = {
    'eve': (r'^(?P<split>[123])(?P<subject>\d\d)(?P<sequence>\d{3})\d\d(?P<frame>\d{5})\.', 'top-center'),
    'mpiifacegaze': (r'^(?P<subject>\d\d)(?P<sequence>\d\d)(?P<frame>\d{4})\.', 'top-center'),
    'gazecapture': (r'^(?P<subject>\d{4,5})(?P<frame>\d{5})\.', 'tvecs'),
}
_EVE_SPLIT = {'1': 'train', '2': 'val', '3': 'test'}


@dataclass(frozen=True)
class EvgJsonConverter(Converter):
    """annotation files of the original EVG / CenterNet_gaze: gaze_train.json and their pictures"""

    unit_name = 'part'

    kind: str
    src: tuple[str, ...]
    images: tuple[str, ...]
    split: tuple[str, ...]
    camera_offset: str
    subject: str
    size: tuple[int, int] | None
    quality: int

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add('--kind', choices=sorted(KINDS), required=True, help='which data set the files were made of')
        add('--src', nargs='+', required=True, type=tools.resolved, help='files, gaze_train.json gaze_val.json')
        add('--images', nargs='+', required=True, type=tools.resolved, help='folder with the pictures of each file')
        add('--split', nargs='+', required=True, choices=SPLITS, help='split of each file')
        add(
            '--camera-offset',
            choices=('top-center', 'none', 'tvecs'),
            help="where the camera is: at the middle of the screen's top edge, at its centre (the original without "
            "--camera_screen_pos), or by monitorPose; the original's own for the kind if not given",
        )
        add('--subject', help="regular expression whose first group is the person in a file name; the original's names")
        add('--size', type=int, nargs=2, metavar=('W', 'H'), help='store pictures of this size; else read in place')
        add('--quality', type=int, default=90, help='JPEG quality with --size')

    @classmethod
    def from_args(cls, args: Namespace) -> 'EvgJsonConverter':
        pattern, offset = KINDS[args.kind]
        subject = args.subject or pattern
        try:
            groups = re.compile(subject).groups
        except re.error as error:
            raise UserError(f'--subject {subject!r} is not a regular expression: {error}') from None
        if not groups:
            raise UserError(f'--subject {subject!r} has no group ( ) around the person')
        if not len(args.src) == len(args.images) == len(args.split):
            counts = f'{len(args.src)} --src, {len(args.images)} --images and {len(args.split)} --split'
            raise UserError(f'{counts}: give one folder and one split for each annotation file')
        offset = args.camera_offset or offset
        if offset == 'tvecs' and args.kind != 'gazecapture':
            raise UserError(
                f'--camera-offset tvecs is for --kind gazecapture: monitorPose of {args.kind} is a pose, not an offset'
            )
        size = None if args.size is None else tuple(args.size)
        return cls(
            args.kind, tuple(args.src), tuple(args.images), tuple(args.split), offset, subject, size, args.quality
        )

    @property
    def name(self) -> str:  # type: ignore[override]
        """The kind: its persons are those of the original data set."""
        return self.kind

    def units(self) -> list[Unit]:
        tools.check_size(self.size or (16, 16), self.quality)
        units = []
        for number, (src, images, split) in enumerate(zip(self.src, self.images, self.split, strict=True)):
            if not Path(images).is_dir():
                raise UserError(f'--images {images} is not a folder')
            items = _grouped(Path(src))
            for start in range(0, len(items), CHUNK):
                chunk = items[start : start + CHUNK]
                units.append(Unit(f'{split}-{number}/{start:07d}', len(chunk), (images, split, chunk)))
        return units

    def convert(self, unit: Unit, out: Path) -> UnitResult:
        images, split, items = unit.data
        result = UnitResult()
        distances: list[float] = []
        for picture, annotations in items:
            if picture is None:
                result.dropped['annotations of a picture that is not listed'] += len(annotations)
            elif not annotations:
                result.dropped['pictures without an annotation'] += 1
            else:
                if len(annotations) > 1:
                    result.dropped['further annotations of a picture (the original reads the first)'] += (
                        len(annotations) - 1
                    )
                distances += self._row(Path(images), split, picture, annotations[0], out, result)
        if distances and np.median(distances) > MAX_TARGET_MM:
            raise BadUnitError(
                f'{unit.name}: gazeTarget and the target by monitorPose differ by {np.median(distances):.1f} mm '
                '(median): the frames, signs or units are not those of docs/datasets.md'
            )
        tools.add_check(result.checks, TARGET_CHECK, distances)
        tools.refuse_wrong_signs(unit.name, result)
        return result

    def _row(
        self, images: Path, split: str, picture: Any, annotation: Any, out: Path, result: UnitResult
    ) -> list[float]:
        """Store one picture and its row. Returns the distance of the stored target to the computed one, if known."""
        entry = picture if isinstance(picture, dict) else {}
        name = entry.get('file_name')
        if not isinstance(name, str) or Path(name).is_absolute() or '..' in Path(name).parts:
            result.dropped['pictures without a usable file_name'] += 1
            return []
        who = re.search(self.subject, Path(name).name)
        if who is None:
            result.dropped['pictures whose name does not tell the person (--subject)'] += 1
            return []
        try:
            labels = _Labels(annotation, self.kind, self.camera_offset)
            declared = _numbers([entry.get('width'), entry.get('height')], 2)
        except _MalformedError as error:
            result.dropped[f'annotations with {error}'] += 1
            return []
        image = tools.readable_picture(images / name, result.dropped)
        if image is None:
            return []
        original = (image.shape[1], image.shape[0])
        size = self.size or original
        scale = np.divide(size, original if declared is None else declared)
        if declared is not None and tuple(declared) != original:
            result.notes['pictures of another size than annotated (labels in px are scaled along)'] += 1
        rig = labels.rig(size, scale)
        columns = labels.columns(rig, scale)
        if 'face_box_px' in columns and columns['face_box_px'] is None:
            result.dropped['pictures whose face box is outside'] += 1
            return []
        if rig.screen_to_camera is None:
            result.notes['rows without a calibrated pose (no 3-D labels)'] += 1
        if self.size is None:
            stored = os.path.relpath(images / name, out)
        else:
            stored = f'images/{split}/{Path(name).with_suffix(".jpg")}'
            (out / stored).parent.mkdir(parents=True, exist_ok=True)
            save_jpeg(out / stored, tools.resized(image, size), self.quality)
        key = tools.rig_key(self.kind, rig)
        result.rigs[key] = rig
        result.rows.append(
            {
                'sample_id': f'{split}/{Path(name).with_suffix("")}',
                'image': stored,
                'split': split,
                'rig': key,
                **_identity(who, self.kind),
                **({'device': labels.device()} if self.kind == 'gazecapture' else {}),
                **columns,
            }
        )
        tools.add_check(result.checks, tools.SIGN_CHECK, labels.sign_faults(rig, columns))
        return labels.target_distance(columns)


class _MalformedError(Exception):
    """A value of an annotation is not what the format says; the message ends 'annotations with ...'."""


class _Labels:
    """One annotation, its strings taken apart; what is empty is None."""

    def __init__(self, annotation: Any, kind: str, camera_offset: str):
        values: Mapping[str, Any] = annotation if isinstance(annotation, dict) else {}

        def read(name: str, count: int, part: int | None = None) -> Array | None:
            value = values.get(name)
            if part is not None and value:
                if not isinstance(value, list) or len(value) != 2:
                    raise _MalformedError(f'a malformed {name}')
                value = value[part]
            try:
                return _numbers(value, count)
            except _MalformedError:
                raise _MalformedError(f'a malformed {name}') from None

        def need(name: str, part: int | None = None) -> Array:
            value = read(name, 2, part)
            if value is None:
                raise _MalformedError(f'no {name}')
            return value

        self.screen_mm, self.screen_px = need('screenSize', 0), need('screenSize', 1)
        if min(*self.screen_mm, *self.screen_px) <= 0:
            raise _MalformedError('a malformed screenSize')
        # EVE's points were cut to whole px, so on average they lie half a px further; the others are whole px.
        self.pog_px = need('gazepoint') + (0.5 if kind == 'eve' else 0)
        self.origin, self.target = read('gazeOrigin', 3), read('gazeTarget', 3)
        self.face_box, self.camera_matrix = read('faceBbox', 4), read('camera', 9, 0)
        self.head_rvec, self.norm_rotation = read('headRvec', 3), read('gazeR', 9)
        top_center = np.array([0, self.screen_mm[1] / 2])
        self.about = top_center
        pose: Array | None = None
        if kind == 'eve':
            numbers = read('cameraTransformation', 16)
            pose = None if numbers is None else numbers.reshape(4, 4)
        else:
            rvec, tvec = (read('monitorPose', 3, part) for part in (0, 1))
            if kind == 'gazecapture' and tvec is not None:
                if rvec is not None or tvec[2] != 0:
                    raise _MalformedError("a monitorPose that is not GazeCapture's offset")
                self.about = tvec[:2]
                pose = tools.screen_in_camera_plane(self.screen_mm, self.about)
            elif rvec is not None and tvec is not None:
                pose = np.eye(4)
                pose[:3, :3], pose[:3, 3] = cv2.Rodrigues(rvec)[0], tvec
        if camera_offset == 'tvecs' and pose is None:
            raise _MalformedError('no monitorPose')
        self.pose = pose
        self.center = {'top-center': top_center, 'none': np.zeros(2), 'tvecs': self.about}[camera_offset]

    def device(self) -> str:
        """GazeCapture's device as far as its screen tells: phones are up to 122 mm high, tablets from 161 mm on."""
        return 'iPad' if max(self.screen_mm) > 140 else 'iPhone'

    def rig(self, size: tuple[int, int], scale: Array) -> Rig:
        """Camera and screen for a stored picture of `size`, `scale` (2,) stored px per annotated px."""
        matrix = None
        if self.camera_matrix is not None:
            matrix = tools.scaled_camera_matrix(self.camera_matrix.reshape(3, 3), scale)
        return Rig(size, tuple(self.screen_px), tuple(self.screen_mm), tuple(self.center), matrix, self.pose)

    def columns(self, rig: Rig, scale: Array) -> dict[str, Any]:
        """Columns of the index; face_box_px is None where the box is outside the picture."""
        columns: dict[str, Any] = {
            'pog_screen_px': self.pog_px,
            'pog_plane_offset_mm': rig.offset_screen_px_to_plane(self.pog_px),
            'face_origin_mm': self.origin,
            'head_rvec': self.head_rvec,
            'norm_rotation': self.norm_rotation,
        }
        if rig.screen_to_camera is not None:
            target = rig.screen_px_to_camera(self.pog_px)
            columns['target_cam_mm'] = target
            if self.origin is not None:
                columns['gaze'] = (target - self.origin) / np.linalg.norm(target - self.origin)
                columns['pog_plane_pose_mm'] = plane_point_by_ray(self.origin, target)
            elif target[2] == 0:
                # On the camera's plane already, whatever the eye.
                columns['pog_plane_pose_mm'] = plane_point_by_pose(target)
        columns = {name: value for name, value in columns.items() if value is not None and np.isfinite(value).all()}
        if self.face_box is not None:
            box = (self.face_box + 0.5) * np.tile(scale, 2) - 0.5
            box = np.clip(box, 0, np.tile(np.subtract(rig.image_size, 1), 2))
            columns['face_box_px'] = box if (box[2:] - box[:2] >= 1).all() else None
        return columns

    def sign_faults(self, rig: Rig, columns: Mapping[str, Any]) -> Array:
        """The sign self-test (1,), or nothing where there is no target in the camera frame."""
        if 'target_cam_mm' not in columns:
            return np.empty(0)
        origin = None if self.origin is None else self.origin[None]
        return tools.sign_faults(self.pog_px[None], rig, self.about, columns['target_cam_mm'][None], origin)

    def target_distance(self, columns: Mapping[str, Any]) -> list[float]:
        """mm between the stored target and the computed one, where both are known."""
        if self.target is None or 'target_cam_mm' not in columns:
            return []
        return [float(np.linalg.norm(self.target - columns['target_cam_mm']))]


def _identity(who: re.Match, kind: str) -> dict[str, Any]:
    """subject, sequence and frame of a picture's name, in the words of the data set's own reader."""
    if who.re.pattern != KINDS[kind][0]:
        return {'subject': who[1]}
    found = who.groupdict()
    frame = int(found['frame'])
    if kind == 'eve':
        # ffmpeg counts from 1.
        subject = f'{_EVE_SPLIT[found["split"]]}{found["subject"]}'
        return {'subject': subject, 'sequence': f'step{found["sequence"]}', 'frame': frame - 1}
    if kind == 'mpiifacegaze':
        return {'subject': f'p{found["subject"]}', 'sequence': f'day{found["sequence"]}', 'frame': frame}
    return {'subject': f'{int(found["subject"]):05d}', 'frame': frame}


def _grouped(file: Path) -> list[tuple[Any, list]]:
    """(picture, its annotations) in the file's order, then (None, annotations) of pictures that are not listed."""
    try:
        content = json.loads(file.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f'--src {file} cannot be read as JSON ({error})') from error
    content = content if isinstance(content, dict) else {}
    images, annotations = content.get('images'), content.get('annotations')
    if not (isinstance(images, list) and images and isinstance(annotations, list) and annotations):
        raise UserError(f'--src {file} is not an annotation file of EVG: it needs lists `images` and `annotations`')
    by_id: dict[Any, list] = {}
    for annotation in annotations:
        key = str(annotation.get('image_id')) if isinstance(annotation, dict) else None
        by_id.setdefault(key, []).append(annotation)
    items: list[tuple[Any, list]] = []
    for image in images:
        items.append((image, by_id.pop(str(image.get('id')), []) if isinstance(image, dict) else []))
    return items + [(None, rest) for rest in by_id.values()]


def _numbers(value: Any, count: int) -> Array | None:
    """`count` finite numbers of a JSON value: numbers, lists, text like '[1, 2]' or numpy's '[1. 2.]'; None if empty.

    Nothing is evaluated: brackets and commas are blanks, the rest must be numbers.
    """
    found: list[float] = []
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, (list, tuple)):
            todo.extend(reversed(item))
        elif isinstance(item, str) and len(item) <= MAX_TEXT:
            # numpy 2 prints np.float64(1.5) in a list.
            words = re.sub(r'np\.(?:float|u?int)\d+|[\[\](),]', ' ', item).split()
            try:
                found += map(float, words)
            except ValueError:
                raise _MalformedError('text that is no numbers') from None
        elif isinstance(item, (int, float)) and not isinstance(item, bool):
            found.append(item)
        elif item is not None:
            raise _MalformedError('a value that is no number')
    if not found:
        return None
    if len(found) != count or not np.isfinite(found).all():
        raise _MalformedError('the wrong number of values')
    return np.array(found, np.float64)
