"""Labels to what the network is trained on."""

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform

from evg.codecs.main import main_first
from evg.errors import UserError
from evg.geometry import VirtualPlane, apply_affine
from evg.registry import CODECS, TRANSFORMS

# Rows of the 16 pupil points, and the eyes' corners among the 12 eye points; the right eye comes first.
_PUPILS = {'face': np.arange(16), 'right_eye': np.arange(8), 'left_eye': np.arange(8, 16)}
_CORNERS = {'face': [(0, 3), (6, 9)], 'right_eye': [(0, 3)], 'left_eye': [(6, 9)]}
_MIRRORED = {'face': 'face', 'right_eye': 'left_eye', 'left_eye': 'right_eye'}


@TRANSFORMS.register_module()
class PupilLandmarks(BaseTransform):
    """The points on the pupils' rims, for landmark models; stands after Affine, and changes nothing without labels.

    Convention: 8 points of one eye, or 16 of both, the right eye's first, in the order of the index. A mirrored left
    eye is a right one, and its points are in the order of a right one.

    Args:
        part: what the stored picture shows, 'face' (both pupils), 'left_eye' or 'right_eye' (the person's).
    """

    def __init__(self, part: str = 'face'):
        if part not in _PUPILS:
            raise UserError(f'PupilLandmarks.part must be one of {", ".join(_PUPILS)}, not {part!r}')
        self.part = part

    def transform(self, results: dict) -> dict:
        """Sets gt_landmarks_px (K, 2), picture px, gt_landmarks_input_px (K, 2), and gt_eye_width_px, if known."""
        if results['gt_pupil_landmarks_px'] is None:
            return results
        part = _MIRRORED[self.part] if results.get('flipped') else self.part
        points_px = results['gt_pupil_landmarks_px'].reshape(16, 2)[_PUPILS[part]]
        results['gt_landmarks_px'] = points_px
        results['gt_landmarks_input_px'] = apply_affine(results['affine'], points_px)
        if results['gt_eye_landmarks_px'] is not None:
            eyes_px = results['gt_eye_landmarks_px'].reshape(12, 2)
            widths_px = [np.linalg.norm(eyes_px[a] - eyes_px[b]) for a, b in _CORNERS[part]]
            results['gt_eye_width_px'] = float(np.mean(widths_px))
        return results


@TRANSFORMS.register_module()
class VPProjection(BaseTransform):
    """The point of gaze from plane mm to virtual-plane px, clamped to the plane.

    Args:
        codec: the codec whose `virtual_plane` is meant.
    """

    def __init__(self, codec):
        self.virtual_plane: VirtualPlane = CODECS.build(codec).virtual_plane

    def transform(self, results: dict) -> dict:
        """Sets gt_vp_px (2,)."""
        if results['gt_plane_mm'] is None:
            raise UserError(
                f'VPProjection needs a point on the plane, which {results["sample_id"]} does not have: set labels='
                "'plane' and a plane_rule that the data set has, or take VPProjection out of the pipeline"
            )
        results['gt_vp_px'] = self.virtual_plane.clamp(self.virtual_plane.from_mm(results['gt_plane_mm']))
        return results


@TRANSFORMS.register_module()
class GaussianTarget(BaseTransform):
    """Encodes labels by codecs; each names the label that it takes.

    Args:
        codecs: by name, objects or configs.
    """

    def __init__(self, codecs: dict):
        self.codecs: Sequence = [CODECS.build(codec) for codec in main_first(codecs).values()]

    def transform(self, results: dict) -> dict:
        """Sets `targets`, a dict of arrays."""
        targets = {}
        for codec in self.codecs:
            value = results.get(codec.label)
            if value is None:
                raise UserError(
                    f'{type(codec).__name__} needs {codec.label}, which {results["sample_id"]} does not have'
                )
            frame = getattr(codec, 'gaze_frame', None)
            if frame is not None and results.get('gaze_frame', frame) != frame:
                raise UserError(
                    f'{results["sample_id"]} is labelled in the frame {results["gaze_frame"]!r}, the model answers in '
                    f'{frame!r}: set gaze_frame in the config, or take data of that frame'
                )
            targets.update(codec.encode(value))
        results['targets'] = targets
        return results
