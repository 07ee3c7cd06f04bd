"""From a list of packed samples to one batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from evg.registry import FUNCTIONS


@FUNCTIONS.register_module()
def collate_gaze(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack pictures and targets in the worker, so that one tensor each travels, not one per sample.

    Args:
        samples: what `PackGaze` returns.

    Returns:
        inputs (B, 3, H, W) uint8; targets, each stacked along a new first axis; data_samples, a list.
    """
    targets = {
        name: torch.from_numpy(np.stack([sample['targets'][name] for sample in samples]))
        for name in samples[0]['targets']
    }
    return {
        'inputs': torch.from_numpy(np.stack([sample['inputs'] for sample in samples])),
        'targets': targets,
        'data_samples': [sample['data_samples'] for sample in samples],
    }
