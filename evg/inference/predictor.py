"""From a frame to the gaze of the faces in it, by any model: landmarks, a model folder, or a checkpoint."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evg.deploy.runtime import GazeModel
from evg.errors import UserError
from evg.geometry.warp import warp_patch
from evg.inference.answers import Face, Frame, by_frame, by_landmarks, by_patch
from evg.inference.camera import Camera
from evg.inference.face import MEDIAPIPE, FaceFrontEnd, load_front_end
from evg.inference.head_pose import head_pose
from evg.inference.landmark_model import VERSION
from evg.inference.result import GazeResult
from evg.inference.screen import Screen

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

LANDMARK = 'landmark'


class GazePredictor:
    """One call for every family of models: a frame in, the gaze of each face out, on the declared screen.

    A model of whole frames gives one point per frame and needs no front end; with one, its results have the gaze
    vector, too. All others need one. A lens distortion that the camera declares is taken out of the frame first, and px
    of the results are px of that picture.

    Convention: frames are (H, W, 3) uint8 BGR, never mirrored. For the results see `GazeResult`.

    Args:
        model: 'landmark', a folder with model.json, or a checkpoint (.pth) of evg.
        screen: that the person looks at.
        device: 'cpu' or 'cuda', for checkpoints and ONNX Runtime.
        backend: of a folder, see `evg.deploy.runtime.GazeModel.load`.
        camera: None is one with a horizontal field of view of 60 degrees.
        face: front end, or the path of its model file; None is MediaPipe's, looked up, where the model needs one.
        max_faces: how many faces to answer for.
        threads: of ONNX Runtime on the CPU; None is one per core.

    Raises:
        UserError: no such model, a front end is missing or cannot serve the model.
    """

    def __init__(
        self,
        model: str | os.PathLike,
        screen: Screen,
        device: str = 'cpu',
        backend: str = 'auto',
        camera: Camera | None = None,
        face: FaceFrontEnd | str | os.PathLike | None = None,
        max_faces: int = 1,
        threads: int | None = None,
    ):
        if max_faces < 1:
            raise UserError(f'max_faces must be at least 1, not {max_faces}')
        self.screen, self.camera, self.max_faces = screen, camera, max_faces
        self.network = None if str(model) == LANDMARK else load_model(model, device, backend, threads)
        self.face: FaceFrontEnd | None = None
        if isinstance(face, (str, os.PathLike)):
            self.face = load_front_end(face, max_faces)
        elif face is not None:
            self.face = face
        elif self.network is None or self.network.file.patch is not None:
            self.face = load_front_end(None, max_faces)
        if self.network is not None:
            _check_served(self.network)
        elif self.face is None or self.face.scheme != MEDIAPIPE:
            raise UserError(f'the model {LANDMARK!r} needs the front end of MediaPipe, whose landmarks it looks at')
        self._last_camera: tuple[Camera | None, Camera] | None = None

    @property
    def name(self) -> str:
        """'landmark', or the name of the network's config."""
        return LANDMARK if self.network is None else self.network.name

    @property
    def identity(self) -> str:
        """Name and version of all that makes the answers: a calibration belongs to one."""
        version = VERSION if self.network is None else self.network.file.hash[:12]
        return '-'.join([self.name, version, *([self.face.name] if self.face else [])])

    @property
    def camera_identity(self) -> str:
        """Hash of the declared camera; '' without one."""
        return '' if self.camera is None else self.camera.identity()

    def camera_for(self, image: Image) -> Camera:
        """The camera that is assumed for a picture."""
        size = (image.shape[1], image.shape[0])
        declared, last = self._last_camera or (None, None)
        if last is None or declared is not self.camera or last.image_size != size:
            last = Camera.from_field_of_view(size) if self.camera is None else self.camera.for_size(size)
            self._last_camera = self.camera, last
        return last

    def predict(
        self, image: Image, timestamp_ms: float | None = None, screen: Screen | None = None
    ) -> list[GazeResult]:
        """The gaze of each face of a frame, the largest first; one result with `found=False` where there is none.

        Args:
            image: the frame.
            timestamp_ms: is handed through.
            screen: another than the declared one, for this call.
        """
        times = None if timestamp_ms is None else [timestamp_ms]
        return self.predict_batch([image], times, screen)[0]

    def predict_batch(
        self, images: Sequence[Image], timestamps_ms: Sequence[float] | None = None, screen: Screen | None = None
    ) -> list[list[GazeResult]]:
        """As `predict`, for several frames, which a network sees at once."""
        start = time.perf_counter()
        frames = [self._look(image) for image in images]
        if self.network is not None:
            self._ask(self.network, frames)
        screen = self.screen if screen is None else screen
        answers = [self._results(frame, screen) or [GazeResult(False, 'no face')] for frame in frames]
        total = (time.perf_counter() - start) * 1000 / max(len(frames), 1)
        for i, (frame, results) in enumerate(zip(frames, answers, strict=True)):
            for result in results:
                result.times_ms = {**frame.times_ms, 'total': total}
                result.timestamp_ms = None if timestamps_ms is None else float(timestamps_ms[i])
        return answers

    def predict_patch(self, image: Image) -> Array:
        """(2,) pitch and yaw, radians, in the frame of a normalised patch that somebody else made.

        Raises:
            UserError: the model does not take one.
        """
        if self.network is None or self.network.file.task != 'gaze':
            raise UserError(f'the model {self.name} does not take normalised faces: serve one of configs/regression')
        return np.asarray(self.network.predict([image])[0]['pred_pitchyaw_rad'], np.float64)

    def close(self) -> None:
        """Release front end and network."""
        if self.face is not None:
            self.face.close()
        if self.network is not None:
            self.network.close()

    def __enter__(self) -> 'GazePredictor':
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _look(self, image: Image) -> Frame:
        """The frame without distortion, its faces and their heads."""
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            found = (image.shape, str(image.dtype)) if isinstance(image, np.ndarray) else type(image).__name__
            raise ValueError(f'a frame must be (H, W, 3) uint8 BGR, not {found}')
        start = time.perf_counter()
        camera = self.camera_for(image)
        frame = Frame(camera.undistort(image), camera)
        faces = [] if self.face is None else self.face.detect(frame.image)[: self.max_faces]
        frame.faces = [Face(seen, head_pose(seen, camera)) for seen in faces]
        frame.times_ms['detect'] = (time.perf_counter() - start) * 1000
        return frame

    def _ask(self, network: GazeModel, frames: Sequence[Frame]) -> None:
        """The network's answers, of all frames at once."""
        start = time.perf_counter()
        patch = network.file.patch
        asked: list[tuple[Frame | Face, Image]] = []
        for frame in frames:
            if patch is None:
                asked.append((frame, frame.image))
                continue
            for face in frame.faces:
                norm = face.normalise(patch, frame.camera)
                if norm is not None:
                    asked.append((face, warp_patch(frame.image, norm.warp, patch.normaliser.size_px)))
        steps = [time.perf_counter()]
        if asked:
            inputs, affines = zip(*(network.prepare(image) for _, image in asked), strict=True)
            steps.append(time.perf_counter())
            raw = network.run(np.stack(inputs))
            steps.append(time.perf_counter())
            for (who, _), answer in zip(asked, network.decode(raw, affines), strict=True):
                who.answer = answer
            steps.append(time.perf_counter())
        spent = np.diff([start, *steps]) * 1000 / max(len(frames), 1)
        prepare, network_ms, decode = (spent[0] + spent[1], spent[2], spent[3]) if asked else (spent[0], 0.0, 0.0)
        for frame in frames:
            frame.times_ms.update(prepare=float(prepare), network=float(network_ms), decode=float(decode))

    def _results(self, frame: Frame, screen: Screen) -> list[GazeResult]:
        if self.network is None:
            return [by_landmarks(face, frame, screen) for face in frame.faces]
        if self.network.file.patch is not None:
            return [by_patch(face, self.network, frame.camera, screen) for face in frame.faces]
        if self.face is not None and not frame.faces:
            return []
        return [by_frame(frame, self.network, screen)]


def load_model(
    path: str | os.PathLike, device: str = 'cpu', backend: str = 'auto', threads: int | None = None
) -> GazeModel:
    """A model folder, or a checkpoint; the arguments are those of `GazePredictor`."""
    if Path(path).is_dir():
        providers = None if device != 'cpu' or backend == 'acl' else ['CPUExecutionProvider']
        return GazeModel.load(Path(path), backend, threads, providers)
    if Path(path).is_file():
        try:
            from evg.inference.checkpoint import load_checkpoint  # noqa: PLC0415 (torch)
        except ImportError as error:
            raise UserError(
                f"the checkpoint {path} needs torch ({error}): pip install -e '.[train]' in the clone of evg, or "
                'export it to a folder'
            ) from error
        return load_checkpoint(str(path), device)
    raise UserError(f"there is no model {path}: give '{LANDMARK}', a folder of tools/deploy_atlas.py, or a checkpoint")


def _check_served(network: GazeModel) -> None:
    file = network.file
    if file.task == 'landmarks' and not next(iter(file.codecs.values())).get('eye'):
        raise UserError(f'the model {file.name} answers with landmarks of an eye, not with a gaze')
    if file.task == 'gaze' and file.patch is None and file.gaze_frame != 'camera':
        raise UserError(
            f'the model {file.name} answers in the frame {file.gaze_frame!r}, but its config does not say how its '
            "patches are made: add patch=dict(part='face', normaliser=dict(...)) to it and export it again"
        )
