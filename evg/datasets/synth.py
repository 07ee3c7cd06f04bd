"""The synthetic world as a data set: pictures and an index, or recordings in EVE's own layout."""

from argparse import ArgumentParser, Namespace
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from evg.datasets.converter import Converter, Unit, UnitResult, save_jpeg
from evg.errors import UserError
from evg.geometry import Rig, normalisation_rotation, plane_point_by_ray
from evg.synthetic.eve_format import FPS, write_recording
from evg.synthetic.scene import SETUPS, make_rig
from evg.synthetic.world import SyntheticWorld, SynthFrame

# Frames of one unit of work, and of one EVE recording (its images are shown for 3 s).
CHUNK, CLIP = 256, 90


@lru_cache(maxsize=2)
def _world(geometry: str, size: tuple[int, int], seed: int) -> SyntheticWorld:
    """One world per worker, not one per unit."""
    return SyntheticWorld(geometry=geometry, size=size, seed=seed)


def split_counts(persons: int, wanted: tuple[int, int, int] | None = None) -> tuple[int, int, int]:
    """How many persons are train, val and test.

    Args:
        persons: all of them.
        wanted: the three numbers, or None for 80, 10 and 10 % with at least one each from three persons on.

    Raises:
        UserError: the numbers do not add up.
    """
    if wanted is not None:
        if sum(wanted) != persons or min(wanted) < 0:
            raise UserError(f'--split-persons {" ".join(map(str, wanted))} does not add up to --persons {persons}')
        return wanted
    tenth = max(round(persons / 10), 1)
    val, test = (tenth if persons >= 3 else 0), (tenth if persons >= 2 else 0)
    return persons - val - test, val, test


def split_of(person: int, counts: tuple[int, int, int]) -> str:
    """The split of a person. Persons are alike in distribution, so the first ones can be train."""
    return 'train' if person < counts[0] else 'val' if person < counts[0] + counts[1] else 'test'


def frame_row(frame: SynthFrame, rig: Rig) -> dict[str, Any] | None:
    """The labels of one frame as columns of the index; None where no face is in the picture.

    Convention: that of `evg.datasets.index.COLUMNS`; gaze in the camera frame, pose rule 'ray' through the face origin.
    """
    width, height = rig.image_size
    box = np.clip(frame.face_box_px, 0, [width - 1, height - 1, width - 1, height - 1])
    if box[2] - box[0] < 1 or box[3] - box[1] < 1:
        return None
    return {
        'pog_screen_px': frame.pog_px,
        'pog_plane_offset_mm': rig.offset_screen_px_to_plane(frame.pog_px),
        'pog_plane_pose_mm': plane_point_by_ray(frame.face_origin_mm, frame.target_cam_mm),
        'target_cam_mm': frame.target_cam_mm,
        'face_origin_mm': frame.face_origin_mm,
        'left_eye_mm': frame.left_eye_mm,
        'right_eye_mm': frame.right_eye_mm,
        'gaze': frame.gaze_cam,
        'head_rvec': cv2.Rodrigues(np.asarray(frame.head_rotation, np.float64))[0],
        'head_tvec_mm': frame.head_translation_mm,
        'norm_rotation': normalisation_rotation(frame.face_origin_mm, frame.head_rotation),
        'face_box_px': box,
        'eye_landmarks_px': frame.eye_landmarks_px,
        'pupil_landmarks_px': frame.pupil_landmarks_px,
        'eyes_open': not frame.blink,
    }


def _size(geometry: str, size: tuple[int, int] | None) -> tuple[int, int]:
    try:
        return make_rig(geometry, size).image_size
    except ValueError as error:
        raise UserError(f'--size: {error}') from None


@dataclass(frozen=True)
class SynthConverter(Converter):
    """the synthetic world: people who look at a screen, rendered with exact labels"""

    name = 'synth'
    unit_name = 'part'

    geometry: str
    size: tuple[int, int]
    persons: int
    frames: int
    seed: int
    quality: int
    split_persons: tuple[int, int, int]

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add('--persons', type=int, required=True, help='number of persons')
        add('--frames', type=int, required=True, help='frames of each person')
        add('--format', choices=('index', 'eve'), default='index', help="pictures and index, or EVE's files")
        add('--geometry', choices=sorted(SETUPS), help='camera, screen and seat; close, or eve with --format eve')
        add('--size', type=int, nargs=2, metavar=('W', 'H'), help='px; 1920 1080 with --format eve')
        add('--seed', type=int, default=0, help='another seed is another world')
        add('--quality', type=int, default=95, help='JPEG quality')
        add('--split-persons', type=int, nargs=3, metavar=('TRAIN', 'VAL', 'TEST'), help='persons of each split; 8:1:1')

    @classmethod
    def from_args(cls, args: Namespace) -> Converter:
        if args.persons < 1 or args.frames < 1 or args.seed < 0 or not 1 <= args.quality <= 100:
            raise UserError('--persons and --frames must be at least 1, --seed at least 0, --quality 1 to 100')
        counts = split_counts(args.persons, args.split_persons)
        if args.format == 'eve':
            return SynthEveConverter.from_args(args)
        geometry = args.geometry or 'close'
        return cls(geometry, _size(geometry, args.size), args.persons, args.frames, args.seed, args.quality, counts)

    def units(self) -> list[Unit]:
        return [
            Unit(f'p{person:04d}/{start:06d}', min(CHUNK, self.frames - start), (person, start))
            for person in range(self.persons)
            for start in range(0, self.frames, CHUNK)
        ]

    def convert(self, unit: Unit, out: Path) -> UnitResult:
        person, start = unit.data
        world = _world(self.geometry, self.size, self.seed)
        subject = f'p{person:04d}'
        folder = out / 'images' / subject
        folder.mkdir(parents=True, exist_ok=True)
        rows: list[dict[str, Any]] = []
        dropped: Counter[str] = Counter()
        for number in range(start, start + unit.size):
            frame = world.frame(person, number)
            labels = frame_row(frame, world.rig)
            if labels is None:
                dropped['frames without a face in the picture'] += 1
                continue
            save_jpeg(folder / f'{number:06d}.jpg', frame.image, self.quality)
            rows.append(
                {
                    'sample_id': f'{subject}/{number:06d}',
                    'image': f'images/{subject}/{number:06d}.jpg',
                    'split': split_of(person, self.split_persons),
                    'subject': subject,
                    'frame': number,
                    'device': self.geometry,
                    'rig': self.geometry,
                    **labels,
                }
            )
        return UnitResult(rows, {self.geometry: world.rig}, dropped)


@dataclass(frozen=True)
class SynthEveConverter(Converter):
    """the synthetic world as recordings in EVE's own layout: video, h5 and timestamps of webcam_c"""

    name = 'synth-eve'
    writes_index = False
    made = "recordings in EVE's layout; next: python tools/prepare_data.py eve --src {out} --out DIR"

    size: tuple[int, int]
    persons: int
    frames: int
    seed: int
    split_persons: tuple[int, int, int]

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        SynthConverter.add_arguments(parser)

    @classmethod
    def from_args(cls, args: Namespace) -> Converter:
        if args.geometry not in (None, 'eve'):
            raise UserError(f"--format eve needs --geometry eve (EVE's camera and screen), not {args.geometry}")
        size = _size('eve', args.size or (1920, 1080))
        if size[0] % 2 or size[1] % 2:
            raise UserError(f'--size {size[0]} {size[1]}: the sides of a video must be even')
        return cls(size, args.persons, args.frames, args.seed, split_counts(args.persons, args.split_persons))

    def units(self) -> list[Unit]:
        units: list[Unit] = []
        numbers: Counter[str] = Counter()
        for person in range(self.persons):
            split = split_of(person, self.split_persons)
            numbers[split] += 1
            for step, start in enumerate(range(0, self.frames, CLIP)):
                # The release, too, has gaps in its step numbers and three kinds of stimulus.
                kind = ('image', 'video', 'wikipedia')[step % 3]
                name = f'{split}{numbers[split]:02d}/step{8 + 3 * step:03d}_{kind}_synth-{person:04d}-{step:03d}'
                units.append(Unit(name, min(CLIP, self.frames - start), (person, step)))
        return units

    def convert(self, unit: Unit, out: Path) -> UnitResult:
        person, step = unit.data
        world = _world('eve', self.size, self.seed)
        files = write_recording(
            out / unit.name,
            world.sequence(person, step, unit.size, FPS),
            world.rig,
            labelled=not unit.name.startswith('test'),
            rng=np.random.default_rng([self.seed, person, step]),
        )
        return UnitResult(files=[str(path.relative_to(out)) for path in files])
