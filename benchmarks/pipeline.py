"""The input pipeline against its floor and against CenterNet's: python benchmarks/pipeline.py [--quality Q] [--json F]

Frames of the synthetic world, rendered at the size at which they are stored (with the world's own sensor noise; JPEG,
in the page cache), become samples of `mobv2_synth_480`, whose input is 480 x 270 px padded to 512 x 288. They are
stored at 1920 x 1080 or at 480 x 270; at 1280 x 720, for comparison, no whole number leads to the input. Each of these
goes over the same files in turn, in one thread without workers; times are medians over the rounds of CPU time a
picture:

* ours: `GazeDataset.__getitem__` with the config's training pipeline, and `collate_gaze`.
* floor: OpenCV's decoding, at the reduced scale that ours takes too, and one warpAffine. No labels, no batch.
* plain: the steps of EVG's sampler as they are usually written: whole decoding, resizing, warp, float32, / 255, mean
  and deviation, transposition, Gaussian, batch.

The config changes no light and crops no face: `photometric` and `face_crop` say what these add where they are always
on. `pipeline_vs_floor` and `pipeline_vs_plain` are how many pictures ours gives while the other gives one, in the worse
case of 1080 and 480.

`--train N` adds N training steps of the config's network on batches of 8 from 2 workers, in turn with N on one batch
that is in memory.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, default_collate

from evg.config import load_config
from evg.datasets.collate import collate_gaze
from evg.datasets.gaze_dataset import GazeDataset
from evg.datasets.prepare import prepare
from evg.datasets.synth import SynthConverter
from evg.engine.network import UNTRAINED, load_network
from evg.evaluation.report import write_json
from evg.geometry import InputFrame, VirtualPlane, compose_affine
from evg.registry import DATASETS

CONFIG = Path(__file__).parent.parent / 'configs/ctdet_gaze/mobv2_synth_480.py'
# Stored size, and what libjpeg reduces it by on the way to 480 x 270.
CASES = {'1080': ((1920, 1080), 4), '480': ((480, 270), 1), '720': ((1280, 720), 2)}
COUNTED = ('1080', '480')
REDUCED = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
ALWAYS = {'photometric': {'photometric.prob': 1.0}, 'face_crop': {'face_crop_ratio': 1.0}}
PERSONS, BATCH, STRIDE = 4, 16, 4
MEAN, STD = (np.array(values, np.float32) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def make_frames(folder: Path, size: tuple[int, int], count: int, quality: int) -> None:
    """Render and index `count` frames of training persons."""
    converter = SynthConverter('eve', size, PERSONS, count // PERSONS, 0, quality, (PERSONS, 0, 0))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        prepare(converter, folder, 1)


def dataset_of(folder: Path, **changes: Any) -> GazeDataset:
    """The config's training set over prepared frames."""
    config = load_config(CONFIG, {'data_root': str(folder), **changes})
    return DATASETS.build(config.train_dataloader.dataset)


def ours(dataset: GazeDataset) -> None:
    """All samples in batches."""
    for start in range(0, len(dataset), BATCH):
        collate_gaze([dataset[place] for place in range(start, min(start + BATCH, len(dataset)))])


def floor(paths: Sequence[str], frame: InputFrame, size: tuple[int, int], reduced_by: int) -> None:
    """Decode and warp, nothing else."""
    shift = (reduced_by - 1) / 2
    enlarge = np.array([[reduced_by, 0, shift], [0, reduced_by, shift]], np.float64)
    matrix = compose_affine(frame.matrix(size), enlarge)
    for path in paths:
        cv2.warpAffine(cv2.imread(path, REDUCED[reduced_by]), matrix, frame.input_size, flags=cv2.INTER_LINEAR)


def plain(paths: Sequence[str], plane_mm: NDArray, frame: InputFrame, plane: VirtualPlane) -> None:
    """All samples in batches, written plainly."""
    rng = np.random.default_rng(0)
    for start in range(0, len(paths), BATCH):
        rows = range(start, min(start + BATCH, len(paths)))
        default_collate([plain_sample(paths[row], plane_mm[row], frame, plane, rng) for row in rows])


def plain_sample(
    path: str, plane_mm: NDArray, frame: InputFrame, plane: VirtualPlane, rng: np.random.Generator
) -> dict:
    """One sample by the steps of EVG's sampler (reference: docs/design.md), flip as for half of them."""
    image = cv2.resize(cv2.imread(path), frame.size)
    width, height = frame.input_size
    flip = rng.random() < 0.5
    if flip:
        image = image[:, ::-1, :]
    middle, half = np.float32(frame.size) / 2, np.float32((width, height)) / 2
    corners = np.float32([(0, 0), (0, -width / 2), (-width / 2, -width / 2)])
    matrix = cv2.getAffineTransform(middle + corners, half + corners)
    inputs = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)
    inputs = (inputs.astype(np.float32) / 255.0 - MEAN) / STD
    inputs = inputs.transpose(2, 0, 1)
    vp_px = plane.clamp(plane.from_mm(plane_mm * (-1, 1) if flip else plane_mm))
    columns, rows = width // STRIDE, height // STRIDE
    cell = (vp_px - np.array(plane.size_px) / 2) * columns / plane.size_px[0] + np.array((columns, rows)) / 2
    whole = np.clip(cell.astype(np.int32), 0, (columns - 1, rows - 1))
    heatmap = np.zeros((1, rows, columns), np.float32)
    draw_gaussian(heatmap[0], whole, plain_radius(20, 20))
    return {
        'input': inputs,
        'hm': heatmap,
        'ind': np.int64(whole[1] * columns + whole[0]),
        'reg': (cell - whole).astype(np.float32),
        'reg_mask': np.uint8(1),
        'vp_gazepoint': vp_px.astype(np.float32),
    }


def plain_radius(height: float, width: float, overlap: float = 0.7) -> int:
    """CenterNet's radius, anew for each sample as in the original."""
    total, area = height + width, height * width
    first = (total + np.sqrt(total**2 - 4 * area * (1 - overlap) / (1 + overlap))) / 2
    second = (2 * total + np.sqrt(4 * total**2 - 16 * (1 - overlap) * area)) / 2
    slope, constant = -2 * overlap * total, (overlap - 1) * area
    third = (slope + np.sqrt(slope**2 - 16 * overlap * constant)) / 2
    return max(0, int(min(first, second, third)))


def draw_gaussian(heatmap: NDArray, center: NDArray, radius: int) -> None:
    """The larger of the map and a Gaussian around a cell."""
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    sigma = (2 * radius + 1) / 6
    gaussian = np.exp(-(x * x + y * y) / (2 * sigma * sigma))
    column, row = int(center[0]), int(center[1])
    left, right = min(column, radius), min(heatmap.shape[1] - column, radius + 1)
    top, bottom = min(row, radius), min(heatmap.shape[0] - row, radius + 1)
    window = heatmap[row - top : row + bottom, column - left : column + right]
    np.maximum(window, gaussian[radius - top : radius + bottom, radius - left : radius + right], out=window)


def race(runners: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(rounds + 1):
        for name, run in runners.items():
            start = time.process_time()
            run()
            if turn:  # the first one warms up
                times[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def measure(frames: int = 48, rounds: int = 9, quality: int = 90) -> dict[str, float]:
    """Figures of this page's head, see the module; `*_ms` are ms of CPU time a picture.

    Args:
        frames: pictures of each case, a multiple of 4.
        rounds: how often each goes over them.
        quality: of the JPEGs.
    """
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    figures: dict[str, float] = {}
    for case, (size, reduced_by) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            make_frames(Path(folder), size, frames, quality)
            dataset = dataset_of(Path(folder))
            columns = dataset.index.columns
            paths = [str(dataset.index.root / name) for name in columns['image']]
            config = load_config(CONFIG)
            frame, plane = InputFrame(**config.input_frame), VirtualPlane(config.vp_size_px, config.ppm)
            runners: dict[str, Callable[[], None]] = {
                'ours': lambda: ours(dataset),  # noqa: B023
                'floor': lambda: floor(paths, frame, size, reduced_by),  # noqa: B023
                'plain': lambda: plain(paths, dataset.plane_mm, frame, plane),  # noqa: B023
            }
            always = {name: dataset_of(Path(folder), **changes) for name, changes in ALWAYS.items()}
            runners |= {name: lambda changed=changed: ours(changed) for name, changed in always.items()}
            ms = {name: seconds / len(dataset) * 1000 for name, seconds in race(runners, rounds).items()}
            figures[f'kilobyte_{case}'] = statistics.mean(Path(path).stat().st_size for path in paths) / 1000
        figures |= {f'{name}_ms_{case}': ms[name] for name in ('ours', 'floor', 'plain')}
        figures |= {f'{name}_adds_ms_{case}': ms[name] - ms['ours'] for name in ALWAYS}
        for name in ('floor', 'plain'):
            figures[f'pipeline_vs_{name}_{case}'] = ms[name] / ms['ours']
    for name in ('floor', 'plain'):
        figures[f'pipeline_vs_{name}'] = min(figures[f'pipeline_vs_{name}_{case}'] for case in COUNTED)
    return figures


def train(steps: int, batch: int = 8, workers: int = 2) -> dict[str, float]:
    """Pictures a second (wall time) of training steps on loaded batches and on one in memory, in turn, and the share of
    the former that is waiting for the loader.

    Args:
        steps: of each.
        batch: pictures in a batch.
        workers: of the loader.
    """
    model, _ = load_network(load_config(CONFIG), UNTRAINED)
    optimiser = torch.optim.Adam(model.train().parameters(), 2.5e-4)

    def step(data: dict[str, Any]) -> None:
        losses = model(**model.data_preprocessor(data, True), mode='loss')
        optimiser.zero_grad()
        sum(value for name, value in losses.items() if name.startswith('loss')).backward()  # type: ignore[union-attr]
        optimiser.step()

    with tempfile.TemporaryDirectory() as folder:
        make_frames(Path(folder), CASES['480'][0], batch * 4, 90)
        dataset = torch.utils.data.ConcatDataset([dataset_of(Path(folder))] * -(-(steps + 1) // 4))
        loader = DataLoader(
            dataset, batch, num_workers=workers, collate_fn=collate_gaze, multiprocessing_context='fork'
        )
        batches = iter(loader)
        kept = next(batches)
        step(kept)
        seconds: dict[str, list[float]] = {'wait': [], 'loaded': [], 'in_memory': []}
        for _ in range(steps):
            start = time.perf_counter()
            data = next(batches)
            seconds['wait'].append(time.perf_counter() - start)
            step(data)
            seconds['loaded'].append(time.perf_counter() - start)
            start = time.perf_counter()
            step(kept)
            seconds['in_memory'].append(time.perf_counter() - start)
    return {
        'train_loader_per_s': batch / statistics.median(seconds['loaded']),
        'train_memory_per_s': batch / statistics.median(seconds['in_memory']),
        'train_wait_share': sum(seconds['wait']) / sum(seconds['loaded']),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--frames', type=int, default=48, help='pictures of each case, a multiple of 4')
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--quality', type=int, default=90, help='of the JPEGs')
    parser.add_argument('--train', type=int, default=0, metavar='N', help='training steps; none without it')
    parser.add_argument('--json', help='write the figures to this file')
    args = parser.parse_args()
    figures = measure(args.frames, args.rounds, args.quality)
    if args.train:
        figures |= train(args.train)
    for name, value in figures.items():
        print(f'{name} {value:.3f}')
    if args.json:
        write_json(args.json, figures)


if __name__ == '__main__':
    main()
