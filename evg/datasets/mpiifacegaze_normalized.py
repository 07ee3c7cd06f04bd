"""MPIIFaceGaze_normalized: the publishers' face patches in one HDF5 file (MATLAB v7.3) per person, read in place.

Convention of the files: `Data/data` (N, 3, 448, 448), 0 to 255, BGR; `Data/label` (N, 16), of which the first two are
the gaze (pitch, yaw) in radians in the frame of the patch's virtual camera. Their sign, and whether R or S R turned
them, are stated nowhere. The sign can be tested: laptop cameras stand above the screen, so people look down from them.
"""

import os
import re
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from evg.datasets.converter import BadUnitError, Converter, Unit, UnitResult
from evg.datasets.reader_tools import add_check
from evg.errors import UserError
from evg.geometry import pitchyaw_to_vector

PITCH_CHECK = 'pitch of the gaze, deg (below 0 is down, to the screen)'
WHERE = (
    'MPIIFaceGaze_normalized.zip is at https://www.perceptualui.org (Datasets, MPIIFaceGaze); --src is the folder with '
    'p00.mat ... p14.mat'
)


@dataclass(frozen=True)
class MPIIFaceGazeNormalizedConverter(Converter):
    """MPIIFaceGaze's normalised face patches"""

    name = 'mpiifacegaze'
    unit_name = 'person'

    src: str
    frame: str
    sign: str

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        """None of its own: `MPIIFaceGazeConverter` has the command line of both downloads."""

    @property
    def gaze_frame(self) -> str:  # type: ignore[override]
        """As the user declared it."""
        return self.frame

    def units(self) -> list[Unit]:
        files = sorted(path.stem for path in Path(self.src).glob('p*.mat') if re.fullmatch(r'p\d\d', path.stem))
        if not files:
            raise UserError(f'there is no p00.mat in {self.src}: {WHERE}')
        return [Unit(name) for name in files]

    def convert(self, unit: Unit, out: Path) -> UnitResult:
        path = Path(self.src) / f'{unit.name}.mat'
        try:
            with h5py.File(path, 'r') as file:
                labels, shape = np.asarray(file['Data/label'][()], np.float64), file['Data/data'].shape
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise BadUnitError(
                f'{path} cannot be read as MATLAB v7.3 with Data/data and Data/label ({error})'
            ) from error
        if len(shape) != 4 or shape[1] != 3 or labels.shape != (shape[0], 16):
            raise BadUnitError(
                f'{path}: Data/data is {shape}, Data/label {labels.shape}; (N, 3, H, W), (N, 16) are needed'
            )
        angles = labels[:, :2] * (1 if self.sign == 'up-right' else -1)
        good = np.isfinite(angles).all(axis=1) & (np.abs(angles) < np.pi / 2).all(axis=1)
        result = UnitResult()
        if not good.all():
            result.dropped['patches whose gaze is not two angles below 90 deg in radians'] += int((~good).sum())
        if good.any() and np.median(angles[good, 0]) > 0:
            other = 'down-left' if self.sign == 'up-right' else 'up-right'
            raise BadUnitError(
                f'{path}: with --sign {self.sign} most gazes go up ({np.degrees(np.median(angles[good, 0])):.1f} deg, '
                f'median), but the screen is below the camera: try --sign {other}'
            )
        link = os.path.relpath(path, out)
        for row in np.flatnonzero(good):
            result.rows.append(
                {
                    'sample_id': f'{unit.name}/{row:04d}',
                    'image': f'{link}#Data/data/{row}',
                    'split': 'train',
                    'subject': unit.name,
                    'frame': int(row),
                    'camera': 'laptop',
                    'gaze': pitchyaw_to_vector(angles[row]),
                }
            )
        add_check(result.checks, PITCH_CHECK, np.degrees(angles[good, 0]))
        return result
