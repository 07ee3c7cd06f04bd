"""The two records that travel: a sample through training and testing, a result out of a predictor."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evg.geometry import Rig

Array = NDArray[np.float64]


@dataclass
class GazeDataSample:
    """One picture's facts, labels and predictions; every array is numpy and names its unit.

    Convention:
        `*_plane_mm` are plane frame (u to the user's right, v down, mm from the camera), `*_vp_px` virtual-plane px,
        `*_mm` with three values are camera frame (OpenCV axes), `*_gaze` are unit vectors (eye to target) of the frame
        that `gaze_frame` names, `*_px` boxes and points are px of the stored picture.
        After a flip (`flipped`) all of them describe the mirrored picture, and the pose in `rig` no longer applies.
        A label that a data set does not have is None.

    Attributes:
        sample_id: unique name within the data set.
        img_path: path of the picture.
        subject: person.
        sequence: recording, or ''.
        device: name of the device, or ''.
        rig: camera and screen.
        plane_rule: how the label was put on the plane: 'offset', or by the pose 'ray' or 'projection'.
        flipped: whether the picture was mirrored.
        affine: (2, 3) picture px to input px; None where the picture is the input.
        gt_plane_mm: (2,) point of gaze on the plane.
        gt_vp_px: (2,) the same on the virtual plane, clamped to it.
        gt_screen_px: (2,) on the screen.
        gt_target_mm: (3,) point of gaze in the camera frame.
        gt_origin_mm: (3,) face origin.
        gt_face_box_px: (4,) x1 y1 x2 y2.
        gaze_frame: frame of gaze vectors and head angles, one of `evg.datasets.index.GAZE_FRAMES`, or ''.
        gt_gaze: (3,) direction of the gaze, unit vector in `gaze_frame`.
        gt_head_pitchyaw_rad: (2,) direction of the face, (pitch, yaw) in `gaze_frame`.
        gt_landmarks_px: (K, 2) landmarks in px of the stored picture, as `pred_landmarks_px`.
        gt_eye_width_px: distance of the corners of the landmarks' eye (mean, if of both), px of the stored picture.
        norm_rotation: (3, 3) R of Zhang et al. 2018, camera frame to normalised frame.
        norm_scale: S = diag(1, 1, norm_scale) of the normalisation; 'normalised_sr' is S R n, renormalised.
        pred_plane_mm: (2,) predicted point of gaze on the plane.
        pred_vp_px: (2,) the same in VP px.
        pred_gaze: (3,) predicted direction of the gaze, unit vector in `gaze_frame`.
        pred_pitchyaw_rad: (2,) the same as (pitch, yaw).
        pred_landmarks_px: (K, 2) predicted landmarks in px of the stored picture.
        pred_score: confidence in 0..1.
        pred_face_center_px: (2,) in px of the stored picture.
    """

    sample_id: str
    img_path: str
    subject: str
    sequence: str = ''
    device: str = ''
    rig: Rig | None = None
    plane_rule: str = 'offset'
    flipped: bool = False
    affine: Array | None = None
    gt_plane_mm: Array | None = None
    gt_vp_px: Array | None = None
    gt_screen_px: Array | None = None
    gt_target_mm: Array | None = None
    gt_origin_mm: Array | None = None
    gt_face_box_px: Array | None = None
    gaze_frame: str = ''
    gt_gaze: Array | None = None
    gt_head_pitchyaw_rad: Array | None = None
    gt_landmarks_px: Array | None = None
    gt_eye_width_px: float | None = None
    norm_rotation: Array | None = None
    norm_scale: float | None = None
    pred_plane_mm: Array | None = None
    pred_vp_px: Array | None = None
    pred_gaze: Array | None = None
    pred_pitchyaw_rad: Array | None = None
    pred_landmarks_px: Array | None = None
    pred_score: float | None = None
    pred_face_center_px: Array | None = None
