"""Does a model folder answer as its checkpoint does? Raw outputs, answers, figures, time and size of both."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from evg.datasets.collate import collate_gaze
from evg.deploy.model_file import ModelFile
from evg.deploy.parity_pictures import Pictures
from evg.deploy.runtime import GazeModel
from evg.errors import UserError
from evg.evaluation import functional as F
from evg.geometry import angle_between_deg
from evg.models import GazeEstimator
from evg.registry import METRICS
from evg.structures import GazeDataSample

_WARM_UP = 3
_FLAT = 1e-6  # of an output's largest value: what changes less from picture to picture shows nothing


@dataclass(frozen=True)
class Tolerance:
    """The largest differences that pass.

    Attributes:
        statistic: of the answers' differences, 'max' or 'mean'. Half precision and INT8 may move the highest cell of a
            flat heatmap far, in a few pictures: there the mean counts.
        raw: of any raw output, times its largest value where that is above 1; None where it does not count.
        mm: of points on the plane.
        deg: of gaze vectors, and of the directions to points on the plane.
        px: of points of the picture.
    """

    statistic: str
    raw: float | None
    mm: float
    deg: float
    px: float


TOLERANCES = {
    'fp32': Tolerance('max', 1e-4, 0.05, 0.01, 0.05),
    'fp16': Tolerance('mean', None, 0.5, 0.05, 0.2),
    'int8': Tolerance('mean', None, 5.0, 0.5, 1.0),
}


def precision_of(runtime: GazeModel) -> str:
    """What the network is computed in: 'fp32', 'fp16' or 'int8'.

    A folder for Ascend says what ATC makes of it; its model.onnx is float32 all the same. On the chip even
    `force_fp32` multiplies in half precision.
    """
    if runtime.file.precision == 'int8' or runtime.backend == 'acl':
        return 'int8' if runtime.file.precision == 'int8' else 'fp16'
    weights = onnx.load(runtime.file.path('model.onnx')).graph.initializer
    return 'fp16' if any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in weights) else 'fp32'


def check_source(file: ModelFile, source: dict[str, Any]) -> None:
    """Compare where a folder and a network come from.

    Args:
        file: of the folder.
        source: of `evg.engine.network.load_network`.

    Raises:
        UserError: they are of different weights.
    """
    name = 'checkpoint_sha256'
    if name in file.source and file.source[name] != source[name]:
        raise UserError(
            f'{file.folder} was exported from {file.source.get("checkpoint") or "random weights"} '
            f'({str(file.source[name])[:12]}), not from {source["checkpoint"] or "random weights"} '
            f'({str(source[name])[:12]}): give the checkpoint that it was exported from'
        )


def choose_device(device: str | None = None, threads: int | None = None) -> str:
    """The device that torch is to run on.

    Args:
        device: None is CUDA where there is one.
        threads: of torch on the CPU; None is one per core.

    Raises:
        UserError: no such device.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f'--device {device}: {str(error).splitlines()[0]}') from error
    return device


def compare(
    model: GazeEstimator, runtime: GazeModel, pictures: Pictures, device: str, tolerance: Tolerance
) -> dict[str, Any]:
    """The report, JSON values; `render` makes a text of it.

    Args:
        model: with the checkpoint's weights.
        runtime: the loaded folder.
        pictures: see `pictures_of`.
        device: of torch.
        tolerance: what passes.
    """
    model = model.to(device).eval()
    clocks: dict[str, list[float]] = {name: [] for name in ('torch', 'prepare', 'network', 'decode')}
    raw: dict[str, list[tuple[float, ...]]] = {}
    first: dict[str, NDArray] = {}
    samples: tuple[list[GazeDataSample], list[GazeDataSample]] = ([], [])
    for number, (image, packed) in enumerate(pictures.pairs):
        batch = model.data_preprocessor(collate_gaze([packed]))
        for _ in range(1 if number else 1 + _WARM_UP):
            outputs, torch_ms = _timed(lambda batch=batch: _forward(model, batch['inputs']))
            (prepared, affine), prepare_ms = _timed(lambda image=image: runtime.prepare(image))
            found, network_ms = _timed(lambda prepared=prepared: runtime.run(prepared[None]))
            answers, decode_ms = _timed(lambda found=found, affine=affine: runtime.decode(found, [affine]))
        for name, ms in zip(clocks, (torch_ms, prepare_ms, network_ms, decode_ms), strict=True):
            clocks[name].append(ms)
        for name, value in outputs.items():
            expected = value.float().cpu().numpy()
            difference = np.abs(expected - found[name])
            change = np.abs(expected - first.setdefault(name, expected)).max()
            row = difference.max(), difference.mean(), np.abs(expected).max(), change
            raw.setdefault(name, []).append(tuple(map(float, row)))
        (sample,) = batch['data_samples']
        samples[1].append(replace(sample, **answers[0]))
        samples[0].extend(model.predict_from(outputs, [sample]))
    report: dict[str, Any] = {
        'model': runtime.name,
        'hash': runtime.file.hash,
        'precision': precision_of(runtime),
        'backend': runtime.backend,
        'runs_on': {'torch': _device_name(device), 'runtime': ', '.join(runtime.providers)},
        'pictures': pictures.about,
        'outputs': {name: _outputs_row(values) for name, values in raw.items()},
        'answers': {name: _summary(values) for name, values in _differences(*samples).items()},
        'figures': {
            'torch': _figures(pictures, samples[0]),
            'runtime': _figures(pictures, samples[1]),
        },
        'milliseconds': {name: _latency(values) for name, values in clocks.items()},
        'bytes': {
            'weights of the checkpoint': sum(t.nbytes for t in model.state_dict().values()),
            **{name: facts['bytes'] for name, facts in runtime.file.files.items() if name.endswith(('.onnx', '.om'))},
        },
        'tolerance': vars(tolerance),
    }
    report['failures'] = failures(report)
    changes = [row['change'] > _FLAT * row['largest_value'] for row in report['outputs'].values()]
    report['blind'] = len(samples[0]) > 1 and not any(changes)
    return report


def failures(report: dict[str, Any]) -> list[str]:
    """What is beyond the report's tolerance, in words."""
    allowed = report['tolerance']
    found = []
    for name, row in report['outputs'].items():
        limit = None if allowed['raw'] is None else allowed['raw'] * max(1.0, row['largest_value'])
        if limit is not None and not row['max'] <= limit:
            found.append(f'{name} differs by {row["max"]:.2g}, {limit:.2g} is allowed')
    statistic = allowed['statistic']
    for name, row in report['answers'].items():
        limit = allowed.get(name.rpartition(', ')[2])
        if limit is not None and not row[statistic] <= limit:
            found.append(f'{name}: the {statistic} difference is {row[statistic]:.3g}, {limit:g} is allowed')
    return found


def _forward(model: GazeEstimator, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        outputs = model(inputs)
        if inputs.is_cuda:
            torch.cuda.synchronize()
    return outputs


def _timed(work: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    value = work()
    return value, (time.perf_counter() - start) * 1e3


def _latency(ms: Sequence[float]) -> dict[str, float]:
    median, p95 = np.percentile(ms, (50, 95))
    return {'median': float(median), 'p95': float(p95), 'per_second': 1e3 / float(np.mean(ms))}


def _outputs_row(values: Sequence[tuple[float, ...]]) -> dict[str, float]:
    """`change` is the largest one of any value, from the first picture to another."""
    largest, means, sizes, changes = np.array(values).T
    sizes_and_changes = {'largest_value': float(sizes.max()), 'change': float(changes.max())}
    return {'max': float(largest.max()), 'mean': float(means.mean()), **sizes_and_changes}


def _differences(a: Sequence[GazeDataSample], b: Sequence[GazeDataSample]) -> dict[str, NDArray[np.float64]]:
    """Per sample, by quantity and unit."""

    def both(name: str) -> tuple[NDArray, NDArray] | None:
        if getattr(a[0], name) is None:
            return None
        return np.array([getattr(s, name) for s in a], np.float64), np.array([getattr(s, name) for s in b], np.float64)

    found = {}
    if pair := both('pred_plane_mm'):
        found['point of gaze, mm'] = F.distance(*pair)
        place = _place(a)
        if place is not None:
            found['point of gaze, deg'] = angle_between_deg(*(F.plane_to_direction(points, *place) for points in pair))
    if pair := both('pred_gaze'):
        found['gaze vector, deg'] = angle_between_deg(*pair)
    if pair := both('pred_landmarks_px'):
        found['landmarks, px'] = np.linalg.norm(pair[0] - pair[1], axis=-1).mean(axis=-1)
    if pair := both('pred_face_center_px'):
        found['face centre, px'] = F.distance(*pair)
    if pair := both('pred_score'):
        found['score, 0..1'] = np.abs(pair[0] - pair[1])
    return found


def _place(samples: Sequence[GazeDataSample]) -> tuple | None:
    """What turns points on the plane into directions, where every sample has it."""
    if any(s.gt_origin_mm is None or s.rig is None or s.rig.screen_to_camera is None for s in samples):
        return None
    rigs = [s.rig for s in samples]
    return np.array([s.gt_origin_mm for s in samples]), [s.plane_rule for s in samples], range(len(rigs)), rigs


def _summary(values: NDArray[np.float64]) -> dict[str, float]:
    """A difference that is no number is infinitely large."""
    known = np.where(np.isfinite(values), values, np.inf)
    return {'mean': float(known.mean()), 'p95': float(np.sort(known)[int(0.95 * (len(known) - 1))]), 'max': known.max()}


def _figures(pictures: Pictures, samples: list[GazeDataSample]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for config in pictures.metrics:
        metric = METRICS.build(config)
        metric.dataset_meta = pictures.metainfo
        metric.process({}, samples)
        figures |= metric.evaluate(len(samples))
    return figures


def _device_name(device: str) -> str:
    if device.startswith('cuda'):
        return f'{torch.cuda.get_device_name(device)}, torch {torch.__version__}'
    return f'CPU, {torch.get_num_threads()} threads, torch {torch.__version__}'
