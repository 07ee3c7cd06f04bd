"""Reading a picture from disk."""

from functools import lru_cache

import numpy as np
from mmcv.transforms import BaseTransform

from evg.datasets.pictures import Size, read_reduced
from evg.geometry import InputFrame
from evg.geometry.warp import whole_shrink
from evg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Reads `img_path`, a file or FILE.h5#DATASET/ROW, into `img` (H, W, 3) uint8 BGR.

    Labels and `image_size` are those of the stored picture, however it is decoded.

    Args:
        input_frame: the frame that the picture is for, an object or its arguments: a JPEG that becomes smaller by 2, 4
            or 8 on its way there is decoded at that part of its size, in a fraction of the time. None decodes all of
            it, for what needs every pixel: `NormaliseFace`, `Warp(antialias=False)`.

    Raises:
        UserError: the file is missing, cut short or not a picture.
    """

    def __init__(self, input_frame: InputFrame | dict | None = None):
        self.input_frame = InputFrame(**input_frame) if isinstance(input_frame, dict) else input_frame

    def transform(self, results: dict) -> dict:
        """Adds img, image_size (w, h), reduced_by, and stored_to_picture (2, 3), px of img to px of the picture."""
        image, size, reduced_by = read_reduced(results['img_path'], self._shrink)
        results['img'] = image
        results['image_size'] = size
        results['reduced_by'] = reduced_by
        shift = (reduced_by - 1) / 2
        results['stored_to_picture'] = np.array([[reduced_by, 0, shift], [0, reduced_by, shift]])
        return results

    def _shrink(self, size: Size) -> int:
        return 1 if self.input_frame is None else _shrink_into(self.input_frame, size)


@lru_cache(maxsize=256)
def _shrink_into(frame: InputFrame, size: Size) -> int:
    return whole_shrink(frame.matrix(size))
