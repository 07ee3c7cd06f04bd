"""Columbia Gaze (2013): portraits of 56 people, the label is in the file's name."""

import re
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from evg.datasets.converter import Converter, Unit, UnitResult, save_jpeg
from evg.datasets.reader_tools import check_size, readable_picture, resolved
from evg.errors import UserError
from evg.geometry import pitchyaw_to_vector

WHERE = 'Columbia Gaze is at https://www.cs.columbia.edu/CAVE/databases/columbia_gaze/'
# Person, distance in m, head (camera) position P, vertical V and horizontal H gaze angle, degrees.
_NAME = re.compile(r'(\d{4})_(\d+)m_(-?\d+)P_(-?\d+)V_(-?\d+)H\.jpe?g', re.IGNORECASE)
_ALLOWED = {'P': (0, 15, 30), 'V': (0, 10), 'H': (0, 5, 10, 15)}


@dataclass(frozen=True)
class ColumbiaConverter(Converter):
    """Columbia Gaze: 105 portraits of each of 56 people, for tests across data sets

    Convention:
        Camera frame. Three independent readers agree that +V is up and +H is the picture's right, the person's left:
        pitch = V, yaw = -H, and the face is turned by yaw = -P. The publisher's page states no sign.
    """

    name = 'columbia'
    unit_name = 'person'

    src: str
    size: tuple[int, int]
    quality: int

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add('--src', required=True, type=resolved, help='folder that holds 0001, 0002, ... (Columbia Gaze Data Set)')
        add('--size', nargs=2, type=int, default=(1296, 864), metavar=('W', 'H'), help='size of the stored pictures')
        add('--quality', type=int, default=90, help='JPEG quality')

    def __post_init__(self):
        check_size(self.size, self.quality)
        object.__setattr__(self, 'size', tuple(self.size))

    def units(self) -> list[Unit]:
        folders = [p for p in sorted(Path(self.src).glob('*')) if p.is_dir() and re.fullmatch(r'\d{4}', p.name)]
        if not folders:
            raise UserError(f'{self.src} holds no folders 0001, 0002, ...: {WHERE}')
        return [Unit(path.name, sum(1 for _ in path.glob('*.[jJ]*'))) for path in folders]

    def convert(self, unit: Unit, out: Path) -> UnitResult:
        result = UnitResult()
        (out / 'images' / unit.name).mkdir(parents=True, exist_ok=True)
        for path in sorted((Path(self.src) / unit.name).iterdir()):
            found = _NAME.fullmatch(path.name)
            if not found:
                result.dropped['files whose name is no label'] += 1
                continue
            angles = dict(zip('PVH', map(int, found.groups()[2:]), strict=True))
            if found[1] != unit.name or any(abs(angle) not in _ALLOWED[k] for k, angle in angles.items()):
                result.dropped['names with a person or an angle that the data set does not have'] += 1
                continue
            image = readable_picture(path, result.dropped)
            if image is None:
                continue
            name = f'images/{unit.name}/{path.stem}.jpg'
            small = cv2.resize(image, self.size, interpolation=cv2.INTER_AREA)
            save_jpeg(out / name, np.asarray(small, np.uint8), self.quality)
            result.rows.append(
                {
                    'sample_id': f'{unit.name}/{path.stem}',
                    'image': name,
                    'split': 'test',
                    'subject': unit.name,
                    'camera': f'{angles["P"]:+d}P',
                    'gaze': pitchyaw_to_vector(np.radians([angles['V'], -angles['H']])),
                    'head_pitchyaw_rad': np.radians([0, -angles['P']]),
                }
            )
        return result
