"""The h5 file of one EVE recording: labels of all its frames, as columns of the index.

Convention of the files (EVE's DATASET.md and readers of the release): points of gaze in screen px, origin upper left;
`camera_transformation` takes screen mm to camera mm; `{face,left,right}_o` in camera mm; `_R` turns the camera frame
into the normalised one, `_g_tobii` is (pitch, yaw) in it, radians, positive up and towards the user's right.
"""

from collections import Counter

import h5py
import numpy as np
from numpy.typing import NDArray

from evg.datasets.converter import BadUnitError
from evg.datasets.reader_tools import finite_rows, scaled_camera_matrix, sign_faults
from evg.geometry import Rig, angle_between_deg, pitchyaw_to_vector, plane_point_by_pose, plane_point_by_ray

Array = NDArray[np.float64]
SCREEN_PX = (1920, 1080)
# EVG's rule: a frame counts only if all four are valid.
REQUIRED = ('face_PoG_tobii', 'facial_landmarks', 'face_o', 'face_R')
# What the release withholds for its test participants.
WITHHELD = ('face_PoG_tobii', 'face_g_tobii')
SHAPES = {
    'face_PoG_tobii': (2,),
    'facial_landmarks': (68, 2),
    'face_o': (3,),
    'face_R': (3, 3),
    'face_g_tobii': (2,),
    'left_o': (3,),
    'right_o': (3,),
    'head_rvec': (3,),
    'head_tvec': (3,),
}


class EveLabels:
    """The labels of one recording: arrays over all its frames, NaN where not valid or withheld.

    Args:
        file: the recording's h5 file.
        camera: 'webcam_c', ...

    Raises:
        BadUnitError: something is missing, has another shape or another length.
    """

    def __init__(self, file: h5py.File, camera: str):
        self.camera = camera
        self.labelled = 'face_PoG_tobii' in file
        self.count = count = len(_group(file, 'facial_landmarks', (68, 2))[1])
        self.camera_matrix = _constant(file, 'camera_matrix', (3, 3))
        self.screen_to_camera = _constant(file, 'camera_transformation', (4, 4))
        self.mm_per_px = _constant(file, 'millimeters_per_pixel', (2,))
        self.values: dict[str, Array] = {}
        self.valid: dict[str, NDArray[np.bool_]] = {}
        for name, shape in SHAPES.items():
            if name in WITHHELD and not self.labelled:
                self.values[name], self.valid[name] = np.full((count, *shape), np.nan), np.zeros(count, bool)
                continue
            data, valid = _group(file, name, shape)
            if len(data) != count or len(valid) != count:
                raise BadUnitError(f'{file.filename}: {name} has {len(data)} rows, facial_landmarks has {count}')
            known = valid & finite_rows(data)
            self.values[name] = np.where(known.reshape(-1, *[1] * len(shape)), data, np.nan)
            self.valid[name] = valid

    def rig(self, video_size: tuple[int, int], size: tuple[int, int]) -> Rig:
        """Camera and screen, for pictures scaled from `video_size` to `size` (width, height)."""
        scale = np.divide(size, video_size)
        matrix = scaled_camera_matrix(self.camera_matrix, scale)
        screen_mm = self.mm_per_px * SCREEN_PX
        # EVG: the camera stands at the middle of the screen's upper edge. The other cameras do not.
        center = (0, screen_mm[1] / 2) if self.camera == 'webcam_c' else None
        return Rig(size, SCREEN_PX, tuple(screen_mm), center, matrix, self.screen_to_camera)

    def columns(self, rig: Rig, scale: NDArray[np.float64]) -> dict[str, Array]:
        """Columns of the index over all frames, NaN where not known; `scale` is stored px per video px."""
        v, count = self.values, self.count
        target = rig.screen_px_to_camera(v['face_PoG_tobii'])
        gaze = target - v['face_o']
        landmarks = _scaled(v['facial_landmarks'], scale)
        columns = {
            'pog_screen_px': v['face_PoG_tobii'],
            'pog_plane_pose_mm': plane_point_by_ray(v['face_o'], target),
            'target_cam_mm': target,
            'face_origin_mm': v['face_o'],
            'left_eye_mm': v['left_o'],
            'right_eye_mm': v['right_o'],
            'gaze': gaze / np.linalg.norm(gaze, axis=1, keepdims=True),
            'head_rvec': v['head_rvec'],
            'head_tvec_mm': v['head_tvec'],
            'norm_rotation': v['face_R'].reshape(count, 9),
            'face_box_px': _face_box(landmarks, rig.image_size),
            'eye_landmarks_px': landmarks[:, 36:48].reshape(count, 24),
        }
        if rig.screen_center_plane_mm is not None:
            columns['pog_plane_offset_mm'] = rig.offset_screen_px_to_plane(v['face_PoG_tobii'])
        return columns

    def usable(self, sampled: NDArray[np.bool_], box: Array, dropped: Counter) -> NDArray[np.bool_]:
        """Which of the sampled frames can be trained on and tested; the others are counted by their first fault."""
        keep = sampled.copy()
        finite = [finite_rows(self.values[name]) for name in REQUIRED]
        tests = {f'frames without a valid {name}': self.valid[name] for name in REQUIRED}
        tests['frames marked valid whose labels are not finite'] = np.logical_and.reduce(finite)
        tests['frames whose face is outside the picture'] = finite_rows(box)
        for reason, good in tests.items():
            if (keep & ~good).any():
                dropped[reason] += int((keep & ~good).sum())
            keep &= good
        return keep

    def angles_deg(self, gaze: Array) -> Array:
        """(N,) angle between face_g_tobii and `gaze` (N, 3, camera frame), NaN where either is missing."""
        normalised = np.einsum('nij,nj->ni', self.values['face_R'], gaze)
        return angle_between_deg(pitchyaw_to_vector(self.values['face_g_tobii']), normalised)

    def sign_faults(self, rig: Rig, columns: dict[str, Array]) -> Array:
        """The sign self-test (N,), see `evg.datasets.reader_tools.sign_faults`."""
        # Of the other cameras only the calibration says where they stand.
        calibrated = plane_point_by_pose(rig.screen_px_to_camera(np.divide(SCREEN_PX, 2)))
        center = calibrated if rig.screen_center_plane_mm is None else rig.screen_center_plane_mm
        target, origin = columns['target_cam_mm'], columns['face_origin_mm']
        return sign_faults(columns['pog_screen_px'], rig, center, target, origin)


def _constant(file: h5py.File, name: str, shape: tuple[int, ...]) -> Array:
    if name not in file or np.shape(file[name]) != shape or not np.isfinite(file[name][()]).all():
        raise BadUnitError(f'{file.filename}: {name} is missing or not a finite {shape} array')
    return np.asarray(file[name][()], np.float64)


def _group(file: h5py.File, name: str, shape: tuple[int, ...]) -> tuple[Array, NDArray[np.bool_]]:
    """`name`/data as (N, *shape) and `name`/validity as (N,)."""
    try:
        data = np.asarray(file[name]['data'][()], np.float64)
        # Stored as bool or as integers, nobody says which.
        valid = np.asarray(file[name]['validity'][()]).reshape(-1).astype(bool)
        return data.reshape(-1, *shape), valid
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise BadUnitError(f'{file.filename}: {name}/data and {name}/validity do not fit (N, {shape})') from error


def _scaled(px: Array, scale: NDArray[np.float64]) -> Array:
    """Px of a resized picture: outer edges map onto outer edges, pixel centres are whole numbers."""
    return (px + 0.5) * scale - 0.5


def _face_box(landmarks: Array, size: tuple[int, int]) -> Array:
    """(N, 4) x1 y1 x2 y2: the landmarks' extent, 1.2 times as large, clipped to the picture; NaN outside of it."""
    low, high = landmarks.min(axis=1), landmarks.max(axis=1)
    middle, half = (low + high) / 2, 0.6 * (high - low)
    limit = np.subtract(size, 1)
    corners = np.clip(middle - half, 0, limit), np.clip(middle + half, 0, limit)
    inside = (corners[1] - corners[0] >= 1).all(axis=1, keepdims=True)
    return np.where(inside, np.concatenate(corners, axis=1), np.nan)
