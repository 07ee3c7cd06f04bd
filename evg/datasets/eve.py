"""EVE (ETH Zurich, 2020) as released: `{train,val,test}NN/stepNNN_*/{camera}.{mp4,h5,timestamps.txt}`."""

import re
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path

import av
import h5py
import numpy as np
from numpy.typing import NDArray

from evg.datasets.converter import BadUnitError, Converter, Unit, UnitResult, save_jpeg
from evg.datasets.eve_labels import EveLabels
from evg.datasets.reader_tools import (
    SIGN_CHECK,
    add_check,
    check_size,
    finite_rows,
    refuse_wrong_signs,
    resolved,
    rig_key,
)
from evg.datasets.video import Shrinker, kept_frames
from evg.errors import UserError

Array = NDArray[np.float64]
CAMERAS = ('webcam_c', 'webcam_l', 'webcam_r', 'basler')
# The public reader found 2e-7 rad; half a degree means another frame, sign or unit.
MAX_LABEL_ANGLE_DEG = 0.5
CHECK = 'angle of face_g_tobii to the 3-D target, deg'
WHERE = 'EVE is at https://ait.ethz.ch/eve (a form has to be signed); unpack it to SRC/train01/step*/webcam_c.mp4'


@dataclass(frozen=True)
class EveConverter(Converter):
    """EVE as released: video and h5 of one camera"""

    name = 'eve'
    # 2: test participants have rows; smaller pictures closer to the average of their pixels.
    version = 2

    src: str
    camera: str
    size: tuple[int, int]
    every: int
    quality: int

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add('--src', required=True, type=resolved, help='folder that holds train01, val01, ...')
        add('--camera', choices=CAMERAS, default='webcam_c', help="webcam_c is the one above the screen, EVG's")
        add('--size', type=int, nargs=2, metavar=('W', 'H'), default=(480, 270), help='size of the stored pictures, px')
        add('--every', type=int, default=1, help="keep every N-th frame; 3 is EVE's own 10 Hz for the webcams")
        add('--quality', type=int, default=90, help='JPEG quality')

    def units(self) -> list[Unit]:
        src = Path(self.src)
        check_size(self.size, self.quality)
        if self.every < 1:
            raise UserError('--every must be at least 1')
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
            labels = EveLabels(file, self.camera)
        sampled = np.arange(labels.count) % self.every == 0
        withheld = not labels.labelled and unit.name.startswith('test')
        if not labels.labelled and not withheld:
            result.dropped['frames of recordings without gaze labels'] += int(sampled.sum())
            return result
        with _opened(av.open, files.with_suffix('.mp4')) as video:
            if not video.streams.video:
                raise BadUnitError(f'{files.with_suffix(".mp4")} holds no video')
            stream = video.streams.video[0]
            if stream.frames and stream.frames != labels.count:
                result.notes['recordings whose mp4 and h5 differ in length (the common part is used)'] += 1
            rig = labels.rig((stream.width, stream.height), self.size)
            columns = labels.columns(rig, np.divide(self.size, (stream.width, stream.height)))
            # The server wants an answer for every frame, whatever is known of it.
            keep = sampled if withheld else labels.usable(sampled, columns['face_box_px'], result.dropped)
            angles = labels.angles_deg(columns['gaze'])
            _check_angles(angles[keep])
            self._pictures(unit, out, video, keep, result)
        times = _times_s(files.with_name(f'{self.camera}.timestamps.txt'), self.camera, labels.count)
        if times is None:
            result.notes['recordings without usable timestamps'] += 1
        else:
            columns['time_s'] = times
        if withheld:
            text = 'rows of test participants, whose labels are withheld (for --submission only)'
            result.notes[text] += len(result.rows)
        frames = [row['frame'] for row in result.rows]
        add_check(result.checks, CHECK, angles[frames])
        add_check(result.checks, SIGN_CHECK, labels.sign_faults(rig, columns)[frames])
        refuse_wrong_signs(unit.name, result)
        key = rig_key(self.camera, rig)
        result.rigs[key] = rig
        known = {name: finite_rows(values) for name, values in columns.items()}
        for frame, row in zip(frames, result.rows, strict=True):
            row.update({name: values[frame] for name, values in columns.items() if known[name][frame]}, rig=key)
        return result

    def _pictures(self, unit: Unit, out: Path, video, keep: NDArray[np.bool_], result: UnitResult) -> None:
        """Store the pictures of the frames to keep, and begin their rows."""
        subject, sequence = unit.name.split('/')
        folder = f'images/{unit.name}/{self.camera}'
        (out / folder).mkdir(parents=True, exist_ok=True)
        root, small = str(out), Shrinker(self.size)
        for number, frame in kept_frames(video, keep):
            if frame is None:
                result.dropped['frames that the video lacks'] += 1
                continue
            if frame.is_corrupt:
                result.dropped['frames damaged in the video'] += 1
                continue
            name = f'{folder}/{number:06d}.jpg'
            save_jpeg(f'{root}/{name}', small(frame), self.quality)
            result.rows.append(
                {
                    'sample_id': f'{unit.name}/{self.camera}/{number:06d}',
                    'image': name,
                    'split': subject.rstrip('0123456789'),
                    'subject': subject,
                    'sequence': sequence,
                    'frame': number,
                    'camera': self.camera,
                }
            )


def _opened(opener, path: Path):
    """Open a file of a recording, or say that the recording cannot be used."""
    if not path.is_file():
        raise BadUnitError(f'{path} is missing')
    try:
        return opener(str(path))
    except (OSError, ValueError) as error:
        raise BadUnitError(f'{path} cannot be read ({error})') from error


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
