"""The pictures on which a model folder is compared with its checkpoint."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from numpy.typing import NDArray

from evg.errors import UserError
from evg.registry import DATASETS, TRANSFORMS
from evg.structures import GazeDataSample

# What the runtime gets, and what the training pipeline makes of it.
Pair = tuple[NDArray[np.uint8], dict[str, Any]]
_RANDOM_SIZES = ((640, 480), (1280, 720), (321, 243))


@dataclass
class Pictures:
    """What both are compared on.

    Attributes:
        pairs: pictures.
        about: in words.
        metrics: configs of metrics, none where there are no labels.
        metainfo: of the data set.
    """

    pairs: Iterable[Pair]
    about: str
    metrics: list[dict] = field(default_factory=list)
    metainfo: dict[str, Any] = field(default_factory=dict)


def pictures_of(cfg: Config, count: int, data_root: str | None = None) -> Pictures:
    """Samples of a config's test set, evenly spread; random pictures where it is not on this machine.

    Args:
        cfg: a loaded config.
        count: how many at most.
        data_root: another prepared data set than the config's; it must exist.

    Raises:
        UserError: no such data set, or a test pipeline without Affine and Warp.
    """
    config = {**cfg.test_dataloader.dataset, **({'data_root': data_root} if data_root else {})}
    root = Path(config['data_root'])
    if not data_root and not (root / 'index.parquet').is_file():
        steps = [TRANSFORMS.build(step) for step in config['pipeline'] if step['type'] in ('Affine', 'Warp')]
        about = f'{count} random pictures: there is no {root / "index.parquet"}, and --data was not given'
        return Pictures(_random_pairs(steps, count), about)
    # Every picture whole, as a runtime gets it.
    config['pipeline'] = [
        {**step, 'input_frame': None} if step['type'] == 'LoadImage' else step for step in config['pipeline']
    ]
    dataset = DATASETS.build(config)
    positions = np.unique(np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int))
    about = f'{len(positions)} of {len(dataset)} pictures of {dataset.index.dataset} ({dataset.index.path})'
    metrics = list(cfg.test_evaluator) if config.get('labels') else []
    return Pictures(_dataset_pairs(dataset, positions), about, metrics, dataset.metainfo)


class _Tap:
    """A step of a pipeline that remembers the picture that passes."""

    image: NDArray[np.uint8]

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        self.image = results['img']
        return results


def _dataset_pairs(dataset: Any, positions: NDArray[np.intp]) -> Iterator[Pair]:
    steps = dataset.pipeline.transforms
    places = [i for i, step in enumerate(steps) if type(step).__name__ == 'Affine']
    if not places:
        raise UserError('the test pipeline has no Affine: what the runtime should get is not known')
    tap = _Tap()
    steps.insert(places[0], tap)
    for position in positions:
        packed = dataset[int(position)]
        yield tap.image, packed


def _random_pairs(steps: Sequence[Any], count: int) -> Iterator[Pair]:
    rng = np.random.default_rng(0)
    for i in range(count):
        size = _RANDOM_SIZES[i % len(_RANDOM_SIZES)]
        smooth = cv2.resize(rng.integers(0, 256, (9, 16, 3), np.uint8), size, interpolation=cv2.INTER_CUBIC)
        noise = rng.integers(-40, 41, (size[1], size[0], 3))
        image = np.clip(smooth.astype(np.int64) + noise, 0, 255).astype(np.uint8)
        results: dict[str, Any] = {'img': image, 'image_size': size, 'stored_to_picture': np.eye(2, 3)}
        results['gt_face_box_px'] = None
        for step in steps:
            results = step(results)
        sample = GazeDataSample(f'random/{i}', '', '', affine=results['affine'])
        inputs = np.ascontiguousarray(results['img'].transpose(2, 0, 1))
        yield image, {'inputs': inputs, 'targets': {}, 'data_samples': sample}
