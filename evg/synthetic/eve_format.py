"""Writes recordings of the synthetic world in EVE's own layout: `webcam_c.mp4`, `.h5` and `.timestamps.txt`.

Convention of the files (EVE's DATASET.md and readers of the release):
    PoG in screen px, origin upper left; `camera_transformation` takes screen mm to camera mm; `{face,left,right}_o` in
    camera mm; `_R` rotates the camera frame into the normalised one, `_g_tobii` and `_h` are (pitch, yaw) in it,
    radians, positive up and towards the picture's left; landmarks in video px.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import cv2
import h5py
import numpy as np
from numpy.typing import NDArray

from evg.geometry import Rig, normalisation_rotation, vector_to_pitchyaw
from evg.synthetic.world import SynthFrame

Array = NDArray[np.float64]
CAMERA = 'webcam_c'
FPS = 30
START_NS = 1_580_000_000_000_000_000
# (patch size px, focal length px, distance mm) of the normalised cameras; EVE states them only through W.
PATCHES = {'face': (256, 1150.0, 600.0), 'left': (128, 1800.0, 600.0), 'right': (128, 1800.0, 600.0)}
# What is lost when the landmark detector fails, and when the eye tracker does (a blink, for instance).
LANDMARK_KEYS = ('facial_landmarks', 'head_rvec', 'head_tvec', '{}_R', '{}_W', '{}_h', '{}_o')
TRACKER_KEYS = ('{}_PoG_tobii', 'left_p', 'right_p')
LABEL_KEYS = (*TRACKER_KEYS, '{}_g_tobii')


def write_recording(
    folder: Path, frames: Iterable[SynthFrame], rig: Rig, labelled: bool, rng: np.random.Generator
) -> list[Path]:
    """Write one recording.

    Args:
        folder: `.../train01/step008_image_name`.
        frames: its frames, in order, at `FPS`.
        rig: camera and screen; the picture's sides must be even.
        labelled: False leaves out what the release withholds for its test participants.
        rng: decides which frames lose their landmarks.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    columns: dict[str, list] = {}
    valid: dict[str, list[bool]] = {}

    def collect() -> Iterator[NDArray[np.uint8]]:
        for frame in frames:
            lost = _names(LANDMARK_KEYS) if rng.random() < 0.02 else set()
            lost |= _names(TRACKER_KEYS) if frame.blink else set()
            # The angles need both.
            lost |= _names(('{}_g_tobii',)) if lost else set()
            for name, value in _labels(frame, rig).items():
                columns.setdefault(name, []).append(np.zeros_like(value) if name in lost else value)
                valid.setdefault(name, []).append(name not in lost)
            yield frame.image

    count = write_video(folder / f'{CAMERA}.mp4', collect(), rig.image_size)
    mm_per_px = np.divide(rig.screen_size_mm, rig.screen_size_px)
    with h5py.File(folder / f'{CAMERA}.h5', 'w') as file:
        file['camera_matrix'] = rig.camera_matrix
        file['camera_transformation'] = rig.screen_to_camera
        file['inv_camera_transformation'] = np.linalg.inv(np.asarray(rig.screen_to_camera))
        file['millimeters_per_pixel'] = mm_per_px
        file['pixels_per_millimeter'] = 1 / mm_per_px
        for name in columns if labelled else set(columns) - _names(LABEL_KEYS):
            file[f'{name}/data'] = np.stack(columns[name])
            file[f'{name}/validity'] = np.array(valid[name])
    ticks = ''.join(f'{START_NS + round(i * 1e9 / FPS)}\n' for i in range(count))
    for name in (CAMERA, 'screen'):
        (folder / f'{name}.timestamps.txt').write_text(ticks, encoding='ascii')
    return [folder / name for name in (f'{CAMERA}.mp4', f'{CAMERA}.h5', f'{CAMERA}.timestamps.txt')]


def write_video(path: Path, images: Iterable[NDArray[np.uint8]], size: tuple[int, int]) -> int:
    """Write BGR pictures (H, W, 3) of `size` (width, height) as H.264. Returns how many."""
    count = 0
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=FPS, options={'crf': '17', 'preset': 'veryfast'})
        stream.width, stream.height, stream.pix_fmt = *size, 'yuv420p'
        stream.codec_context.thread_count = 1
        for image in images:
            count += 1
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='bgr24')))
        container.mux(stream.encode(None))
    return count


def _names(keys: Iterable[str]) -> set[str]:
    return {key.format(patch) for key in keys for patch in PATCHES}


def _labels(frame: SynthFrame, rig: Rig) -> dict[str, Array]:
    """All per-frame data of the h5, in closed form."""
    head = frame.head_rotation
    labels = {
        'facial_landmarks': frame.landmarks_px,
        'head_rvec': cv2.Rodrigues(np.asarray(head, np.float64))[0],
        'head_tvec': np.reshape(frame.head_translation_mm, (3, 1)),
        'left_p': np.float64(2 * frame.pupil_radius_mm),
        'right_p': np.float64(2 * frame.pupil_radius_mm),
    }
    origins = {'face': frame.face_origin_mm, 'left': frame.left_eye_mm, 'right': frame.right_eye_mm}
    # Both eye patches share one rotation in the release.
    eyes = normalisation_rotation((frame.left_eye_mm + frame.right_eye_mm) / 2, head)
    rotations = {'face': normalisation_rotation(frame.face_origin_mm, head), 'left': eyes, 'right': eyes}
    for patch, (size, focal, distance) in PATCHES.items():
        origin, rotation = origins[patch], rotations[patch]
        scaling = np.diag([1, 1, distance / np.linalg.norm(origin)])
        camera = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
        # The head's z axis points into the head, away from the camera: minus turns it into a gaze-like direction.
        labels |= {
            f'{patch}_PoG_tobii': frame.pog_px,
            f'{patch}_g_tobii': vector_to_pitchyaw(rotation @ (frame.target_cam_mm - origin)),
            f'{patch}_h': vector_to_pitchyaw(-(rotation @ head)[:, 2]),
            f'{patch}_o': origin,
            f'{patch}_R': rotation,
            f'{patch}_W': camera @ scaling @ rotation @ np.linalg.inv(np.asarray(rig.camera_matrix)),
        }
    return labels
