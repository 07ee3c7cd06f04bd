"""Finding faces in a picture: MediaPipe's 478 landmarks, or YuNet's five points.

The detectors' model files are not part of this package. They are looked for in `EVG_FACE_MODELS` (a folder), then in
`~/.cache/evg`; a missing one is an error that says how to get it.
"""

import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from evg.errors import UserError

if TYPE_CHECKING:
    from evg.inference.head_pose import HeadPose

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

MEDIAPIPE, YUNET = 'mediapipe478', 'yunet5'


@dataclass(frozen=True)
class ModelSource:
    """Where a detector's model file comes from."""

    file: str
    url: str
    sha256: str

    def download_command(self, folder: Path) -> str:
        """A shell command that fetches the file, checks it, and only then gives it its name in a folder."""
        path = folder / self.file
        return (
            f"mkdir -p '{folder}' && curl -fL -o '{path}.part' {self.url} && "
            f"echo '{self.sha256}  {path}.part' | sha256sum -c && mv '{path}.part' '{path}'"
        )


SOURCES = {
    MEDIAPIPE: ModelSource(
        'face_landmarker.task',
        'https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task',
        '64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff',
    ),
    YUNET: ModelSource(
        'face_detection_yunet_2026may.onnx',
        'https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/'
        'face_detection_yunet_2026may.onnx',
        'ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0',
    ),
}


@dataclass(frozen=True, eq=False)
class FaceObservation:
    """One face in one picture.

    Convention: px of the picture, pixel centres at whole numbers; left and right are the person's.

    Attributes:
        box_px: (4,) x1 y1 x2 y2.
        landmarks_px: (K, 2).
        scheme: what the landmarks are: 'mediapipe478', or 'yunet5' (right eye, left eye, tip of the nose, right and
            left corner of the mouth).
        score: 0..1; 1 where the front end tells none.
        pose: of the head, from a front end that knows it better than its landmarks do; None leaves it to solvePnP.
    """

    box_px: Array
    landmarks_px: Array
    scheme: str
    score: float = 1.0
    pose: 'HeadPose | None' = None


class FaceFrontEnd(Protocol):
    """Whatever finds faces; the predictor takes one of one's own, too."""

    name: str
    scheme: str

    def detect(self, image: Image) -> list[FaceObservation]:
        """The faces of a picture (H, W, 3) uint8 BGR, the largest first."""

    def close(self) -> None:
        """Release the model."""


class MediaPipeFace:
    """MediaPipe's Face Landmarker (extra `face`): 478 landmarks with irises. Every picture is looked at anew.

    Args:
        model_path: face_landmarker.task; None looks it up, see the module.
        max_faces: how many faces it reports.
        min_confidence: 0..1, of a detection and of a face's landmarks.
    """

    name, scheme = 'mediapipe', MEDIAPIPE

    def __init__(self, model_path: str | os.PathLike | None = None, max_faces: int = 1, min_confidence: float = 0.5):
        path = model_file(MEDIAPIPE, model_path)
        try:
            with _quiet():
                from mediapipe import Image as MediaPipeImage  # noqa: PLC0415 (seconds, and an extra)
                from mediapipe import ImageFormat  # noqa: PLC0415
                from mediapipe.tasks.python import BaseOptions, vision  # noqa: PLC0415
        except ImportError as error:
            raise UserError(
                f"MediaPipe is not installed ({error}): pip install -e '.[face]' in the clone of evg"
            ) from error
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_buffer=path.read_bytes()),
            num_faces=max_faces,
            min_face_detection_confidence=min_confidence,
            min_face_presence_confidence=min_confidence,
        )
        self._wrap = lambda rgb: MediaPipeImage(image_format=ImageFormat.SRGB, data=rgb)
        self._lock = threading.Lock()
        try:
            with _quiet():
                self._landmarker: Any = vision.FaceLandmarker.create_from_options(options)
                # What it prints comes with the first picture.
                self._landmarker.detect(self._wrap(np.zeros((64, 64, 3), np.uint8)))
            self._close = weakref.finalize(self, _close, self._landmarker)
        except (RuntimeError, ValueError) as error:
            raise UserError(f'{path} is no face landmarker model: {_advice(MEDIAPIPE)}') from error

    def detect(self, image: Image) -> list[FaceObservation]:
        """The faces of a picture (H, W, 3) uint8 BGR, the largest first. Threads wait for each other."""
        height, width = image.shape[:2]
        picture = self._wrap(np.ascontiguousarray(image[..., ::-1]))
        with self._lock:
            found = self._landmarker.detect(picture)
        faces = []
        for points in found.face_landmarks:
            # It counts 0..1 from edge to edge.
            landmarks = np.array([(p.x, p.y) for p in points], np.float64) * (width, height) - 0.5
            box = np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)])
            faces.append(FaceObservation(box, landmarks, MEDIAPIPE))
        return _largest_first(faces)

    def close(self) -> None:
        """Release the model."""
        self._close()


class YuNetFace:
    """YuNet by OpenCV: boxes and five points; small, fast, and needs no extra.

    Args:
        model_path: the ONNX file; None looks it up, see the module.
        max_faces: how many faces it reports.
        min_confidence: 0..1.
    """

    name, scheme = 'yunet', YUNET
    _LONGEST = 640  # px; larger pictures are scaled down, a face of 1/60 of their width is still found

    def __init__(self, model_path: str | os.PathLike | None = None, max_faces: int = 1, min_confidence: float = 0.6):
        path = model_file(YUNET, model_path)
        self.max_faces = max_faces
        self._lock = threading.Lock()
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        try:
            self._detector: Any = cv2.FaceDetectorYN.create(str(path), '', (64, 64), min_confidence)
        except cv2.error as error:
            raise UserError(f'{path} is no YuNet model: {_advice(YUNET)}') from error
        finally:
            cv2.utils.logging.setLogLevel(level)

    def detect(self, image: Image) -> list[FaceObservation]:
        """The faces of a picture (H, W, 3) uint8 BGR, the largest first. Threads wait for each other."""
        height, width = image.shape[:2]
        scale = min(1.0, self._LONGEST / max(height, width))
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        picture = image if scale == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        with self._lock:
            self._detector.setInputSize(size)
            _, rows = self._detector.detect(picture)
        faces = []
        factor = np.divide((width, height), size)
        for row in [] if rows is None else np.asarray(rows, np.float64):
            corner, extent = row[:2], row[2:4]
            box = np.concatenate([corner, corner + extent]) * np.tile(factor, 2)
            points = (row[4:14].reshape(5, 2) + 0.5) * factor - 0.5
            faces.append(FaceObservation(box, points, YUNET, float(np.clip(row[14], 0, 1))))
        return _largest_first(faces)[: self.max_faces]

    def close(self) -> None:
        """Nothing is held."""


def load_front_end(model_path: str | os.PathLike | None = None, max_faces: int = 1) -> MediaPipeFace | YuNetFace:
    """The front end of a model file, by its ending: .task is MediaPipe's, .onnx YuNet; None is MediaPipe, looked up."""
    suffix = '.task' if model_path is None else Path(model_path).suffix.lower()
    if suffix not in ('.task', '.onnx'):
        raise UserError(f'{model_path}: a face model is face_landmarker.task (MediaPipe) or an .onnx file of YuNet')
    return (MediaPipeFace if suffix == '.task' else YuNetFace)(model_path, max_faces)


def model_file(scheme: str, given: str | os.PathLike | None = None) -> Path:
    """The model file of a detector.

    Args:
        scheme: 'mediapipe478' or 'yunet5'.
        given: by the user; None looks it up, see the module.

    Raises:
        UserError: it is not there; the message holds a command that fetches and checks it.
    """
    if given is not None:
        if Path(given).is_file():
            return Path(given)
        raise UserError(f'there is no face model {given}: {_advice(scheme)}')
    folders = [Path(folder) for folder in (os.environ.get('EVG_FACE_MODELS'),) if folder] + [_cache()]
    for folder in folders:
        if (folder / SOURCES[scheme].file).is_file():
            return folder / SOURCES[scheme].file
    looked = ' and '.join(map(str, folders))
    raise UserError(f'the face model {SOURCES[scheme].file} is not in {looked}: {_advice(scheme)}')


def _cache() -> Path:
    return Path.home() / '.cache' / 'evg'


def _advice(scheme: str) -> str:
    return f'get it (sha256 {SOURCES[scheme].sha256}) by: {SOURCES[scheme].download_command(_cache())}'


def _largest_first(faces: list[FaceObservation]) -> list[FaceObservation]:
    return sorted(faces, key=lambda face: -float(np.prod(face.box_px[2:] - face.box_px[:2])))


def _close(landmarker: Any) -> None:
    try:
        landmarker.close()
    except RuntimeError:
        # At the end of the program Python takes no more work for its thread, and it would complain with a traceback.
        landmarker._handle = None


_QUIET = threading.Lock()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what MediaPipe's native parts print while they start; there is no setting that does. Errors are raised."""
    with _QUIET:
        sys.stderr.flush()
        try:
            kept = os.dup(2)
        except OSError:  # a process without a standard error
            yield
            return
        try:
            with open(os.devnull, 'wb') as nothing:
                os.dup2(nothing.fileno(), 2)
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
