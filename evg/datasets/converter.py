"""The interface of a data set's reader, and the list of the readers.

A converter names its units of work (a recording, some of a person's frames) and turns one unit into rows of the index
and pictures; `evg.datasets.prepare` does the rest. docs/datasets.md shows how to add one.
"""

import dataclasses
import importlib
import json
from abc import ABC, abstractmethod
from argparse import ArgumentParser, Namespace
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from evg.errors import UserError, did_you_mean
from evg.geometry import Rig

# Name on the command line -> where the class is; loaded only when it is needed.
CONVERTERS = {
    'synth': 'evg.datasets.synth:SynthConverter',
    'eve': 'evg.datasets.eve:EveConverter',
    'gazecapture': 'evg.datasets.gazecapture:GazeCaptureConverter',
    'mpiifacegaze': 'evg.datasets.mpiifacegaze:MPIIFaceGazeConverter',
    'evg-json': 'evg.datasets.evg_json:EvgJsonConverter',
    'ethxgaze': 'evg.datasets.ethxgaze:EthXGazeConverter',
    'gazehub': 'evg.datasets.gazehub:GazeHubConverter',
    'gaze360': 'evg.datasets.gaze360:Gaze360Converter',
    'syntheseyes': 'evg.datasets.syntheseyes:SynthesEyesConverter',
    'unityeyes': 'evg.datasets.unityeyes:UnityEyesConverter',
    'columbia': 'evg.datasets.columbia:ColumbiaConverter',
}


class BadUnitError(Exception):
    """One unit cannot be used; the message says why. It is reported and counted, the others go on."""


@dataclass(frozen=True)
class Unit:
    """A piece of work that is finished whole or not at all.

    Attributes:
        name: unique; becomes a path below OUT/.prepare/parts, so '/' makes folders.
        size: how many pictures to expect, about (the progress bar's measure).
        data: what `Converter.convert` needs to know about it; must pickle.
    """

    name: str
    size: int = 1
    data: Any = None


@dataclass
class UnitResult:
    """What one unit gave.

    Attributes:
        rows: rows of the index (names of `evg.datasets.index.COLUMNS`) whose pictures are written.
        rigs: the rigs that the rows name.
        dropped: frames that did not become rows, by reason.
        files: files written beside the rows' pictures, relative to `out`.
        notes: anything else worth a line in the summary, counted by text.
        checks: self-tests, one number per row by name ('angle to face_g_tobii, deg'); median and maximum are reported.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    rigs: dict[str, Rig] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    files: list[str] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    checks: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Converter(ABC):
    """A data set's reader. Subclasses are frozen dataclasses whose fields are the settings that shape the output.

    Attributes:
        name: the data set's name in the index.
        version: raise it when the same settings give other rows or pictures; an older --out is then refused.
        unit_name: what one unit is called in messages.
        writes_index: False for a converter that writes files only.
        made: of such a one, what its units became, and the command that comes next; {out} is the folder.
        gaze_frame, pose_rule: declared in the index, see `write_index`.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    unit_name: ClassVar[str] = 'recording'
    writes_index: ClassVar[bool] = True
    made: ClassVar[str] = ''
    gaze_frame: ClassVar[str] = 'camera'
    pose_rule: ClassVar[str] = 'ray'

    @classmethod
    @abstractmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        """Add one command-line option for each field of the class."""

    @classmethod
    def from_args(cls, args: Namespace) -> 'Converter':
        """The converter of a command line; each field takes the option of its name."""
        return cls(**{f.name: getattr(args, f.name) for f in dataclasses.fields(cls)})

    @abstractmethod
    def units(self) -> list[Unit]:
        """All units in the index's order, the same in every run. Raises UserError when the source is not there."""

    @abstractmethod
    def convert(self, unit: Unit, out: Path) -> UnitResult:
        """Turn one unit into rows and write its pictures below `out`. Runs in a worker process.

        Raises:
            BadUnitError: the unit cannot be used.
            UserError: nothing can go on.
        """

    def settings(self) -> dict[str, Any]:
        """What the output depends on, as JSON values."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return json.loads(json.dumps({'converter': self.name, 'version': self.version, **fields}, default=str))


def converter_class(name: str) -> type[Converter]:
    """The converter of a command-line name."""
    if name not in CONVERTERS:
        raise UserError(f'there is no data set {name!r}{did_you_mean(name, CONVERTERS)}')
    module, _, attribute = CONVERTERS[name].partition(':')
    return getattr(importlib.import_module(module), attribute)


def save_jpeg(path: Path | str, image: NDArray[np.uint8], quality: int) -> None:
    """Write a BGR picture (H, W, 3); the folder must exist.

    A half-written one never counts: the unit's part is written after it and holds the sizes of the pictures.
    """
    done, data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f'OpenCV cannot encode a picture of shape {image.shape} and type {image.dtype}')
    with open(path, 'wb') as file:
        file.write(data.data)
