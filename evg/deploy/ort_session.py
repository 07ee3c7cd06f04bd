"""model.onnx by ONNX Runtime, on a CPU or a GPU."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evg.deploy.model_file import ModelFile
from evg.errors import UserError, did_you_mean

# The first that the installed package offers is used, with the CPU behind it for what the others cannot do.
_PREFERRED = ('CUDAExecutionProvider', 'CPUExecutionProvider')


class OrtSession:
    """A loaded network; `run` may be called from several threads.

    Args:
        file: the loaded model.json; the network is `model.onnx` beside it.
        threads: of the CPU; None is one per core.
        providers: ONNX Runtime's names, in order of preference; None is CUDA where it is installed, then the CPU.

    Attributes:
        batch: pictures a run, None for any number.
        takes_pixels: False: it takes normalised float32 (B, 3, H, W).
        providers: what it runs on, in order of preference.
    """

    takes_pixels = False

    def __init__(self, file: ModelFile, threads: int | None = None, providers: Sequence[str] | None = None):
        try:
            import onnxruntime  # noqa: PLC0415  # a board with an Ascend chip has none
        except ImportError as error:
            raise UserError(
                f"ONNX Runtime cannot be imported ({error}): pip install -e '.[runtime]' in the clone of evg"
            ) from error
        if file.dcn == 'ascend':
            raise UserError(
                f'{file.folder}: its deformable convolutions are written for ATC (dcn ascend), and ONNX Runtime cannot '
                'run them; export with --dcn native or --dcn lower, or run the .om on its device'
            )
        if threads is not None and threads < 1:
            raise UserError(f'threads must be at least 1, not {threads}')
        known = onnxruntime.get_available_providers()
        for name in providers or ():
            if name not in known:
                raise UserError(f'this ONNX Runtime has no provider {name!r}{did_you_mean(name, known)}')
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3  # errors
        path = file.path('model.onnx')
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=list(providers or [name for name in _PREFERRED if name in known])
            )
        except Exception as error:  # its exceptions have no public base class
            raise UserError(f'ONNX Runtime {onnxruntime.__version__} cannot load {path}: {error}') from error
        self.batch = file.input.batch
        self.providers = list(self._session.get_providers())
        self._input = file.input.name
        self._outputs = [output.name for output in file.outputs]
        inputs, outputs = (
            [node.name for node in nodes] for nodes in (self._session.get_inputs(), self._session.get_outputs())
        )
        if inputs != [self._input] or set(outputs) != set(self._outputs):
            raise UserError(
                f'{path} has inputs {inputs} and outputs {outputs}, model.json names {self._input!r} and '
                f'{self._outputs}; export the model again'
            )

    def run(self, inputs: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Raw outputs by name of normalised pictures (batch, 3, H, W) float32."""
        values = self._session.run(self._outputs, {self._input: np.ascontiguousarray(inputs, np.float32)})
        return {name: np.asarray(value, np.float32) for name, value in zip(self._outputs, values, strict=True)}

    def close(self) -> None:
        """Nothing is held that Python does not free."""
