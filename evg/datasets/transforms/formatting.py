"""Packing a sample for the loader."""

from mmcv.transforms import BaseTransform

from evg.registry import TRANSFORMS
from evg.structures import GazeDataSample

_FIELDS = tuple(name for name in GazeDataSample.__dataclass_fields__ if not name.startswith('pred_'))


@TRANSFORMS.register_module()
class PackGaze(BaseTransform):
    """The end of every pipeline: a uint8 picture, the targets, and the record of the sample.

    The picture is a view: its channels stay together in memory, as OpenCV leaves them and `collate_gaze` wants them.
    """

    def transform(self, results: dict) -> dict:
        """Returns inputs (3, H, W) uint8 BGR, targets, data_samples."""
        sample = GazeDataSample(**{name: results[name] for name in _FIELDS if name in results})
        return {
            'inputs': results['img'].transpose(2, 0, 1),
            'targets': results.get('targets', {}),
            'data_samples': sample,
        }
