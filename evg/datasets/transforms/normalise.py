"""Normalised patches on the fly, from whole frames."""

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from evg.errors import UserError
from evg.geometry import Normalisation, Normaliser, head_pitchyaw
from evg.geometry.warp import warp_patch
from evg.registry import TRANSFORMS

_ORIGIN = {'face': 'gt_origin_mm', 'left_eye': 'gt_left_eye_mm', 'right_eye': 'gt_right_eye_mm'}


@TRANSFORMS.register_module()
class NormaliseFace(BaseTransform):
    """Replaces the frame by the normalised patch of the face or of one eye, and its gaze label by that of the patch.

    It stands after LoadImage and before RandomFlip. Needs the rig's camera matrix, the head's rotation and the patch's
    reference point; the distortion of the lens is ignored. An `Affine` of the patch's own size with pad=0 after it
    keeps the patch as it is.

    Convention: gaze and head pose change from the camera frame to the normaliser's; points on the plane and in mm stay
    in the frame of the real camera, and `norm_rotation`, `norm_scale` lead back to it. The gaze starts at the patch's
    reference point. Landmarks move with the picture; the face box, which no patch needs, becomes None.

    Args:
        normaliser: `evg.geometry.Normaliser`, an object or its arguments.
        part: 'face', 'left_eye' or 'right_eye' (the person's): where the virtual camera looks.
    """

    def __init__(self, normaliser: Normaliser | dict, part: str = 'face'):
        if part not in _ORIGIN:
            raise UserError(f'NormaliseFace.part must be one of {", ".join(_ORIGIN)}, not {part!r}')
        self.normaliser = normaliser if isinstance(normaliser, Normaliser) else Normaliser(**normaliser)
        self.part = part

    def transform(self, results: dict) -> dict:
        """Replaces img, image_size, gt_gaze, gaze_frame, gt_head_pitchyaw_rad, norm_rotation, norm_scale, landmarks."""
        rvec, center = results['gt_head_rvec'], results[_ORIGIN[self.part]]
        matrix: Any = None if results['rig'] is None else results['rig'].camera_matrix
        for name, value in (('camera matrix', matrix), ('head_rvec', rvec), (f'{self.part} origin', center)):
            if value is None:
                raise UserError(f'NormaliseFace needs a {name}, which {results["sample_id"]} does not have')
        if results.get('reduced_by', 1) > 1:
            raise UserError('NormaliseFace needs the whole picture: take input_frame out of LoadImage')
        if results.get('flipped'):
            raise UserError('NormaliseFace must stand before RandomFlip: a mirrored frame has no camera matrix')
        head = cv2.Rodrigues(np.asarray(rvec, np.float64))[0]
        norm = self.normaliser.apply(center, head, matrix)
        results['img'] = warp_patch(results['img'], norm.warp, self.normaliser.size_px)
        results['image_size'] = self.normaliser.size_px
        results['stored_to_picture'] = np.eye(2, 3)
        results['gt_gaze'] = self._gaze(results, center, norm)
        results['gaze_frame'] = self.normaliser.gaze_frame
        results['gt_head_pitchyaw_rad'] = head_pitchyaw(norm.head_to(head))
        results['norm_rotation'], results['norm_scale'] = norm.rotation, float(norm.scale[2, 2])
        for name in ('gt_eye_landmarks_px', 'gt_pupil_landmarks_px'):
            if results[name] is not None:
                results[name] = norm.points_to(results[name].reshape(-1, 2)).reshape(-1)
        results['gt_face_box_px'] = None
        return results

    @staticmethod
    def _gaze(results: dict, center: np.ndarray, norm: Normalisation) -> np.ndarray | None:
        if results['gt_target_mm'] is not None:
            return norm.gaze_to(results['gt_target_mm'] - center)
        if results['gt_gaze'] is None:
            return None
        if results['gaze_frame'] != 'camera':
            raise UserError(
                f'{results["sample_id"]} has a gaze vector in the frame {results["gaze_frame"]!r}: it is normalised '
                'already, take NormaliseFace out of the pipeline'
            )
        return norm.gaze_to(results['gt_gaze'])
