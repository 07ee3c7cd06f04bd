"""A network in a folder: pictures in, points of gaze out, without torch.

Needs numpy, OpenCV and ONNX Runtime, or pyACL on an Ascend board (`pip install -e '.[runtime]'`).
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evg.deploy.acl_session import AclSession
from evg.deploy.decode import check_codecs, decode
from evg.deploy.model_file import FILE, ModelFile
from evg.deploy.ort_session import OrtSession
from evg.errors import UserError
from evg.geometry import apply_affine, invert_affine
from evg.geometry.warp import normalise_input, warp_to_input

BACKENDS = ('auto', 'onnxruntime', 'acl')


class Session(Protocol):
    """What runs the network; see `OrtSession` and `AclSession`."""

    batch: int | None
    takes_pixels: bool
    providers: list[str]

    def run(self, inputs: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Raw outputs by name of exactly `batch` prepared pictures."""

    def close(self) -> None:
        """Release what it holds."""


class GazeModel:
    """A loaded model folder. `prepare`, `run` and `decode` are the steps of `predict`; threads may share one object.

    Convention: pictures are (H, W, 3) uint8 BGR, never mirrored: the camera's frame, or the normalised patch where
    `file.patch` says so. Answers are those of `evg.structures.GazeDataSample`.

    Attributes:
        file: the content of model.json.
        backend: 'onnxruntime' or 'acl'.
    """

    def __init__(self, file: ModelFile, session: Session, backend: str):
        self.file = file
        self.backend = backend
        self._session = session

    @classmethod
    def load(
        cls,
        folder: str | Path,
        backend: str = 'auto',
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        device_id: int = 0,
    ) -> 'GazeModel':
        """Load a folder that tools/deploy_atlas.py wrote; the hashes of the files that are used are checked.

        Args:
            folder: with model.json and model.onnx or model.om.
            backend: 'onnxruntime', 'acl', or 'auto': acl where there are a model.om and pyACL, else ONNX Runtime.
            threads: of ONNX Runtime on the CPU; None is one per core.
            providers: of ONNX Runtime; None is CUDA where it is installed, then the CPU.
            device_id: number of the Ascend chip.

        Raises:
            UserError: a file is missing or was changed, or the backend is not there.
        """
        if backend not in BACKENDS:
            raise UserError(f'backend must be one of {", ".join(BACKENDS)}, not {backend!r}')
        file = ModelFile.load(folder)
        check_codecs(file.codecs, str(Path(folder) / FILE))
        if backend == 'auto':
            backend = 'acl' if 'model.om' in file.files and find_spec('acl') else 'onnxruntime'
        session: Session = AclSession(file, device_id) if backend == 'acl' else OrtSession(file, threads, providers)
        return cls(file, session, backend)

    @property
    def name(self) -> str:
        """Name of the config that it was trained with."""
        return self.file.name

    @property
    def input_size(self) -> tuple[int, int]:
        """(width, height) of the network's input, px."""
        return self.file.input.size

    @property
    def providers(self) -> list[str]:
        """What it runs on, in order of preference."""
        return self._session.providers

    def prepare(self, image: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """A picture as the network takes it.

        Args:
            image: (H, W, 3) uint8 BGR, of any size.

        Returns:
            The input, (3, height, width) float32, or (height, width, 3) uint8 in the model's channel order where the
            chip normalises (AIPP); and the (2, 3) map from px of the picture to px of the input.
        """
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            found = (image.shape, str(image.dtype)) if isinstance(image, np.ndarray) else type(image).__name__
            raise ValueError(f'a picture must be (H, W, 3) uint8 BGR, not {found}')
        spec = self.file.input
        affine = spec.frame.matrix((image.shape[1], image.shape[0]))
        picture = warp_to_input(image, affine, spec.size, spec.antialias)
        if self._session.takes_pixels:
            return picture[..., ::-1] if spec.channel_order == 'rgb' else picture, affine
        return normalise_input(picture, spec.channel_order, spec.mean, spec.std), affine

    def run(self, inputs: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Raw outputs of any number of prepared pictures.

        Args:
            inputs: (B, ...) as `prepare` makes them; where the network has a fixed batch, the last one is filled up.

        Returns:
            (B, ...) by name.
        """
        width, height = self.input_size
        expected = (height, width, 3) if self._session.takes_pixels else (3, height, width)
        if inputs.shape[1:] != expected or not len(inputs):
            raise ValueError(f'inputs must be (B, {", ".join(map(str, expected))}), not {inputs.shape}')
        size = self._session.batch
        if size is None or size == len(inputs):
            return self._session.run(inputs)
        parts = []
        for start in range(0, len(inputs), size):
            part = inputs[start : start + size]
            full = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            parts.append({name: value[: len(part)] for name, value in self._session.run(full).items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def decode(
        self, raw: dict[str, NDArray[np.float32]], affines: Sequence[NDArray[np.float64]]
    ) -> list[dict[str, NDArray[np.float64] | float]]:
        """Answers from raw outputs.

        Args:
            raw: (B, ...) by name, of `run`.
            affines: B maps of `prepare`.

        Returns:
            One dict per picture with the `pred_*` that the model answers: numpy float64 arrays and floats, points of
            the picture in its px.
        """
        decoded = {name: value.astype(np.float64) for name, value in decode(self.file.codecs, raw).items()}
        return [_answer(decoded, i, affine) for i, affine in enumerate(affines)]

    def predict(self, images: Sequence[NDArray[np.uint8]]) -> list[dict[str, NDArray[np.float64] | float]]:
        """Answers to pictures, see `decode`; all of them are in memory at once."""
        if not images:
            return []
        inputs, affines = zip(*map(self.prepare, images), strict=True)
        return self.decode(self.run(np.stack(inputs)), affines)

    def close(self) -> None:
        """Release what a device holds; the object cannot be used afterwards."""
        self._session.close()

    def __enter__(self) -> 'GazeModel':
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _answer(decoded: dict[str, NDArray[np.float64]], i: int, affine: NDArray[np.float64]) -> dict[str, Any]:
    """Picture `i` of a batch."""
    answer: dict[str, Any] = {}
    for name, values in decoded.items():
        if name.endswith('_input_px'):
            answer[name.replace('_input_px', '_px')] = apply_affine(invert_affine(affine), values[i])
        else:
            answer[name] = float(values[i]) if values.ndim == 1 else values[i]
    return answer
