"""Changes of light and colour, and blur."""

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from evg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class Photometric(BaseTransform):
    """Random brightness, contrast and colour balance by one look-up table per channel.

    Args:
        brightness: largest change, as a share of the full range.
        contrast: largest relative change of the contrast about mid grey.
        color: largest relative change of each channel.
        prob: probability per sample.
    """

    def __init__(self, brightness: float = 0.15, contrast: float = 0.25, color: float = 0.1, prob: float = 0.8):
        self.brightness = brightness
        self.contrast = contrast
        self.color = color
        self.prob = prob

    def transform(self, results: dict) -> dict:
        """Replaces `img`."""
        rng = results['rng']
        if rng.random() >= self.prob:
            return results
        gain = (1 + rng.uniform(-self.contrast, self.contrast)) * (1 + rng.uniform(-self.color, self.color, size=3))
        shift = 255 * rng.uniform(-self.brightness, self.brightness)
        levels = np.arange(256)[:, None]
        table = np.clip((levels - 127.5) * gain + 127.5 + shift, 0, 255).round().astype(np.uint8)
        results['img'] = cv2.LUT(results['img'], table[None])
        return results


@TRANSFORMS.register_module()
class Blur(BaseTransform):
    """A Gaussian blur, then a box blur, each drawn on its own (abnormalstudent/GazeEstimation).

    Args:
        prob: probability of each.
        largest: largest kernel, px, odd; kernels are drawn from 3, 5, ... of equal probability. The Gaussian's sigma is
            0.15 k + 0.35 px for a kernel of k px, OpenCV's rule.
    """

    def __init__(self, prob: float = 0.5, largest: int = 7):
        if largest < 3 or largest % 2 == 0:
            raise ValueError(f'Blur.largest must be odd and at least 3 (px), not {largest}')
        self.prob = prob
        self.largest = largest

    def transform(self, results: dict) -> dict:
        """Replaces `img`."""
        rng = results['rng']
        # Always all four numbers, so that what follows does not depend on the probability.
        drawn = rng.random(2) < self.prob
        gaussian, box = 3 + 2 * rng.integers((self.largest - 1) // 2, size=2)
        if drawn[0]:
            results['img'] = cv2.GaussianBlur(results['img'], (int(gaussian), int(gaussian)), 0)
        if drawn[1]:
            results['img'] = cv2.blur(results['img'], (int(box), int(box)))
        return results
