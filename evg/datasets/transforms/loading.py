"""Reading a picture from disk."""

import numpy as np
from mmcv.transforms import BaseTransform

from evg.datasets.pictures import read_image
from evg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Reads `img_path`, a file or FILE.h5#DATASET/ROW, into `img` (H, W, 3) uint8 BGR.

    Raises:
        UserError: the file is missing, cut short or not a picture.
    """

    def transform(self, results: dict) -> dict:
        """Adds img, image_size (width, height) and stored_to_picture (2, 3), which a flip changes."""
        image = read_image(results['img_path'])
        results['img'] = image
        results['image_size'] = (image.shape[1], image.shape[0])
        results['stored_to_picture'] = np.eye(2, 3)
        return results
