"""Reading a picture from disk."""

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from evg.errors import UserError
from evg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Reads `img_path` into `img` (H, W, 3) uint8 BGR.

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


def read_image(path: str) -> np.ndarray:
    """A picture as (H, W, 3) uint8 BGR.

    Raises:
        UserError: the file is missing, cut short or not a picture.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(
            f'cannot read the picture {path}: {error.strerror}; prepare the data again or mend data_root'
        ) from error
    # A JPEG that was cut short decodes to a picture with a grey rest, without an error.
    if data[:2].tobytes() == b'\xff\xd8' and b'\xff\xd9' not in data[-64:].tobytes():
        raise UserError(f'the picture {path} is cut short (no end-of-image marker); prepare the data again')
    image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if data.size else None
    if image is None:
        raise UserError(f'{path} is not a picture that OpenCV can read; prepare the data again')
    return image
