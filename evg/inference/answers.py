"""What a predictor makes of the answers of front end and network: results, step by step."""

import contextlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evg.deploy.model_file import Patch
from evg.deploy.runtime import GazeModel
from evg.geometry import Normalisation, intersect_plane, pitchyaw_to_vector, plane_point_by_pose
from evg.inference.camera import Camera
from evg.inference.face import MEDIAPIPE, FaceObservation
from evg.inference.head_pose import HeadPose
from evg.inference.landmark_model import landmark_gaze, lid_opening
from evg.inference.result import GazeResult
from evg.inference.screen import Screen

Array = NDArray[np.float64]
Image = NDArray[np.uint8]


@dataclass
class Face:
    """One face on its way through a predictor."""

    seen: FaceObservation
    pose: HeadPose | None
    norm: Normalisation | None = None
    start_mm: Array | None = None
    answer: dict[str, Any] | None = None

    def result(self, camera: Camera) -> GazeResult:
        """What the front end knows."""
        landmarks, box = self.seen.landmarks_px, np.asarray(self.seen.box_px, np.float64)
        known = GazeResult(True, score=self.seen.score, face_box_px=box, landmarks_px=landmarks)
        known.face_center_px = (box[:2] + box[2:]) / 2
        if self.seen.scheme == MEDIAPIPE:
            known.eyes_open = lid_opening(landmarks)
        if self.pose is None:
            return replace(known, found=False, reason='no head pose')
        known.head_rotation, known.origin_mm = self.pose.rotation, self.pose.face_center_mm
        known.face_center_px = camera.project(self.pose.face_center_mm)
        return known

    def normalise(self, patch: Patch, camera: Camera) -> Normalisation | None:
        """The normalisation of the patch; None where the head's pose is unknown, or is that of a profile."""
        if self.pose is None:
            return None
        pose = self.pose
        starts = {'face': pose.face_center_mm, 'left_eye': pose.left_eye_mm, 'right_eye': pose.right_eye_mm}
        self.start_mm = starts[patch.part]
        with contextlib.suppress(ValueError):  # a head whose x axis points at the camera has no upright patch
            self.norm = patch.normaliser.apply(self.start_mm, pose.rotation, camera.matrix)
        return self.norm


@dataclass
class Frame:
    """One frame on its way through a predictor."""

    image: Image
    camera: Camera
    faces: list[Face] = field(default_factory=list)
    answer: dict[str, Any] | None = None
    times_ms: dict[str, float] = field(default_factory=dict)


def by_landmarks(face: Face, frame: Frame, screen: Screen) -> GazeResult:
    result = face.result(frame.camera)
    if face.pose is None:
        return result
    seen = landmark_gaze(face.seen.landmarks_px, face.pose, frame.camera, frame.image)
    if seen is None:
        return replace(result, found=False, reason='no landmarks')
    result.origin_mm, result.features, result.landmarks_px = seen.origin_mm, seen.features, seen.landmarks_px
    result.score *= seen.score
    return _with_ray(result, seen.gaze, screen)


def by_patch(face: Face, network: GazeModel, camera: Camera, screen: Screen) -> GazeResult:
    result = face.result(camera)
    if face.answer is None or face.norm is None:
        return replace(result, found=False, reason='no head pose')
    result.origin_mm = face.start_mm
    result.score *= float(face.answer.get('pred_score', 1.0))
    if 'pred_plane_mm' in face.answer:
        return _with_plane(result, face.answer['pred_plane_mm'], network.file.plane_rule, screen)
    normalised = _gaze_of(face.answer)
    if not np.isfinite(normalised).all():
        return replace(result, found=False, reason='no finite answer')
    result.gaze_normalised, result.gaze_frame = normalised, network.file.patch.normaliser.gaze_frame  # type: ignore[union-attr]
    return _with_ray(result, face.norm.gaze_from(normalised), screen)


def by_frame(frame: Frame, network: GazeModel, screen: Screen) -> GazeResult:
    result = frame.faces[0].result(frame.camera) if frame.faces else GazeResult(True, score=1.0)
    result.found, result.reason = True, ''  # a network of frames needs no head pose
    answer = frame.answer or {}
    result.score = float(answer.get('pred_score', result.score))
    if 'pred_face_center_px' in answer:
        result.face_center_px = answer['pred_face_center_px']
    if 'pred_plane_mm' in answer:
        return _with_plane(result, answer['pred_plane_mm'], network.file.plane_rule, screen)
    if not np.isfinite(_gaze_of(answer)).all():
        return replace(result, found=False, reason='no finite answer')
    return _with_ray(result, _gaze_of(answer), screen)


def _gaze_of(answer: dict[str, Any]) -> Array:
    """(3,) unit vector of a network's answer."""
    if 'pred_gaze' in answer:
        return np.asarray(answer['pred_gaze'], np.float64)
    return pitchyaw_to_vector(answer['pred_pitchyaw_rad'])


def _with_ray(result: GazeResult, gaze: Array, screen: Screen) -> GazeResult:
    """The gaze vector, and where it leads to from the origin."""
    result.gaze = gaze
    if result.origin_mm is not None:
        result.plane_mm = _finite(plane_point_by_pose(intersect_plane(result.origin_mm, gaze)))
        result.screen_px = _finite(screen.ray_to_px(result.origin_mm, gaze))
    result.on_screen = result.screen_px is not None and bool(screen.contains(result.screen_px))
    return result


def _with_plane(result: GazeResult, plane_mm: Array, rule: str | None, screen: Screen) -> GazeResult:
    """A point of the plane, the screen's point by the rule, and the gaze vector from the origin to that one."""
    if not np.isfinite(plane_mm).all():
        return replace(result, found=False, reason='no finite answer')
    result.plane_mm = np.asarray(plane_mm, np.float64)
    if rule == 'projection' or (rule == 'ray' and result.origin_mm is None):
        pixel = screen.plane_mm_to_px(result.plane_mm)
    elif rule == 'ray':
        pixel = screen.plane_mm_to_px(result.plane_mm, result.origin_mm)
    else:
        pixel = screen.offset_plane_mm_to_px(result.plane_mm)
    result.screen_px = _finite(pixel)
    result.on_screen = result.screen_px is not None and bool(screen.contains(result.screen_px))
    if result.screen_px is not None and result.origin_mm is not None:
        towards = screen.px_to_camera(result.screen_px) - result.origin_mm
        result.gaze = _finite(towards / np.linalg.norm(towards))
    return result


def _finite(point: Array) -> Array | None:
    return point if np.isfinite(point).all() else None
