"""EVE (ETH Zurich, 2020) as released: `{train,val,test}NN/stepNNN_*/{camera}.{mp4,h5,timestamps.txt}`."""

import json
import re
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from evg.datasets.converter import BadUnitError, Converter, Unit, UnitResult, save_jpeg
from evg.datasets.index import rig_to_json
from evg.errors import UserError
from evg.geometry import Rig, angle_between_deg, pitchyaw_to_vector, plane_point_by_ray

Array = NDArray[np.float64]
CAMERAS = ('webcam_c', 'webcam_l', 'webcam_r', 'basler')
SCREEN_PX = (1920, 1080)
# EVG's rule: a frame counts only if all four are valid.
REQUIRED = ('face_PoG_tobii', 'facial_landmarks', 'face_o', 'face_R')
# The public reader found 2e-7 rad; half a degree means another frame, sign or unit.
MAX_LABEL_ANGLE_DEG = 0.5
CHECK = 'angle of face_g_tobii to the 3-D target, deg'
WHERE = 'EVE is at https://ait.ethz.ch/eve (a form has to be signed); unpack it to SRC/train01/step*/webcam_c.mp4'


@dataclass(frozen=True)
class EveConverter(Converter):
    """EVE as released: video and h5 of one camera"""

    name = 'eve'

    src: str
    camera: str
    size: tuple[int, int]
    every: int
    quality: int

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add('--src', required=True, type=_resolved, help='folder that holds train01, val01, ...')
        add('--camera', choices=CAMERAS, default='webcam_c', help="webcam_c is the one above the screen, EVG's")
        add('--size', type=int, nargs=2, metavar=('W', 'H'), default=(480, 270), help='size of the stored pictures, px')
        add('--every', type=int, default=1, help="keep every N-th frame; 3 is EVE's own 10 Hz for the webcams")
        add('--quality', type=int, default=90, help='JPEG quality')

    def units(self) -> list[Unit]:
        src = Path(self.src)
        if self.every < 1 or min(self.size) < 16:
            raise UserError('--every must be at least 1 and --size at least 16 16')
        people = sorted(path for path in src.glob('*') if re.fullmatch(r'(train|val|test)\d+', path.name))
        if not people:
            inner = next((path.parent for path in src.glob('*/train01')), None)
            hint = f'did you mean --src {inner}? ' if inner else ''
            what = 'holds no train01, val01, ...' if src.is_dir() else 'is not a folder'
            raise UserError(f'{src} {what}: {hint}{WHERE}')
        steps = [step for person in people for step in sorted(person.glob('step*')) if step.is_dir()]
        if not any((step / f'{self.camera}.h5').exists() for step in steps):
            raise UserError(f'no recording below {src} has a {self.camera}.h5 (of {len(steps)} step folders): {WHERE}')
        return [Unit(f'{step.parent.name}/{step.name}') for step in steps]

    def convert(self, unit: Unit, out: Path) -> UnitResult:
        files = Path(self.src) / unit.name / self.camera
        result = UnitResult()
        with _opened(h5py.File, files.with_suffix('.h5')) as file:
            count = len(_group(file, 'facial_landmarks', (68, 2))[1])
            sampled = np.arange(count) % self.every == 0
            if 'face_PoG_tobii' not in file:
                result.dropped['frames of recordings without gaze labels (test participants)'] += int(sampled.sum())
                return result
            labels = _Labels(file, count, self.camera)
        with _opened(av.open, files.with_suffix('.mp4')) as video:
            if not video.streams.video:
                raise BadUnitError(f'{files.with_suffix(".mp4")} holds no video')
            stream = video.streams.video[0]
            if stream.frames and stream.frames != count:
                result.notes['recordings whose mp4 and h5 differ in length (the common part is used)'] += 1
            rig = labels.rig((stream.width, stream.height), self.size)
            columns = labels.columns(rig, np.divide(self.size, (stream.width, stream.height)))
            keep = labels.usable(sampled, columns['face_box_px'], result.dropped)
            angles = labels.angles_deg(columns['gaze'])
            _check_angles(angles[keep])
            self._pictures(unit, out, video, keep, result)
        times = _times_s(files.with_name(f'{self.camera}.timestamps.txt'), self.camera, count)
        if times is None:
            result.notes['recordings without usable timestamps'] += 1
        else:
            columns['time_s'] = times
        key = f'{self.camera}-{_digest(rig)}'
        result.rigs[key] = rig
        for row in result.rows:
            row['rig'] = key
            values = {name: value[row['frame']] for name, value in columns.items()}
            row.update({name: value for name, value in values.items() if np.isfinite(value).all()})
        angles = angles[[row['frame'] for row in result.rows]]
        result.checks[CHECK] = [round(float(angle), 6) for angle in angles[np.isfinite(angles)]]
        return result

    def _pictures(self, unit: Unit, out: Path, video, keep: NDArray[np.bool_], result: UnitResult) -> None:
        """Store the pictures of the frames to keep, and begin their rows."""
        subject, sequence = unit.name.split('/')
        folder = f'images/{unit.name}/{self.camera}'
        (out / folder).mkdir(parents=True, exist_ok=True)
        for number, frame in _frames(video, keep):
            if frame is None:
                result.dropped['frames that the video lacks'] += 1
                continue
            if frame.is_corrupt:
                result.dropped['frames damaged in the video'] += 1
                continue
            # From YUV to small BGR in one pass; on the pixel grid of cv2.INTER_AREA to 0.02 px, at half its cost.
            small = frame.reformat(*self.size, format='bgr24', interpolation=Interpolation.AREA)
            save_jpeg(out / folder / f'{number:06d}.jpg', small.to_ndarray(), self.quality)
            result.rows.append(
                {
                    'sample_id': f'{unit.name}/{self.camera}/{number:06d}',
                    'image': f'{folder}/{number:06d}.jpg',
                    'split': subject.rstrip('0123456789'),
                    'subject': subject,
                    'sequence': sequence,
                    'frame': number,
                    'camera': self.camera,
                }
            )


class _Labels:
    """The labels of one recording: arrays over all its frames, NaN where not valid."""

    def __init__(self, file: h5py.File, count: int, camera: str):
        self.camera = camera
        self.camera_matrix = _constant(file, 'camera_matrix', (3, 3))
        self.screen_to_camera = _constant(file, 'camera_transformation', (4, 4))
        self.mm_per_px = _constant(file, 'millimeters_per_pixel', (2,))
        shapes = {
            'face_PoG_tobii': (2,),
            'facial_landmarks': (68, 2),
            'face_o': (3,),
            'face_R': (3, 3),
            'face_g_tobii': (2,),
            'left_o': (3,),
            'right_o': (3,),
            'head_rvec': (3,),
            'head_tvec': (3,),
        }
        self.values: dict[str, Array] = {}
        self.valid: dict[str, NDArray[np.bool_]] = {}
        for name, shape in shapes.items():
            data, valid = _group(file, name, shape)
            if len(data) != count or len(valid) != count:
                raise BadUnitError(f'{file.filename}: {name} has {len(data)} rows, facial_landmarks has {count}')
            known = valid & np.isfinite(data).reshape(count, -1).all(axis=1)
            self.values[name] = np.where(known.reshape(-1, *[1] * len(shape)), data, np.nan)
            self.valid[name] = valid

    def rig(self, video_size: tuple[int, int], size: tuple[int, int]) -> Rig:
        """Camera and screen, for pictures scaled from `video_size` to `size` (width, height)."""
        scale = np.divide(size, video_size)
        matrix = self.camera_matrix.copy()
        matrix[:2] *= scale[:, None]
        matrix[:2, 2] = _scaled(self.camera_matrix[:2, 2], scale)
        screen_mm = self.mm_per_px * SCREEN_PX
        # EVG: the camera stands at the middle of the screen's upper edge. The other cameras do not.
        center = (0, screen_mm[1] / 2) if self.camera == 'webcam_c' else None
        return Rig(size, SCREEN_PX, tuple(screen_mm), center, matrix, self.screen_to_camera)

    def columns(self, rig: Rig, scale: NDArray[np.float64]) -> dict[str, Array]:
        """Columns of the index over all frames; `scale` is stored px per video px."""
        v, count = self.values, len(self.values['face_o'])
        target = rig.screen_px_to_camera(v['face_PoG_tobii'])
        gaze = target - v['face_o']
        landmarks = _scaled(v['facial_landmarks'], scale)
        columns = {
            'pog_screen_px': v['face_PoG_tobii'],
            'pog_plane_pose_mm': plane_point_by_ray(v['face_o'], target),
            'target_cam_mm': target,
            'face_origin_mm': v['face_o'],
            'left_eye_mm': v['left_o'],
            'right_eye_mm': v['right_o'],
            'gaze': gaze / np.linalg.norm(gaze, axis=1, keepdims=True),
            'head_rvec': v['head_rvec'],
            'head_tvec_mm': v['head_tvec'],
            'norm_rotation': v['face_R'].reshape(count, 9),
            'face_box_px': _face_box(landmarks, rig.image_size),
            'eye_landmarks_px': landmarks[:, 36:48].reshape(count, 24),
        }
        if rig.screen_center_plane_mm is not None:
            columns['pog_plane_offset_mm'] = rig.offset_screen_px_to_plane(v['face_PoG_tobii'])
        return columns

    def usable(self, sampled: NDArray[np.bool_], box: Array, dropped: Counter) -> NDArray[np.bool_]:
        """Which of the sampled frames can be kept; the others are counted by their first fault."""
        keep = sampled.copy()
        inside = (box[:, 2] - box[:, 0] >= 1) & (box[:, 3] - box[:, 1] >= 1)
        finite = [np.isfinite(self.values[name]).reshape(len(keep), -1).all(axis=1) for name in REQUIRED]
        tests = {f'frames without a valid {name}': self.valid[name] for name in REQUIRED}
        tests['frames marked valid whose labels are not finite'] = np.logical_and.reduce(finite)
        tests['frames whose face is outside the picture'] = inside
        for reason, good in tests.items():
            if (keep & ~good).any():
                dropped[reason] += int((keep & ~good).sum())
            keep &= good
        return keep

    def angles_deg(self, gaze: Array) -> Array:
        """(N,) angle between face_g_tobii and `gaze` (N, 3, camera frame), NaN where either is missing."""
        normalised = np.einsum('nij,nj->ni', self.values['face_R'], gaze)
        return angle_between_deg(pitchyaw_to_vector(self.values['face_g_tobii']), normalised)


def _resolved(text: str) -> str:
    return str(Path(text).resolve())


def _opened(opener, path: Path):
    """Open a file of a recording, or say that the recording cannot be used."""
    if not path.is_file():
        raise BadUnitError(f'{path} is missing')
    try:
        return opener(str(path))
    except (OSError, ValueError) as error:
        raise BadUnitError(f'{path} cannot be read ({error})') from error


def _constant(file: h5py.File, name: str, shape: tuple[int, ...]) -> Array:
    if name not in file or np.shape(file[name]) != shape or not np.isfinite(file[name][()]).all():
        raise BadUnitError(f'{file.filename}: {name} is missing or not a finite {shape} array')
    return np.asarray(file[name][()], np.float64)


def _group(file: h5py.File, name: str, shape: tuple[int, ...]) -> tuple[Array, NDArray[np.bool_]]:
    """`name`/data as (N, *shape) and `name`/validity as (N,)."""
    try:
        data = np.asarray(file[name]['data'][()], np.float64)
        # Stored as bool or as integers, nobody says which.
        valid = np.asarray(file[name]['validity'][()]).reshape(-1).astype(bool)
        return data.reshape(-1, *shape), valid
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise BadUnitError(f'{file.filename}: {name}/data and {name}/validity do not fit (N, {shape})') from error


def _scaled(px: Array, scale: NDArray[np.float64]) -> Array:
    """Px of a resized picture: outer edges map onto outer edges, pixel centres are whole numbers."""
    return (px + 0.5) * scale - 0.5


def _face_box(landmarks: Array, size: tuple[int, int]) -> Array:
    """(N, 4) x1 y1 x2 y2: the landmarks' extent, 1.2 times as large, clipped to the picture."""
    low, high = landmarks.min(axis=1), landmarks.max(axis=1)
    middle, half = (low + high) / 2, 0.6 * (high - low)
    limit = np.subtract(size, 1)
    return np.concatenate([np.clip(middle - half, 0, limit), np.clip(middle + half, 0, limit)], axis=1)


def _frames(video, keep: NDArray[np.bool_]) -> Iterator[tuple[int, Any]]:
    """(number, frame) of the frames to keep, in order; the frame is None where the video has ended."""
    wanted = np.flatnonzero(keep)
    if not len(wanted):
        return
    stream = video.streams.video[0]
    # One recording per process: more threads would only fight for the cores.
    stream.thread_type, stream.codec_context.thread_count = 'NONE', 1
    number = -1
    for number, frame in enumerate(video.decode(stream)):
        if keep[number]:
            yield number, frame
        if number == wanted[-1]:
            return
    for missing in wanted[wanted > number]:
        yield int(missing), None


def _times_s(path: Path, camera: str, count: int) -> Array | None:
    """(N,) seconds since the first frame, or None where the file is missing or shorter than the recording.

    The unit is stated nowhere and reports differ (ns, us); the camera's frame rate tells.
    """
    try:
        # Through int: 19 digits do not fit a float.
        ticks = [int(line) for line in path.read_text(encoding='ascii').split()]
    except (OSError, ValueError):
        return None
    elapsed = np.array([tick - ticks[0] for tick in ticks[:count]], np.float64)
    step = float(np.median(np.diff(elapsed))) if len(elapsed) > 1 else 0.0
    if len(elapsed) < count or step <= 0:
        return None
    expected = 1 / (60 if camera == 'basler' else 30)
    return elapsed * min((1e-9, 1e-6, 1e-3, 1.0), key=lambda unit: abs(np.log(step * unit / expected)))


def _check_angles(angles: Array) -> None:
    known = angles[np.isfinite(angles)]
    if len(known) and np.median(known) > MAX_LABEL_ANGLE_DEG:
        raise BadUnitError(
            f'face_g_tobii and the direction to the 3-D target differ by {np.median(known):.2f} deg (median): the '
            'frames, signs or units of this file are not those of docs/datasets.md'
        )


def _digest(rig: Rig) -> str:
    """Short name of a rig's values: equal rigs share it, in every run."""
    return sha1(json.dumps(rig_to_json(rig), sort_keys=True).encode()).hexdigest()[:8]
