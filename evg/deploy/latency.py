"""How long a network takes on this device, in the ways it can be run."""

import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from evg.deploy.onnx_export import export_onnx
from evg.models import GazeEstimator

# Measured until both are reached, and at most MOST times.
FEWEST, SECONDS, MOST = 10, 3.0, 200
WAYS = ('eager', 'channels_last', 'compiled', 'onnxruntime')


@dataclass
class Latency:
    """Time of one batch.

    Attributes:
        way: one of `WAYS`.
        median_ms: half of the runs took less.
        p95_ms: 95 % of the runs took less.
        runs: how many were measured.
        skipped: why there is no figure; '' where there is one.
    """

    way: str
    median_ms: float = float('nan')
    p95_ms: float = float('nan')
    runs: int = 0
    skipped: str = ''


def device_name() -> str:
    """The device that is measured, with what its figures depend on."""
    if torch.cuda.is_available():
        return f'{torch.cuda.get_device_name()}, torch {torch.__version__}'
    return f'CPU, {torch.get_num_threads()} threads, torch {torch.__version__}'


def latencies(model: GazeEstimator, input_size: tuple[int, int], batch: int = 1) -> Iterator[Latency]:
    """Measure a network in all ways, from normalised pictures to raw outputs.

    Args:
        model: it is moved to the device and left there.
        input_size: (width, height) of the network's input in px, padding included.
        batch: pictures at once.

    Yields:
        One figure per way; a way that this machine or this network does not allow says so.
    """
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    model = model.to(device).eval()
    images = torch.rand(batch, 3, *input_size[::-1], device=device)
    for way in WAYS:
        try:
            with torch.inference_mode():
                yield Latency(way, *_measure(_runner(way, model, images), device))
        except Exception as error:  # whatever compilers and exporters raise: the figure is optional
            reason = str(error).strip().splitlines()[0] if str(error).strip() else ''
            yield Latency(way, skipped=f'{type(error).__name__}: {reason}'[:200])


def _runner(way: str, model: GazeEstimator, images: Tensor) -> Callable[[], object]:
    if way == 'eager':
        model.to(memory_format=torch.contiguous_format)
        return lambda: model(images)
    model.to(memory_format=torch.channels_last)
    images = images.contiguous(memory_format=torch.channels_last)
    if way == 'channels_last':
        return lambda: model(images)
    if way == 'compiled':
        compiled = torch.compile(model, dynamic=False)
        return lambda: compiled(images)
    return _onnx_runner(model, images)


def _onnx_runner(model: GazeEstimator, images: Tensor) -> Callable[[], object]:
    import onnxruntime  # noqa: PLC0415  # a second

    on_cuda = images.is_cuda and 'CUDAExecutionProvider' in onnxruntime.get_available_providers()
    if images.is_cuda and not on_cuda:
        raise RuntimeError('this onnxruntime has no CUDA: pip install onnxruntime-gpu')
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    batch, _, height, width = images.shape
    with TemporaryDirectory() as folder:
        path = Path(folder) / 'model.onnx'
        export_onnx(deepcopy(model).cpu(), path, (width, height), batch=batch)
        providers = ['CUDAExecutionProvider' if on_cuda else 'CPUExecutionProvider']
        session = onnxruntime.InferenceSession(path, options, providers=providers)
    feed = {'input': images.cpu().contiguous().numpy()}
    return lambda: session.run(None, feed)


def _measure(run: Callable[[], object], device: torch.device) -> tuple[float, float, int]:
    """(median, 95th percentile) in ms and the number of runs, after three runs to warm up."""
    for _ in range(3):
        run()
    times: list[float] = []
    while len(times) < FEWEST or (sum(times) < SECONDS and len(times) < MOST):
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        times.append(time.perf_counter() - start)
    median, p95 = np.percentile(np.array(times) * 1e3, [50, 95])
    return float(median), float(p95), len(times)


def _wait(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize()
