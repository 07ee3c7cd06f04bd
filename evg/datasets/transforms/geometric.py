"""Face crop, flip and affine: they edit labels and one matrix; `Warp` moves the pixels, once."""

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from evg.errors import UserError
from evg.geometry import InputFrame, apply_affine, compose_affine, flip_matrix
from evg.geometry.warp import warp_to_input
from evg.registry import TRANSFORMS

# Labels that are points of the stored picture, and how their points pair up left and right after a mirror.
_EYE_MIRROR = np.array([9, 8, 7, 6, 11, 10, 3, 2, 1, 0, 5, 4])
# Points on a rim go round from the image's right; mirrored, point k takes the place of point 4 - k.
_RIM = (4 - np.arange(8)) % 8
_PUPIL_MIRROR = np.concatenate([8 + _RIM, _RIM])
# Labels that change signs only; a rotation R becomes M R M with M = diag(-1, 1, 1).
_MIRRORED = {
    'gt_plane_mm': (-1, 1),
    'gt_target_mm': (-1, 1, 1),
    'gt_origin_mm': (-1, 1, 1),
    'gt_left_eye_mm': (-1, 1, 1),
    'gt_right_eye_mm': (-1, 1, 1),
    'gt_gaze': (-1, 1, 1),
    'gt_head_pitchyaw_rad': (1, -1),
    'gt_head_rvec': (1, -1, -1),
    'norm_rotation': np.array([[1, -1, -1], [-1, 1, 1], [-1, 1, 1]]),
}


@TRANSFORMS.register_module()
class FaceCrop(BaseTransform):
    """Keeps the face and paints everything else in the picture's mean colour; the picture keeps its size (EVG).

    Args:
        prob: probability per sample (EVG's `face_crop_ratio`).
        scale: factor on the face box about its centre.
    """

    def __init__(self, prob: float, scale: float = 1.5):
        self.prob = prob
        self.scale = scale

    def transform(self, results: dict) -> dict:
        """Sets keep_box_px (x1 y1 x2 y2, stored picture), which `Warp` paints around."""
        # Drawn always, so that what follows does not depend on the probability.
        drawn = results['rng'].random() < self.prob
        if not drawn:
            return results
        box = results['gt_face_box_px']
        if box is None:
            raise UserError(
                f'FaceCrop needs a face box, which {results["sample_id"]} does not have: set face_crop_ratio=0'
            )
        center, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * self.scale
        results['keep_box_px'] = np.concatenate([center - half, center + half])
        return results


@TRANSFORMS.register_module()
class RandomFlip(BaseTransform):
    """Mirrors a sample about the vertical axis, all of it: picture, point of gaze, 3-D points, face box, landmarks.

    Convention: u and camera x change sign, image x becomes width - 1 - x, left and right landmarks change places. The
    camera's offset is part of u, so it is mirrored with it.

    Args:
        prob: probability per sample.
    """

    def __init__(self, prob: float = 0.5):
        self.prob = prob

    def transform(self, results: dict) -> dict:
        """Flips or not; sets `flipped`."""
        results['flipped'] = bool(results['rng'].random() < self.prob)
        return mirror(results) if results['flipped'] else results


def mirror(results: dict) -> dict:
    """The mirrored sample; see `RandomFlip`."""
    width = results['image_size'][0]
    results['stored_to_picture'] = compose_affine(flip_matrix(width), results['stored_to_picture'])
    for name, sign in _MIRRORED.items():
        if results.get(name) is not None:
            results[name] = results[name] * sign
    left, right = results.get('gt_left_eye_mm'), results.get('gt_right_eye_mm')
    results['gt_left_eye_mm'], results['gt_right_eye_mm'] = right, left
    if results['gt_screen_px'] is not None:
        # The mirrored person looks at the mirrored screen.
        results['gt_screen_px'] = (results['rig'].screen_size_px[0], 0) + results['gt_screen_px'] * (-1, 1)
    if results['gt_face_box_px'] is not None:
        x1, y1, x2, y2 = results['gt_face_box_px']
        results['gt_face_box_px'] = np.array([width - 1 - x2, y1, width - 1 - x1, y2])
    for name, order in (('gt_eye_landmarks_px', _EYE_MIRROR), ('gt_pupil_landmarks_px', _PUPIL_MIRROR)):
        if results[name] is not None:
            points = results[name].reshape(-1, 2)[order]
            results[name] = ((width - 1, 0) + points * (-1, 1)).reshape(-1)
    if 'keep_box_px' in results:
        x1, y1, x2, y2 = results['keep_box_px']
        results['keep_box_px'] = np.array([width - 1 - x2, y1, width - 1 - x1, y2])
    return results


@TRANSFORMS.register_module()
class Affine(BaseTransform):
    """Scales and pads the picture into the network's input, see `InputFrame`.

    Args:
        input_frame: the frame, an object or its arguments.
    """

    def __init__(self, input_frame: InputFrame | dict):
        self.input_frame = input_frame if isinstance(input_frame, InputFrame) else InputFrame(**input_frame)

    def transform(self, results: dict) -> dict:
        """Sets `input_size` and `affine`, (mirrored) picture px to input px."""
        matrix = self.input_frame.matrix(results['image_size'])
        results['affine'] = matrix
        results['input_size'] = self.input_frame.input_size
        box = results['gt_face_box_px']
        if box is not None:
            results['gt_face_center_input_px'] = apply_affine(matrix, (box[:2] + box[2:]) / 2)
        return results


@TRANSFORMS.register_module()
class Warp(BaseTransform):
    """Moves the pixels, once, by everything that the transforms before it decided; outside the picture is black.

    Args:
        antialias: a picture that shrinks by two or more is averaged first, see `evg.geometry.warp.warp_to_input`; False
            is the original's plain bilinear sampling, of pictures that LoadImage did not reduce.
    """

    def __init__(self, antialias: bool = True):
        self.antialias = antialias

    def transform(self, results: dict) -> dict:
        """Replaces `img` by the network's input (H, W, 3) uint8."""
        image, size = results['img'], results['input_size']
        if not self.antialias and results.get('reduced_by', 1) > 1:
            raise UserError('Warp(antialias=False) samples stored pixels: take input_frame out of LoadImage')
        matrix = compose_affine(results['affine'], results['stored_to_picture'])
        mean_color = cv2.mean(image)[:3] if 'keep_box_px' in results else None
        results['img'] = warp_to_input(image, matrix, size, self.antialias)
        if mean_color is not None:
            self._paint_around(results, mean_color)
        return results

    @staticmethod
    def _paint_around(results: dict, color: tuple[float, float, float]) -> None:
        matrix, (width, height) = results['affine'], results['image_size']
        corners = apply_affine(matrix, results['keep_box_px'].reshape(2, 2))
        x1, y1, x2, y2 = np.rint(np.concatenate([corners[0], corners[1] + 1])).astype(int)
        frame = np.rint(apply_affine(matrix, [[-0.5, -0.5], [width - 0.5, height - 0.5]]) + 0.5).astype(int)
        (left, top), (right, bottom) = np.maximum(frame, 0)
        picture = results['img']
        inside = np.s_[max(y1, top) : min(max(y2, top), bottom), max(x1, left) : min(max(x2, left), right)]
        kept = picture[inside].copy()
        cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), np.rint(color).tolist(), cv2.FILLED)
        picture[inside] = kept
