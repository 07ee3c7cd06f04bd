"""Changes of light and colour."""

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
