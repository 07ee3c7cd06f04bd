"""Pictures of samples, targets and predictions."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evg.datasets.collate import collate_gaze
from evg.datasets.gaze_dataset import GazeDataset
from evg.engine.runner import bare_model
from evg.models import GazeEstimator
from evg.structures import GazeDataSample
from evg.visualization import sample_sheet


def spread(count: int, wanted: int) -> list[int]:
    """`wanted` positions evenly spread over `count` samples."""
    return sorted(set(np.linspace(0, count - 1, min(wanted, count)).round().astype(int).tolist()))


def target_sheets(dataset: GazeDataset, codec, positions: Sequence[int]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """What the network would be trained on: input, heatmaps, point on the plane and on the screen, or gaze vector.

    Args:
        dataset: with a pipeline that ends in `PackGaze`.
        codec: the first codec, for its virtual plane, if it has one.
        positions: which samples.

    Yields:
        (sample id, sheet).
    """
    for position in positions:
        packed = dataset[position]
        targets = packed['targets']
        landmarks = targets.get('target_landmark_heatmap')
        yield _sheet(
            packed,
            packed['data_samples'],
            codec,
            targets.get('target_heatmap'),
            targets.get('target_face_heatmap'),
            None if landmarks is None else landmarks.max(axis=0),
        )


@torch.no_grad()
def prediction_sheets(
    model: GazeEstimator, dataset: GazeDataset, positions: Sequence[int]
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Ground truth (red) and prediction (yellow) of a model.

    Args:
        model: in evaluation mode, on its device; also one that is wrapped for several processes.
        dataset: with a pipeline that ends in `PackGaze`.
        positions: which samples.

    Yields:
        (sample id, sheet).
    """
    model = bare_model(model)
    codec = next(iter(model.codecs.values()))
    for position in positions:
        packed = dataset[position]
        batch = model.data_preprocessor(collate_gaze([packed]))
        outputs = model(batch['inputs'], mode='tensor')
        sample = model.predict_from(outputs, batch['data_samples'])[0]
        heatmap = codec.heatmap(outputs)[0].cpu().numpy() if hasattr(codec, 'heatmap') else None
        face = outputs['face_heatmap'][0].sigmoid().cpu().numpy() if 'face_heatmap' in outputs else None
        landmarks = outputs['landmark_heatmap'][0].amax(dim=0).cpu().numpy() if 'landmark_heatmap' in outputs else None
        yield _sheet(packed, sample, codec, heatmap, face, landmarks)


def _sheet(
    packed: dict[str, Any],
    sample: GazeDataSample,
    codec,
    heatmap: NDArray | None,
    face_heatmap: NDArray | None,
    landmark_heatmap: NDArray | None,
) -> tuple[str, NDArray[np.uint8]]:
    """Id and sheet of a packed sample."""
    image = np.ascontiguousarray(packed['inputs'].transpose(1, 2, 0))
    plane, cells_per_px = getattr(codec, 'virtual_plane', None), getattr(codec, 'cells_per_px', None)
    sheet = sample_sheet(image, sample, plane, heatmap, cells_per_px, face_heatmap, landmark_heatmap=landmark_heatmap)
    return sample.sample_id, sheet
