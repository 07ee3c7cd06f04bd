"""Pictures of samples, targets and predictions."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from evg.datasets.collate import collate_gaze
from evg.datasets.gaze_dataset import GazeDataset
from evg.models import GazeEstimator
from evg.visualization import sample_sheet


def spread(count: int, wanted: int) -> list[int]:
    """`wanted` positions evenly spread over `count` samples."""
    return sorted(set(np.linspace(0, count - 1, min(wanted, count)).round().astype(int).tolist()))


def target_sheets(dataset: GazeDataset, codec, positions: Sequence[int]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """What the network would be trained on: input, heatmaps, point on the plane and on the screen.

    Args:
        dataset: with a pipeline that ends in `PackGaze`.
        codec: the gaze codec, for its virtual plane.
        positions: which samples.

    Yields:
        (sample id, sheet).
    """
    for position in positions:
        packed = dataset[position]
        sample, targets = packed['data_samples'], packed['targets']
        sheet = sample_sheet(
            np.ascontiguousarray(packed['inputs'].transpose(1, 2, 0)),
            sample,
            codec.virtual_plane,
            targets.get('target_heatmap'),
            getattr(codec, 'cells_per_px', None),
            targets.get('target_face_heatmap'),
        )
        yield sample.sample_id, sheet


@torch.no_grad()
def prediction_sheets(
    model: GazeEstimator, dataset: GazeDataset, positions: Sequence[int]
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Ground truth (red) and prediction (yellow) of a model.

    Args:
        model: in evaluation mode, on its device.
        dataset: with a pipeline that ends in `PackGaze`.
        positions: which samples.

    Yields:
        (sample id, sheet).
    """
    codec = next(iter(model.codecs.values()))
    for position in positions:
        packed = dataset[position]
        batch = model.data_preprocessor(collate_gaze([packed]))
        outputs = model(batch['inputs'], mode='tensor')
        sample = model.predict_from(outputs, batch['data_samples'])[0]
        heatmap = codec.heatmap(outputs)[0].cpu().numpy() if hasattr(codec, 'heatmap') else None
        face = outputs['face_heatmap'][0].sigmoid().cpu().numpy() if 'face_heatmap' in outputs else None
        sheet = sample_sheet(
            np.ascontiguousarray(packed['inputs'].transpose(1, 2, 0)),
            sample,
            codec.virtual_plane,
            heatmap,
            getattr(codec, 'cells_per_px', None),
            face,
        )
        yield sample.sample_id, sheet
