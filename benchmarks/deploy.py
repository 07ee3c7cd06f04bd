"""ONNX Runtime against torch, INT8 against fp32, and a camera's frame to a point on the screen.

    python benchmarks/deploy.py [--threads 1 2] [--trained CONFIG CHECKPOINT] [--json F]

Times are medians of runs that take turns, so that other work on the machine hits all of them; ratios are of those
medians. The networks of the times have random weights. `--trained` adds what INT8 costs in mm: figures of a checkpoint
on its config's test set, ranges learnt from 64 pictures of its training set.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from evg.config import load_config
from evg.deploy.folder import Options, deploy
from evg.deploy.parity import TOLERANCES, compare
from evg.deploy.parity_pictures import pictures_of
from evg.deploy.runtime import GazeModel
from evg.engine.network import load_network
from evg.evaluation.report import write_json
from evg.geometry import Rig
from evg.synthetic import SyntheticWorld

NETWORKS = {'resdcn18': 'configs/ctdet_gaze/resdcn18_synth_480.py', 'mobv2': 'configs/ctdet_gaze/mobv2_synth_480.py'}
RATIOS = ('ort_vs_eager', 'int8_vs_fp32')
RIG = Rig((1920, 1080), (1920, 1080), (553, 311), (0, 155.5))


def race(runners: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Median milliseconds of each; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in runners}
    for run in runners.values():
        for _ in range(3):
            run()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[next(iter(times))]) < 10:
        for name, run in runners.items():
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: float(np.median(values)) for name, values in times.items()}


def export(config, checkpoint: str, folder: Path, calibration: str) -> dict[str, Path]:
    """Folders in fp32 and INT8."""
    model, source = load_network(config, checkpoint)
    for precision in ('fp32', 'int8'):
        options = Options(target='onnxruntime', precision=precision, calibration=calibration)
        deploy(config, model, folder / precision, options, source, say=lambda line: None)
    return {precision: folder / precision for precision in ('fp32', 'int8')}


def time_network(config, folders: dict[str, Path], threads: int, seconds: float) -> dict[str, float]:
    """Milliseconds of one normalised picture through torch, ONNX Runtime, and ONNX Runtime in INT8."""
    torch.set_num_threads(threads)
    model, _ = load_network(config, 'none')
    models = {name: GazeModel.load(folder, 'onnxruntime', threads=threads) for name, folder in folders.items()}
    width, height = models['fp32'].input_size
    inputs = np.random.default_rng(0).normal(size=(1, 3, height, width)).astype(np.float32)
    tensor = torch.from_numpy(inputs).contiguous(memory_format=torch.channels_last)

    def eager() -> None:
        with torch.inference_mode():
            model(tensor)

    runners: dict[str, Callable[[], object]] = {'torch': eager}
    runners |= {name: lambda loaded=loaded: loaded.run(inputs) for name, loaded in models.items()}
    return race(runners, seconds)


def time_frame(folder: Path, jpeg: np.ndarray, threads: int, seconds: float) -> dict[str, float]:
    """Milliseconds from a JPEG of 1920 x 1080 to screen px, whole and by steps."""
    cv2.setNumThreads(threads)
    model = GazeModel.load(folder, 'onnxruntime', threads=threads)
    image = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    prepared, affine = model.prepare(image)
    raw = model.run(prepared[None])
    answer = model.decode(raw, [affine])[0]

    def whole() -> None:
        found = model.predict([cv2.imdecode(jpeg, cv2.IMREAD_COLOR)])[0]
        RIG.offset_plane_to_screen_px(found['pred_plane_mm'])

    return race(
        {
            'whole': whole,
            'JPEG to picture': lambda: cv2.imdecode(jpeg, cv2.IMREAD_COLOR),
            'picture to input': lambda: model.prepare(image),
            'network': lambda: model.run(prepared[None]),
            'outputs to plane': lambda: model.decode(raw, [affine]),
            'plane to screen': lambda: RIG.offset_plane_to_screen_px(answer['pred_plane_mm']),
        },
        seconds,
    )


def cost_of_int8(path: str, checkpoint: str, images: int, folder: Path) -> dict[str, float]:
    """Mean error of a checkpoint in fp32 and INT8 on its test set, mm."""
    config = load_config(path)
    errors = {}
    for precision, out in export(config, checkpoint, folder, '64').items():
        model, _ = load_network(config, checkpoint)
        with GazeModel.load(out, 'onnxruntime') as runtime:
            report = compare(model, runtime, pictures_of(config, images), 'cpu', TOLERANCES['int8'])
        errors[f'{precision}_mm'] = report['figures']['runtime']['pog/mean_mm']
        errors[f'{precision}_moved_mm'] = report['answers']['point of gaze, mm']['mean']
    return {**errors, 'loss_mm': errors['int8_mm'] - errors['fp32_mm'], 'images': images}


def main() -> None:
    """Export, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--threads', type=int, nargs='+', default=[1, 2])
    parser.add_argument('--seconds', type=float, default=20, help='of each comparison')
    parser.add_argument('--trained', nargs=2, metavar=('CONFIG', 'CHECKPOINT'), help='what INT8 costs in mm')
    parser.add_argument('--images', type=int, default=1000, help='of --trained')
    parser.add_argument('--json', help='write the figures to this file')
    args = parser.parse_args()
    frame = SyntheticWorld('eve', (1920, 1080), seed=0).frame(0, 0).image
    jpeg = cv2.imencode('.jpg', frame, [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    figures: dict = {'ort_vs_eager': {}, 'int8_vs_fp32': {}, 'frame_to_screen_ms': {}}
    with tempfile.TemporaryDirectory() as scratch:
        pictures = Path(scratch) / 'pictures'
        pictures.mkdir()
        cv2.imwrite(str(pictures / 'frame.png'), frame)
        for name, path in NETWORKS.items():
            config = load_config(path)
            folders = export(config, 'none', Path(scratch) / name, str(pictures))
            for threads in args.threads:
                key = f'{name}, {threads} thread{"s" * (threads > 1)}'
                ms = time_network(config, folders, threads, args.seconds)
                figures['ort_vs_eager'][key] = {
                    'torch_ms': ms['torch'], 'ort_ms': ms['fp32'], 'ratio': ms['fp32'] / ms['torch']
                }  # fmt: skip
                figures['int8_vs_fp32'][key] = {
                    'fp32_ms': ms['fp32'], 'int8_ms': ms['int8'], 'ratio': ms['int8'] / ms['fp32']
                }  # fmt: skip
                figures['frame_to_screen_ms'][key] = time_frame(folders['fp32'], jpeg, threads, args.seconds)
                for title, values in figures.items():
                    print(f'{title}, {key}: ' + ', '.join(f'{k} {v:.2f}' for k, v in values[key].items()), flush=True)
        if args.trained:
            cost = cost_of_int8(*args.trained, args.images, Path(scratch) / 'trained')
            figures['int8_vs_fp32']['error'] = {'config': args.trained[0], **cost}
            print('int8_vs_fp32, error: ' + ', '.join(f'{k} {v:.3f}' for k, v in cost.items()))
    if args.json:
        # The worst of the networks stands for all.
        worst = {key: max(v['ratio'] for v in figures[key].values() if 'ratio' in v) for key in RATIOS}
        write_json(args.json, {**worst, 'details': figures})


if __name__ == '__main__':
    main()
