"""A network as a model folder: model.onnx, model.json and, for Ascend, what ATC needs; whole or not at all."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import torch
from mmengine.config import Config

import evg
from evg.deploy import aipp, atlas
from evg.deploy.dcn import deformable_layers
from evg.deploy.dcn_cost import lowering_cost
from evg.deploy.describe import describe
from evg.deploy.model_file import FILE, ModelFile
from evg.deploy.onnx_export import DEFAULT_OPSET, Exported, choose_opset, export_onnx
from evg.deploy.operators import check_operators, operator_table
from evg.deploy.quantise import calibration_inputs, quantise
from evg.errors import UserError
from evg.models import GazeEstimator

TARGETS = ('atlas', 'onnxruntime')
OWN_FILES = {FILE, atlas.ONNX, atlas.OM, atlas.SCRIPT, atlas.LOG, aipp.FILE}
_AMCT = (
    'ATC quantises nothing from an ONNX file: make an INT8 model for Ascend with AMCT from the fp32 folder, see '
    'docs/deploy_atlas.md; --target onnxruntime --precision int8 makes one for ONNX Runtime'
)


@dataclass(frozen=True)
class Options:
    """What is asked for.

    Attributes:
        target: 'atlas' (model.onnx for ATC; it runs in ONNX Runtime too, except with dcn 'ascend') or 'onnxruntime'.
        soc_version: the Ascend chip.
        opset: None is 11, or the least that the rest needs.
        precision: None is what the target does by itself: 'fp16' on Ascend, where ATC rounds and model.onnx stays
            float32; 'fp32' in ONNX Runtime.
        aipp: normalise on the chip.
        batch: pictures a run.
        dynamic_batch: any number in model.onnx; ATC fixes it to `batch`.
        dcn: how deformable convolutions are written; None is 'ascend' for Ascend and 'native' for ONNX Runtime.
        calibration: of 'int8', see `calibration_inputs`.
    """

    target: str = 'atlas'
    soc_version: str = 'Ascend310'
    opset: int | None = None
    precision: str | None = None
    aipp: bool = False
    batch: int = 1
    dynamic_batch: bool = False
    dcn: str | None = None
    calibration: str = '64'

    def check(self) -> None:
        """Raise a UserError for options that exclude each other, whatever the network is."""
        if self.batch < 1:
            raise UserError(f'--batch must be at least 1, not {self.batch}')
        if self.target == 'atlas':
            atlas.check_soc_version(self.soc_version)
            if self.precision == 'int8':
                raise UserError(_AMCT)
        elif self.aipp:
            raise UserError('--aipp is for the Ascend chip: leave it out with --target onnxruntime')
        elif self.dcn == 'ascend':
            raise UserError('ONNX Runtime has no DeformableConv2D: use --dcn native or --dcn lower')

    def resolved(self, has_dcn: bool) -> 'Options':
        """With every default filled in.

        Args:
            has_dcn: whether the network has deformable convolutions.
        """
        self.check()
        on_atlas = self.target == 'atlas'
        precision = self.precision or ('fp16' if on_atlas else 'fp32')
        dcn = (self.dcn or ('ascend' if on_atlas else 'native')) if has_dcn else 'none'
        return replace(self, precision=precision, dcn=dcn, opset=choose_opset(self.opset, dcn, precision))

    @property
    def onnx_batch(self) -> int | None:
        """Pictures a run of model.onnx, None for any number."""
        return None if self.dynamic_batch else self.batch

    @property
    def onnx_precision(self) -> str:
        """Of model.onnx: for Ascend it is float32, and ATC rounds."""
        return 'fp32' if self.target == 'atlas' else str(self.precision)


def deploy(
    cfg: Config,
    model: GazeEstimator,
    out: str | Path,
    options: Options,
    source: dict[str, Any],
    say: Callable[[str], None] = print,
    dry_run: bool = False,
) -> ModelFile:
    """Export a network into a folder, and convert it where ATC is at hand.

    Args:
        cfg: a loaded config.
        model: with its weights, on the CPU.
        out: the folder; one that this function wrote before is replaced.
        options: what is asked for.
        source: where the network came from, for people to read.
        say: gets a line for the user.
        dry_run: do everything but ATC, show it, and leave nothing behind.

    Raises:
        UserError: options that exclude each other, a layer that the target does not take, ATC failed, or a folder that
            holds something else. Nothing is left behind then but ATC's log beside the folder.
    """
    out = Path(out)
    asked, options = options, options.resolved(bool(deformable_layers(model)))
    source = {**source, 'evg': evg.__version__, 'torch': torch.__version__, 'onnx': onnx.__version__}
    if options.opset != DEFAULT_OPSET and asked.opset is None:
        say(f'opset {options.opset} instead of {DEFAULT_OPSET}: the least that this network and these options allow')
    check_replaceable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f'.{out.name}.', dir=out.parent))
    try:
        exported = _export(cfg, model, scratch, options, say)
        file = describe(cfg, exported, options.onnx_batch, options.onnx_precision, source)
        file = file.with_file(scratch / atlas.ONNX)
        if options.target == 'atlas':
            file = _for_atlas(file, scratch, out, options, say, dry_run)
        file.save(scratch)
        if dry_run:
            say((scratch / FILE).read_text(encoding='utf-8').rstrip())
        else:
            scratch.chmod(0o755)
            _put(scratch, out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return file


def check_replaceable(out: Path) -> None:
    """Raise a UserError where something else than an older model folder would be overwritten."""
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f'{out} is a file: choose another --out')
    foreign = sorted(path.name for path in out.iterdir() if path.name not in OWN_FILES)
    if foreign:
        raise UserError(f'{out} holds {", ".join(foreign[:3])}, no part of a model folder: choose another --out')


def _put(scratch: Path, out: Path) -> None:
    """Give the finished folder its name; an older one goes."""
    if not out.exists():
        scratch.rename(out)
        return
    older = Path(tempfile.mkdtemp(prefix=f'.{out.name}.', dir=out.parent))
    try:
        out.rename(older / 'older')
        scratch.rename(out)
    finally:
        shutil.rmtree(older, ignore_errors=True)


def _export(cfg: Config, model: GazeEstimator, folder: Path, options: Options, say: Callable[[str], None]) -> Exported:
    path = folder / atlas.ONNX
    codec = next(iter(model.codecs.values()))
    exported = export_onnx(
        model, path, codec.input_frame.input_size, opset=options.opset, batch=options.onnx_batch, dcn=str(options.dcn),
        half=options.onnx_precision == 'fp16',
    )  # fmt: skip
    shapes = ', '.join(f'{name} {["batch" if n is None else n for n in shape]}' for name, shape in exported.outputs)
    say(f'{atlas.ONNX}: opset {exported.opset}, {exported.nodes} nodes, {path.stat().st_size / 1e6:.1f} MB; {shapes}')
    if exported.dcn == 'lower':
        say(lowering_cost(model, path, exported, options.batch))
    proto = onnx.load(path)
    if options.target == 'atlas':
        say(operator_table(proto))
        check_operators(proto)
    if options.onnx_precision == 'int8':
        spec = describe(cfg, exported, options.onnx_batch, 'int8', {}).input
        count = quantise(path, path, calibration_inputs(cfg, spec, options.calibration), options.batch)
        say(f'int8: ranges from {count} pictures, {path.stat().st_size / 1e6:.1f} MB')
    return exported


def _for_atlas(
    file: ModelFile, folder: Path, out: Path, options: Options, say: Callable[[str], None], dry_run: bool
) -> ModelFile:
    """aipp.cfg, atc.sh and, where ATC is at hand, model.om."""
    text = aipp.aipp_text(file.input)
    (folder / aipp.FILE).write_text(text, encoding='utf-8')
    command = atlas.atc_command(file, options.soc_version, str(options.precision), options.aipp, options.batch)
    atlas.write_script(folder, command)
    say(' '.join(command))
    if file.dcn == 'ascend':
        say('its deformable convolutions run on Ascend only, and not on every chip: see docs/deploy_atlas.md')
    if dry_run:
        say(text.rstrip())
        return file
    if atlas.find_atc() is None:
        say(
            f'no atc on this machine: copy {out} to one with CANN and run there\n  {atlas.SET_ENV}\n  sh '
            f'{out.name}/{atlas.SCRIPT}\n  python3 -m evg.deploy.atlas {out.name}   (lists {atlas.OM} in {FILE})'
        )
        return file
    atlas.run_atc(folder, command, out.parent / f'{out.name}.{atlas.LOG}')
    file = atlas.record_om(folder, file, command)
    say(f'{atlas.OM}: {file.files[atlas.OM]["bytes"] / 1e6:.1f} MB for {options.soc_version}; log: {out / atlas.LOG}')
    return file
