"""model.json: what a network in a folder needs beside its weights, so that a picture becomes a point of gaze.

Imports numpy only. The file's own sha256 and those of the networks beside it tell a changed or half-copied folder; they
are no signature.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evg.deploy.fields import Fields, is_number
from evg.errors import UserError, did_you_mean
from evg.files import atomic_write
from evg.geometry import InputFrame, Normaliser, VirtualPlane

FILE = 'model.json'
FORMAT, VERSION = 'evg-model', 1
TASKS = ('plane', 'gaze', 'landmarks')
PARTS = ('face', 'left_eye', 'right_eye')
GAZE_FRAMES = ('camera', 'normalised_r', 'normalised_sr', 'line_of_sight', 'head')
PLANE_RULES = ('offset', 'ray', 'projection')
DCN = ('none', 'native', 'lower', 'ascend')
PRECISIONS = ('fp32', 'fp16', 'int8')
INPUT_DTYPES, INPUT_LAYOUTS = ('float32', 'uint8'), ('NCHW', 'NHWC')


@dataclass(frozen=True)
class InputSpec:
    """What the network takes: model.onnx (batch, 3, height, width) float32, (pixel / 255 - mean) / std.

    Attributes:
        size: (width, height) px, that of `frame`.
        frame: how a picture becomes the input.
        channel_order: 'rgb' or 'bgr'.
        mean: three values in 0..1, in this order.
        std: three values in 0..1, in this order.
        batch: pictures a run; None for any number.
        antialias: whether a picture that shrinks by two or more is averaged, see `evg.geometry.warp`.
        name: of the graph's input.
    """

    size: tuple[int, int]
    frame: InputFrame
    channel_order: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    batch: int | None = 1
    antialias: bool = True
    name: str = 'input'


@dataclass(frozen=True)
class OutputSpec:
    """One raw output: the name that codecs know it by, and its shape; the first dimension None is any batch."""

    name: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Patch:
    """The normalised patch that the network sees instead of the camera's frame.

    Attributes:
        part: 'face', 'left_eye' or 'right_eye' (the person's).
        normaliser: the virtual camera.
    """

    part: str
    normaliser: Normaliser


@dataclass(frozen=True)
class ModelFile:
    """The content of model.json, and where it lies.

    Attributes:
        name: of the config.
        task: 'plane', 'gaze' or 'landmarks', what the main codec answers.
        input: see `InputSpec`.
        outputs: one per head, in the graph's order.
        codecs: by name, {'type': ..., every argument of its constructor}; the first one is the main one.
        opset: of the default domain of model.onnx.
        patch: None where the network sees the whole frame of the camera.
        gaze_frame: frame of gaze vectors, or None.
        virtual_plane: or None.
        plane_rule: how labels were put on the plane, or None.
        dcn: how deformable convolutions are written: 'none' (there are none), 'native', 'lower' or 'ascend'.
        precision: 'fp32', 'fp16' or 'int8'.
        source: config, checkpoint, hashes and versions, for people to read.
        files: by name, {'sha256', 'bytes'}; model.om has input_dtype, input_layout and soc_version too
        folder: where it was loaded from; not stored.
    """

    name: str
    task: str
    input: InputSpec
    outputs: tuple[OutputSpec, ...]
    codecs: dict[str, dict[str, Any]]
    opset: int
    patch: Patch | None = None
    gaze_frame: str | None = None
    virtual_plane: VirtualPlane | None = None
    plane_rule: str | None = None
    dcn: str = 'none'
    precision: str = 'fp32'
    source: dict[str, Any] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    folder: Path | None = field(default=None, compare=False)

    @property
    def hash(self) -> str:
        """sha256 of the content: of the constants, and through `files` of the networks."""
        return _digest(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The content as JSON values, in the file's order."""
        frame, patch, plane = self.input.frame, self.patch, self.virtual_plane
        content = {
            'format': FORMAT,
            'version': VERSION,
            'name': self.name,
            'task': self.task,
            'input': {
                'name': self.input.name,
                'size': self.input.size,
                'batch': self.input.batch,
                'channel_order': self.input.channel_order,
                'mean': self.input.mean,
                'std': self.input.std,
                'frame': {'size': frame.size, 'pad': frame.pad, 'keep_aspect': frame.keep_aspect},
                'antialias': self.input.antialias,
            },
            'patch': patch and {'part': patch.part, 'normaliser': vars(patch.normaliser)},
            'gaze_frame': self.gaze_frame,
            'outputs': [{'name': output.name, 'shape': output.shape} for output in self.outputs],
            'codecs': self.codecs,
            'virtual_plane': plane and {'size_px': plane.size_px, 'ppm': plane.ppm},
            'plane_rule': self.plane_rule,
            'opset': self.opset,
            'dcn': self.dcn,
            'precision': self.precision,
            'files': dict(sorted(self.files.items())),
            'source': self.source,
        }
        return json.loads(json.dumps(content, allow_nan=False))

    def with_file(self, path: str | Path, **facts: Any) -> 'ModelFile':
        """The same with the hash and size of a file of the folder, and what else is to be said of it."""
        path = Path(path)
        entry = {'sha256': sha256(path), 'bytes': path.stat().st_size, **facts}
        return replace(self, files={**self.files, path.name: entry})

    def save(self, folder: str | Path) -> Path:
        """Write model.json into a folder, whole or not at all.

        Raises:
            UserError: a field that `load` would refuse.
        """
        path = Path(folder) / FILE
        content = self.to_json()
        _parse(content, path)
        with atomic_write(path, 'w') as file:
            json.dump({**content, 'sha256': _digest(content)}, file, indent=2, ensure_ascii=False)
            file.write('\n')
        return path

    @classmethod
    def load(cls, folder: str | Path) -> 'ModelFile':
        """Read and check DIR/model.json.

        Raises:
            UserError: no such file, one that was changed after it was written, or a field that is wrong.
        """
        path = Path(folder) / FILE
        try:
            content = json.loads(path.read_text(encoding='utf-8'), parse_constant=_refuse_constant)
        except OSError as error:
            raise UserError(
                f'cannot read {path}: {error.strerror}; a model folder is made by tools/deploy_atlas.py'
            ) from error
        except (ValueError, RecursionError) as error:
            raise UserError(f'{path} is not JSON ({error}); export the model again') from error
        if not isinstance(content, dict) or content.get('format') != FORMAT:
            raise UserError(f'{path}: format must be {FORMAT!r}; a model folder is made by tools/deploy_atlas.py')
        if content.get('version') != VERSION:
            raise UserError(f'{path}: version is {content.get("version")!r}, this evg reads {VERSION}; export again')
        written = content.pop('sha256', None)
        if written != _digest(content):
            raise UserError(f'{path} was changed after it was written (its sha256 differs); export the model again')
        return replace(_parse(content, path), folder=path.parent)

    def path(self, name: str) -> Path:
        """A listed file of the folder that it was loaded from, whose hash is checked now.

        Raises:
            UserError: it is not listed, missing, or not the file that was listed.
        """
        if self.folder is None:
            raise ValueError('only a loaded ModelFile has a folder')
        if name not in self.files:
            raise UserError(f'{self.folder / FILE} lists no {name}{did_you_mean(name, self.files)}')
        path = self.folder / name
        try:
            found = sha256(path)
        except OSError as error:
            raise UserError(f'cannot read {path}: {error.strerror}; copy the whole folder') from error
        if found != self.files[name]['sha256']:
            raise UserError(
                f'{path} is not the file that {FILE} lists (sha256 {found[:12]}..., listed '
                f'{self.files[name]["sha256"][:12]}...); copy the whole folder, or export again'
            )
        return path


def sha256(path: str | Path) -> str:
    """Of a file, in hex."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _digest(content: Mapping[str, Any]) -> str:
    """Of the content, however the file is laid out."""
    text = json.dumps(content, sort_keys=True, separators=(',', ':'), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse_constant(name: str) -> None:
    raise ValueError(f'{name} is no number of JSON')


def _parse(content: Any, path: Path) -> ModelFile:
    """The checked content."""
    top = Fields(content, str(path))
    top.known |= {'format', 'version'}
    model = ModelFile(
        name=top.text('name'),
        task=top.text('task', TASKS),
        input=_parse_input(top.object('input')),
        patch=None if top.any('patch') is None else _parse_patch(top.object('patch')),
        gaze_frame=top.text('gaze_frame', GAZE_FRAMES, null=True),
        outputs=_parse_outputs(top),
        codecs=_parse_codecs(top.object('codecs')),
        virtual_plane=None if top.any('virtual_plane') is None else _parse_plane(top.object('virtual_plane')),
        plane_rule=top.text('plane_rule', PLANE_RULES, null=True),
        opset=top.whole('opset', 7),
        dcn=top.text('dcn', DCN),
        precision=top.text('precision', PRECISIONS),
        files=_parse_files(top.object('files')),
        source=top.object('source').data,
    )
    top.end()
    return model


def _parse_input(data: Fields) -> InputSpec:
    frame = data.object('frame')
    size, pad = frame.numbers('size', 2, int, 1), frame.whole('pad', 0)
    if pad & (pad + 1):
        raise frame.wrong('pad', '0 or 2^n - 1 (31, 127)')
    spec = InputSpec(
        name=data.text('name'),
        size=data.numbers('size', 2, int, 1),  # type: ignore[arg-type]  # two, it was checked
        batch=data.whole('batch', 1, null=True),
        channel_order=data.text('channel_order', ('rgb', 'bgr')),
        mean=data.numbers('mean', 3),
        std=data.numbers('std', 3, least=1e-6),
        frame=InputFrame(size, pad, frame.flag('keep_aspect')),  # type: ignore[arg-type]
        antialias=data.flag('antialias'),
    )
    if spec.frame.input_size != spec.size:
        raise data.wrong('size', f'{list(spec.frame.input_size)}, which is what frame gives')
    frame.end()
    data.end()
    return spec


def _parse_patch(data: Fields) -> Patch:
    camera = data.object('normaliser')
    normaliser = Normaliser(
        camera.number('focal_px'),
        camera.number('distance_mm'),
        camera.numbers('size_px', 2, int, 1),  # type: ignore[arg-type]
        camera.text('scaling', ('r', 'sr')),
    )
    patch = Patch(data.text('part', PARTS), normaliser)
    camera.end()
    data.end()
    return patch


def _parse_plane(data: Fields) -> VirtualPlane:
    plane = VirtualPlane(data.numbers('size_px', 2, int, 1), data.number('ppm'))  # type: ignore[arg-type]
    data.end()
    return plane


def _parse_outputs(top: Fields) -> tuple[OutputSpec, ...]:
    listed = top.any('outputs')
    if not isinstance(listed, list) or not listed:
        raise top.wrong('outputs', 'a list with at least one output')
    outputs = []
    for i, entry in enumerate(listed):
        data = Fields(entry, f'{top.where}.outputs[{i}]')
        shape = data.any('shape')
        good = isinstance(shape, list) and len(shape) >= 2 and all(is_number(v, 1) for v in shape[1:])
        if not good or not (shape[0] is None or is_number(shape[0], 1)):
            raise data.wrong('shape', 'a list of whole numbers, the first of which may be null')
        outputs.append(OutputSpec(data.text('name'), tuple(shape)))
        data.end()
    return tuple(outputs)


def _parse_codecs(data: Fields) -> dict[str, dict[str, Any]]:
    if not data.data:
        raise UserError(f'{data.where} is empty: at least one codec is needed')
    for name in data.data:
        data.object(name).text('type')
    return data.data


def _parse_files(data: Fields) -> dict[str, dict[str, Any]]:
    for name in data.data:
        if not re.fullmatch(r'[\w-][\w.-]*', name):
            raise UserError(f'{data.where}: {name!r} is no plain file name')
        entry = data.object(name)
        entry.whole('bytes', 0)
        if not re.fullmatch(r'[0-9a-f]{64}', entry.text('sha256')):
            raise entry.wrong('sha256', '64 hexadecimal digits')
        if name.endswith('.om'):
            entry.text('input_dtype', INPUT_DTYPES)
            entry.text('input_layout', INPUT_LAYOUTS)
            entry.text('soc_version')
        entry.end()
    return data.data
