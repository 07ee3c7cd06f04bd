"""What several readers need: pictures that may be damaged, names of rigs, the sign self-test."""

import json
import math
from collections import Counter
from hashlib import sha1
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from evg.datasets.converter import BadUnitError, UnitResult
from evg.datasets.index import rig_to_json
from evg.datasets.pictures import Picture, read_image
from evg.errors import UserError
from evg.geometry import Rig, vector_to_pitchyaw

Array = NDArray[np.float64]
SIGN_CHECK = 'sign self-test, 1 = target or gaze on the wrong side of the camera'
MISSING_PICTURE = 'frames whose picture is missing'
DAMAGED_PICTURE = 'frames whose picture is damaged'
# A target nearer to the camera than this part of the screen's side tells nothing: camera and screen are not aligned.
_SIGN_MARGIN = 0.15


def resolved(text: str) -> str:
    """A path of the command line, absolute: what is stored in --out does not depend on the working folder."""
    return str(Path(text).resolve())


def check_size(size: ArrayLike, quality: int) -> None:
    """Refuse a size (width, height) or JPEG quality that no picture can have."""
    if np.min(size) < 16 or not 1 <= quality <= 100:
        raise UserError('--size must be at least 16 16, --quality 1 to 100')


def readable_picture(path: Path, dropped: Counter[str]) -> Picture | None:
    """A picture (H, W, 3) BGR; None where it is missing or damaged, which is counted in `dropped`."""
    try:
        return read_image(str(path))
    except UserError:
        dropped[DAMAGED_PICTURE if path.is_file() else MISSING_PICTURE] += 1
        return None


def resized(image: Picture, size: tuple[int, int]) -> Picture:
    """A picture (H, W, 3) at another size (width, height); outer edges map onto outer edges."""
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def read_json(path: Path) -> Any:
    """A JSON file of a recording.

    Raises:
        BadUnitError: it is missing, cut short or not JSON.
    """
    if not path.is_file():
        raise BadUnitError(f'{path} is missing')
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise BadUnitError(f'{path} cannot be read ({error})') from error


def finite(value: Any) -> float:
    """A JSON value as a float; NaN for null, text, lists and booleans, which are no numbers."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return math.nan


def finite_rows(values: Array) -> NDArray[np.bool_]:
    """(N,) whether all numbers of a row of (N, ...) are finite."""
    return np.asarray(np.isfinite(values).reshape(len(values), -1).all(axis=1))


def rig_key(prefix: str, rig: Rig) -> str:
    """Name of a rig that depends on its values: equal rigs share it, in every run."""
    return f'{prefix}-{sha1(json.dumps(rig_to_json(rig), sort_keys=True).encode()).hexdigest()[:8]}'


def scaled_camera_matrix(camera_matrix: Array, scale: ArrayLike) -> Array:
    """Intrinsics of a resized picture.

    Convention: px with centres at whole numbers, so that c becomes (c + 0.5) s - 0.5.

    Args:
        camera_matrix: (3, 3), px of the original picture.
        scale: (2,) resized px per original px, in x and y.
    """
    factor = np.asarray(scale, np.float64)
    matrix = np.array(camera_matrix, np.float64)
    matrix[:2] *= factor[:, None]
    matrix[:2, 2] += 0.5 * factor - 0.5
    return matrix


def screen_in_camera_plane(screen_size_mm: ArrayLike, center_plane_mm: ArrayLike) -> Array:
    """`screen_to_camera` (4, 4) of a screen that lies in the camera's plane and faces the user, as a phone's does.

    Convention: mm; screen x to the user's right, y down; plane (u, v) = (-x_cam, y_cam).
    """
    corner = np.asarray(center_plane_mm, np.float64) - np.divide(screen_size_mm, 2)
    transform = np.diag([-1.0, 1.0, -1.0, 1.0])
    transform[:2, 3] = (-corner[0], corner[1])
    return transform


def sign_faults(
    screen_px: ArrayLike,
    rig: Rig,
    center_plane_mm: ArrayLike,
    target_cam_mm: ArrayLike,
    face_origin_mm: ArrayLike | None = None,
) -> Array:
    """The sign self-test: a target on the user's right has x_cam < 0 and yaw > 0, one below the camera y_cam > 0.

    Where the screen says that a target is clearly right, left, above or below of the camera, the target in the camera
    frame must be there too, and so must the gaze, compared with a look straight into the camera.

    Convention: screen px (x to the user's right, y down); camera frame (OpenCV), mm; plane (u, v) = (-x_cam, y_cam).

    Args:
        screen_px: (N, 2) point of gaze.
        rig: for the screen's sizes.
        center_plane_mm: (u, v) where the screen's centre is, about.
        target_cam_mm: (N, 3) the same points in the camera frame.
        face_origin_mm: (N, 3) where the gaze starts, if known.

    Returns:
        (N,) 1 for a fault, 0 for none; NaN where the target is too near to the camera to tell.
    """
    center = np.asarray(center_plane_mm, np.float64)
    expected = rig.px_to_screen_mm(screen_px) - np.divide(rig.screen_size_mm, 2) + center
    target = np.asarray(target_cam_mm, np.float64)
    found = [np.stack([-target[:, 0], target[:, 1]], axis=1)]
    if face_origin_mm is not None:
        origin = np.asarray(face_origin_mm, np.float64)
        turn = vector_to_pitchyaw(target - origin) - vector_to_pitchyaw(-origin)
        found.append(turn[:, ::-1] * (1, -1))
    clear = np.abs(expected) > _SIGN_MARGIN * np.asarray(rig.screen_size_mm)
    wrong = np.logical_or.reduce([side * expected <= 0 for side in found])
    return np.where(clear.any(axis=1), (wrong & clear).any(axis=1), np.nan)


def add_check(checks: dict[str, list[float]], name: str, values: ArrayLike) -> None:
    """Append the finite ones of a self-test's numbers."""
    known = np.asarray(values, np.float64).reshape(-1)
    known = known[np.isfinite(known)]
    if len(known):
        checks.setdefault(name, []).extend(round(float(v), 6) for v in known)


def refuse_wrong_signs(name: str, result: UnitResult) -> None:
    """Refuse a unit in which most rows fail the sign self-test.

    Raises:
        BadUnitError: so it is.
    """
    faults = result.checks.get(SIGN_CHECK)
    if faults and np.mean(faults) > 0.5:
        raise BadUnitError(
            f'{name}: {np.mean(faults):.0%} of the targets are on the wrong side of the camera: the frames or signs '
            'are not those of docs/datasets.md'
        )
