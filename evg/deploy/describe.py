"""The content of model.json from a config: everything that a prediction needs beside the weights."""

import dataclasses
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from evg.codecs.main import main_first
from evg.deploy.model_file import InputSpec, ModelFile, OutputSpec, Patch
from evg.deploy.onnx_export import Exported
from evg.errors import UserError
from evg.geometry import InputFrame, Normaliser, VirtualPlane
from evg.registry import CODECS, MODELS, TRANSFORMS

_TASKS = {'gt_vp_px': 'plane', 'gt_gaze': 'gaze', 'gt_landmarks_input_px': 'landmarks'}
# How an index that was prepared with poses puts its labels on the plane, see docs/conventions.md.
_PLANE_RULES = {'offset': 'offset', 'pose': 'ray'}


def describe(
    cfg: Config, exported: Exported, batch: int | None, precision: str, source: Mapping[str, Any]
) -> ModelFile:
    """What model.json says, without the files.

    Args:
        cfg: a loaded config.
        exported: the graph.
        batch: pictures a run, None for any number.
        precision: 'fp32', 'fp16' or 'int8'.
        source: where the network came from, for people to read.

    Raises:
        UserError: the main codec is of no kind that a runtime knows.
    """
    codecs = main_first({name: _arguments(CODECS, codec) for name, codec in cfg.codecs.items()})
    main = next(iter(codecs.values()))
    label = CODECS.lookup(main['type']).label  # type: ignore[attr-defined]  # every codec has one
    if label not in _TASKS:
        raise UserError(f'the main codec {main["type"]} answers {label}, which model.json has no task for')
    frame = InputFrame(**main['input_frame'])
    preprocessor = _arguments(MODELS, cfg.model.get('data_preprocessor') or {'type': 'GazePreprocessor'})
    spec = InputSpec(
        size=frame.input_size,
        frame=frame,
        channel_order=preprocessor['channel_order'],
        mean=tuple(preprocessor['mean']),
        std=tuple(preprocessor['std']),
        batch=batch,
        antialias=_antialias(cfg),
    )
    plane = VirtualPlane(main['vp_size_px'], main['ppm']) if 'vp_size_px' in main else None
    return ModelFile(
        name=Path(cfg.filename or 'model').stem,
        task=_TASKS[label],
        input=spec,
        outputs=tuple(OutputSpec(name, shape) for name, shape in exported.outputs),
        codecs=codecs,
        opset=exported.opset,
        patch=_patch(cfg),
        gaze_frame=_gaze_frame(main),
        virtual_plane=plane,
        plane_rule=_PLANE_RULES[cfg.plane_rule] if plane else None,
        dcn=exported.dcn,
        precision=precision,
        source=dict(source),
    )


def _arguments(registry: Any, part: Mapping[str, Any]) -> dict[str, Any]:
    """`type` and every argument of a part's constructor, as plain values."""
    parameters = inspect.signature(registry.lookup(part['type']).__init__).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return _plain({'type': part['type'], **defaults, **part})


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _transform(cfg: Config, name: str) -> dict[str, Any] | None:
    """The arguments of a transform of the test pipeline, or None."""
    found = [step for step in cfg.get('test_pipeline') or [] if isinstance(step, Mapping) and step['type'] == name]
    return _arguments(TRANSFORMS, found[0]) if found else None


def _antialias(cfg: Config) -> bool:
    warp = _transform(cfg, 'Warp')
    return True if warp is None else warp['antialias']


def _patch(cfg: Config) -> Patch | None:
    """The patch that the pipeline makes, or that the pictures on disk are (`patch` in the data set's config)."""
    made = _transform(cfg, 'NormaliseFace') or cfg.get('patch')
    return Patch(made['part'], Normaliser(**made['normaliser'])) if made else None


def _gaze_frame(codec: Mapping[str, Any]) -> str | None:
    """The frame of the main codec's gaze vectors."""
    if codec.get('eye'):
        return Normaliser(**codec['eye']['normaliser']).gaze_frame
    return codec.get('gaze_frame')
