"""INT8 for ONNX Runtime: static quantisation after training, with pictures to learn the ranges from."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from mmengine.config import Config
from numpy.typing import NDArray
from onnx import ModelProto, helper

from evg.datasets.pictures import read_image
from evg.deploy.model_file import InputSpec
from evg.errors import UserError
from evg.files import atomic_write
from evg.geometry.warp import normalise_input, warp_to_input
from evg.registry import DATASETS

_PICTURES = {'.jpg', '.jpeg', '.png', '.bmp', '.webp'}


def calibration_inputs(cfg: Config, spec: InputSpec, source: str) -> Iterator[NDArray[np.float32]]:
    """Prepared pictures (1, 3, H, W) to learn ranges from.

    Args:
        cfg: a loaded config.
        spec: of model.json.
        source: a number: so many samples of the config's training split, evenly spread, without augmentation; or a
            folder of pictures.

    Raises:
        UserError: neither, or nothing is there.
    """
    for picture in _from_dataset(cfg, int(source)) if source.isdigit() else _from_folder(Path(source), spec):
        yield normalise_input(picture, spec.channel_order, spec.mean, spec.std)[None]


def quantise(source: Path, target: Path, inputs: Iterable[NDArray[np.float32]], batch: int = 1) -> int:
    """Write an INT8 twin of a network: weights with a scale per channel, activations with one each.

    The last layer of each output stays in single precision: its scale would be the step of the answer.

    Args:
        source: model of opset 13 or later, batch norms folded.
        target: the file.
        inputs: prepared pictures (1, 3, H, W), at least one.
        batch: that the network is fixed to.

    Returns:
        How many pictures were used.
    """
    from onnxruntime.quantization import (  # noqa: PLC0415  # two seconds
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        """Pictures one after the other, counted."""

        def __init__(self) -> None:
            self.left = iter(inputs)
            self.count = 0

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            picture = next(self.left, None)
            if picture is None:
                return None
            self.count += 1
            return {'input': np.repeat(picture, batch, axis=0)}

    model = onnx.load(source)
    reader = Reader()
    # ONNX Runtime logs that it would like the model to be prepared; it is, see evg.deploy.graph.
    logging.getLogger().addFilter(_is_no_hint)
    try:
        with TemporaryDirectory() as folder:
            made = Path(folder) / 'int8.onnx'
            quantize_static(
                model, made, reader, quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax, nodes_to_exclude=_last_nodes(model),
            )  # fmt: skip
            quantised = onnx.load(made)
    finally:
        logging.getLogger().removeFilter(_is_no_hint)
    quantised.ir_version = helper.find_min_ir_version_for(quantised.opset_import)
    onnx.checker.check_model(quantised, full_check=True)
    with atomic_write(target) as file:
        file.write(quantised.SerializeToString(deterministic=True))
    return reader.count


def _is_no_hint(record: logging.LogRecord) -> bool:
    return 'pre-processing' not in record.getMessage()


def _last_nodes(model: ModelProto) -> list[str]:
    """Nodes that make the outputs, and the last layer with weights before each."""
    producers = {name: node for node in model.graph.node for name in node.output}
    found = []
    for output in model.graph.output:
        node = producers.get(output.name)
        while node is not None:
            found.append(node.name)
            if node.op_type in ('Conv', 'ConvTranspose', 'Gemm', 'MatMul'):
                break
            node = producers.get(node.input[0])
    return found


def _from_dataset(cfg: Config, count: int) -> Iterator[NDArray[np.uint8]]:
    if count < 1:
        raise UserError('--calib-images must be at least 1, or a folder')
    described = {**cfg.train_dataloader.dataset, 'pipeline': cfg.test_pipeline, 'max_samples': count}
    try:
        dataset = DATASETS.build(described)
    except UserError as error:
        raise UserError(f'{error}; or give int8 a folder of pictures, --calib-images FOLDER') from error
    for position in range(len(dataset)):
        yield np.ascontiguousarray(dataset[position]['inputs'].transpose(1, 2, 0))


def _from_folder(folder: Path, spec: InputSpec) -> Iterator[NDArray[np.uint8]]:
    """Pictures of a folder as the network sees them; where it sees patches, they are patches."""
    if not folder.is_dir():
        raise UserError(f'--calib-images: {folder} is neither a number nor a folder')
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _PICTURES)
    if not paths:
        raise UserError(f'--calib-images: there are no pictures in {folder} ({", ".join(sorted(_PICTURES))})')
    for path in paths:
        image = read_image(str(path))
        matrix = spec.frame.matrix((image.shape[1], image.shape[0]))
        yield warp_to_input(image, matrix, spec.size, spec.antialias)
