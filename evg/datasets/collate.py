"""From a list of packed samples to one batch."""

from collections.abc import Sequence
from typing import Any

from torch.utils.data import default_collate

from evg.registry import FUNCTIONS


@FUNCTIONS.register_module()
def collate_gaze(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack pictures and targets in the worker, so that one tensor each travels, not one per sample.

    In a worker that tensor is made in the memory that the loader's process sees. Pictures keep their channels together
    (torch's channels_last), which is what OpenCV gives and networks take: nothing is transposed on the way.

    Args:
        samples: what `PackGaze` returns.

    Returns:
        inputs (B, 3, H, W) uint8, channels_last; targets, each stacked along a new first axis; data_samples, a list.
    """
    pictures = default_collate([sample['inputs'].transpose(1, 2, 0) for sample in samples])
    return {
        'inputs': pictures.permute(0, 3, 1, 2),
        'targets': default_collate([sample['targets'] for sample in samples]),
        'data_samples': [sample['data_samples'] for sample in samples],
    }
