"""GazeCapture (MIT, 2016): sessions of JSON arrays and frames, read as they lie on disk.

Convention of the files: `dotInfo` XPts, YPts in screen points from the upper left corner of the current orientation;
XCam, YCam in cm from the camera, x to the user's right, y up. Camera and screen lie in one plane, and the frames are
stored upright and not mirrored, so the target in the camera frame is (-10 XCam, -10 YCam, 0) mm.
"""

import os
import re
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evg.datasets.converter import BadUnitError, Converter, Unit, UnitResult
from evg.datasets.gazecapture_devices import ORIENTATIONS, Device, find_device
from evg.datasets.index import SPLITS
from evg.datasets.reader_tools import (
    SIGN_CHECK,
    add_check,
    finite,
    read_json,
    readable_picture,
    resolved,
    rig_key,
    screen_in_camera_plane,
    sign_faults,
)
from evg.errors import UserError
from evg.geometry import Rig, plane_point_by_pose

CHECK = 'dotInfo XCam, YCam to the place by the device table, mm'
MAX_DOT_MM = 0.1
# Left out by several public readers.
EXCLUDED = ('01185', '01730', '02065')
WHERE = 'GazeCapture is at https://gazecapture.csail.mit.edu (a registration); unpack it to SRC/00002/{frames,*.json}'
_ARRAYS = {
    'appleFace': ('X', 'Y', 'W', 'H', 'IsValid'),
    'appleLeftEye': ('IsValid',),
    'appleRightEye': ('IsValid',),
    'faceGrid': ('IsValid',),
    'dotInfo': ('DotNum', 'XPts', 'YPts', 'XCam', 'YCam', 'Time'),
    'screen': ('H', 'W', 'Orientation'),
}


@dataclass(frozen=True)
class GazeCaptureConverter(Converter):
    """GazeCapture as released: sessions 00002, ... of phones and tablets"""

    name = 'gazecapture'
    unit_name = 'session'
    # Exact here: the targets lie on z = 0.
    pose_rule = 'projection'

    src: str
    frames: str
    offset: str

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add('--src', required=True, type=resolved, help='folder that holds 00002, 00003, ...')
        add('--frames', choices=('first', 'all'), default='first', help="first valid frame of each dot (EVG's), or all")
        add(
            '--offset',
            choices=('camera', 'none'),
            default='camera',
            help="origin of the offset rule's plane: the camera, or the screen's centre as in EVG's published commands",
        )

    def units(self) -> list[Unit]:
        src = Path(self.src)
        names = sorted(path.name for path in src.glob('*') if re.fullmatch(r'\d{5}', path.name) and path.is_dir())
        if not names:
            inner = next((path.parent for path in src.glob('*/[0-9][0-9][0-9][0-9][0-9]') if path.is_dir()), None)
            hint = f'did you mean --src {inner}? ' if inner else ''
            what = 'holds no session 00002, 00003, ...' if src.is_dir() else 'is not a folder'
            raise UserError(f'{src} {what}: {hint}{WHERE}')
        return [Unit(name) for name in names]

    def convert(self, unit: Unit, out: Path) -> UnitResult:
        folder = Path(self.src) / unit.name
        session = _Session(folder)
        result = UnitResult()
        if unit.name in EXCLUDED:
            result.dropped[f'frames of the sessions {", ".join(EXCLUDED)}, which other readers exclude too'] += len(
                session.names
            )
            return result
        for number in session.usable(self.frames == 'all', result.dropped):
            name = session.names[number]
            image = readable_picture(folder / 'frames' / name, result.dropped)
            if image is None:
                continue
            size = (image.shape[1], image.shape[0])
            box = _face_box([session.value('appleFace', key, number) for key in 'XYWH'], size)
            if box is None:
                result.dropped['frames without a usable face box'] += 1
                continue
            rig = session.rig(number, size, self.offset == 'camera')
            key = rig_key(f'{session.device.name}-{session.orientation(number)}', rig)
            labels, faults = session.labels(number, rig)
            if not session.device.knows_points(session.orientation(number), session.points(number)):
                result.notes["frames whose screen size is not one of the device's (screen.json is used)"] += 1
            result.rigs[key] = rig
            result.rows.append(
                {
                    'sample_id': f'{unit.name}/{Path(name).stem}',
                    # Read in place: there is nothing to change about these pictures.
                    'image': os.path.relpath(folder / 'frames' / name, out),
                    'split': session.split,
                    'subject': unit.name,
                    'frame': int(Path(name).stem),
                    'camera': 'front',
                    'device': session.device.name,
                    'rig': key,
                    'face_box_px': box,
                    **labels,
                }
            )
            add_check(result.checks, CHECK, session.dot_distance_mm(number))
            add_check(result.checks, SIGN_CHECK, faults)
        return result


class _Session:
    """The JSON files of one session; index k of every array is frame k of frames.json."""

    def __init__(self, folder: Path):
        self.names = read_json(folder / 'frames.json')
        if not isinstance(self.names, list) or not all(isinstance(name, str) for name in self.names):
            raise BadUnitError(f'{folder / "frames.json"} is not a list of file names')
        self.arrays: dict[str, dict[str, list]] = {}
        for file, keys in _ARRAYS.items():
            content = read_json(folder / f'{file}.json')
            for key in keys:
                values = content.get(key) if isinstance(content, dict) else None
                if not isinstance(values, list) or len(values) != len(self.names):
                    length = len(values) if isinstance(values, list) else 'no'
                    raise BadUnitError(
                        f'{folder / file}.json: {key} has {length} values, frames.json has {len(self.names)}'
                    )
            self.arrays[file] = content
        info = read_json(folder / 'info.json')
        split, name = (info.get(k) if isinstance(info, dict) else None for k in ('Dataset', 'DeviceName'))
        if split not in SPLITS or not isinstance(name, str):
            raise BadUnitError(f'{folder / "info.json"}: Dataset is {split!r}, DeviceName {name!r}')
        self.split = split
        try:
            self.device: Device = find_device(name)
        except LookupError as error:
            raise BadUnitError(f'{folder / "info.json"}: {error.args[0]}') from None

    def value(self, file: str, key: str, number: int) -> float:
        """A number of an array, NaN for null."""
        return finite(self.arrays[file][key][number])

    def orientation(self, number: int) -> int:
        """1 to 4; anything else is 0."""
        value = self.value('screen', 'Orientation', number)
        return int(value) if value in ORIENTATIONS else 0

    def points(self, number: int) -> tuple[float, float]:
        """(width, height) of the active screen in the current orientation, points."""
        return self.value('screen', 'W', number), self.value('screen', 'H', number)

    def rig(self, number: int, image_size: tuple[int, int], centred_on_camera: bool) -> Rig:
        """Screen and camera of a frame; nobody distributes intrinsics."""
        size_mm, center = self.device.placement(self.orientation(number))
        pose = screen_in_camera_plane(size_mm, center)
        return Rig(image_size, self.points(number), size_mm, center if centred_on_camera else (0, 0), None, pose)

    def target_mm(self, number: int) -> np.ndarray:
        """(3,) the dot in the camera frame, by dotInfo's XCam and YCam."""
        cam = [self.value('dotInfo', key, number) for key in ('XCam', 'YCam')]
        return np.array([-10 * cam[0], -10 * cam[1], 0.0])

    def dot_distance_mm(self, number: int) -> float:
        """How far XCam, YCam lie from the place that device table, orientation and points give; NaN if unknown."""
        width, height = self.points(number)
        if not self.orientation(number) or not (width > 0 and height > 0):
            return np.nan
        rig = self.rig(number, (1, 1), True)
        dot = [self.value('dotInfo', key, number) for key in ('XPts', 'YPts')]
        return float(np.linalg.norm(rig.offset_screen_px_to_plane(dot) - plane_point_by_pose(self.target_mm(number))))

    def labels(self, number: int, rig: Rig) -> tuple[dict[str, Any], np.ndarray]:
        """Columns of the index, and the sign self-test (1,)."""
        dot = np.array([self.value('dotInfo', key, number) for key in ('XPts', 'YPts')])
        target = self.target_mm(number)
        center = self.device.placement(self.orientation(number))[1]
        labels: dict[str, Any] = {
            'pog_screen_px': dot,
            'pog_plane_offset_mm': rig.offset_screen_px_to_plane(dot),
            'pog_plane_pose_mm': plane_point_by_pose(target),
            'target_cam_mm': target,
            'sequence': f'dot{self.dot(number):03d}',
        }
        time = self.value('dotInfo', 'Time', number)
        if np.isfinite(time):
            labels['time_s'] = time
        return labels, sign_faults(dot[None], rig, center, target[None])

    def dot(self, number: int) -> int:
        """Number of the dot, -1 where there is none."""
        value = self.value('dotInfo', 'DotNum', number)
        return int(value) if value >= 0 else -1

    def usable(self, every: bool, dropped: Counter[str]) -> Iterator[int]:
        """Frames to keep, in order; the others are counted by their first fault."""
        last: int | None = None
        for number, name in enumerate(self.names):
            fault = self._fault(number, name)
            if fault is None and not every and self.dot(number) == last:
                fault = 'later frames of the same dot (--frames all keeps them)'
            if fault is not None:
                dropped[fault] += 1
                continue
            last = self.dot(number)
            yield number

    def _fault(self, number: int, name: str) -> str | None:
        distance = self.dot_distance_mm(number)
        tests = [
            (self.arrays[file]['IsValid'][number] != 1, f'frames without a valid {file}')
            for file, keys in _ARRAYS.items()
            if 'IsValid' in keys
        ]
        tests += [
            (not re.fullmatch(r'\d{5}\.jpg', name), 'frames whose name is not five digits and .jpg'),
            (self.dot(number) < 0, 'frames without a dot'),
            (not self.orientation(number), 'frames without an orientation of 1 to 4'),
            (not np.isfinite(distance), 'frames whose dot or screen size is not a number'),
            (distance > MAX_DOT_MM, 'frames whose dot and device table disagree (in a change of orientation, say)'),
        ]
        return next((reason for bad, reason in tests if bad), None)


def _face_box(face: list[float], size: tuple[int, int]) -> np.ndarray | None:
    """x1 y1 x2 y2: appleFace 1.2 times as large, but no larger than the picture, moved to lie inside it (EVG's).

    Args:
        face: X, Y, W, H of appleFace, px of the frame.
        size: (width, height) of the frame.
    """
    corner, extent = np.array(face[:2]), np.array(face[2:])
    if not (np.isfinite(face).all() and (extent >= 1).all()):
        return None
    limit = np.asarray(size, np.float64)
    large = np.minimum(1.2 * extent, limit)
    # Outer edges in continuous px, then px of the corner pixels' centres.
    low = np.clip(corner + extent / 2 - large / 2, 0, limit - large)
    return np.concatenate([low, np.minimum(low + large, limit - 1)])
