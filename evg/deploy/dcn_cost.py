"""What it costs to write deformable convolutions in primitives of opset 11, measured on this machine."""

import math
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx

from evg.deploy.dcn import deformable_layers
from evg.deploy.graph import attributes_of, shapes_of
from evg.deploy.onnx_export import Exported, export_onnx
from evg.models import GazeEstimator

_RUNS = 5


def lowering_cost(model: GazeEstimator, lowered: Path, exported: Exported, batch: int) -> str:
    """Nodes, gathered values and time of a lowered graph beside those of ONNX's DeformConv, in one line.

    Args:
        model: the network.
        lowered: its file with dcn 'lower'.
        exported: what was said of it.
        batch: pictures to measure with.
    """
    proto = onnx.load(lowered)
    *_, height, width = (dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim)
    with TemporaryDirectory() as folder:
        path = Path(folder) / 'native.onnx'
        native = export_onnx(model, path, (width, height), batch=batch)
        images = np.random.default_rng(0).standard_normal((batch, 3, height, width), np.float32)
        before, after = _milliseconds([path, lowered], images)
    shapes = shapes_of(proto)
    rows = [n for n in proto.graph.node if n.op_type == 'Gather' and attributes_of(n).get('axis', 0) == 0]
    gathered = sum(math.prod(filter(None, shapes[node.output[0]])) for node in rows)
    return (
        f'{len(deformable_layers(model))} deformable convolutions in primitives: {exported.nodes} nodes instead of '
        f'{native.nodes}, {gathered:,} values gathered and weighted; {after:.0f} ms instead of {before:.0f} '
        f"with ONNX's DeformConv (ONNX Runtime, this CPU, batch {batch}, the best of {_RUNS})"
    )


def _milliseconds(paths: list[Path], images: np.ndarray) -> list[float]:
    """The best time of each network, measured in turns."""
    import onnxruntime  # noqa: PLC0415  # a second

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    sessions = [onnxruntime.InferenceSession(p, options, providers=['CPUExecutionProvider']) for p in paths]
    best = [math.inf] * len(paths)
    for run in range(_RUNS + 1):
        for i, session in enumerate(sessions):
            start = time.perf_counter()
            session.run(None, {'input': images})
            if run:  # the first one allocates
                best[i] = min(best[i], (time.perf_counter() - start) * 1e3)
    return best
