"""Frames a second of the live loop, without a browser: python benchmarks/live.py [--seconds S] [--json F].

Frames of the synthetic world, as a camera gives them, go one after the other through `GazePredictor.predict`: a network
on whole frames of 480 x 270, exported with random weights (they cost as much as learnt ones) and run by ONNX Runtime,
and the landmark model with MediaPipe on 640 x 480.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from serve import exported

from evg.evaluation.report import write_json
from evg.inference.predictor import LANDMARK, GazePredictor
from evg.inference.screen import Screen
from evg.synthetic import SyntheticWorld

SCREEN = Screen(size_px=(1920, 1080), size_mm=(553, 311), camera_mm=(276.5, -10, 0))


def loop(predictor: GazePredictor, geometry: str, size: tuple[int, int], seconds: float) -> dict[str, float]:
    """Frames a second, and milliseconds from a frame to its answer."""
    world = SyntheticWorld(geometry, size, seed=0)
    frames = [world.frame(0, number).image for number in range(16)]
    predictor.predict(frames[0])
    waits: list[float] = []
    begin = time.perf_counter()
    while time.perf_counter() < begin + seconds:
        start = time.perf_counter()
        predictor.predict(frames[len(waits) % len(frames)])
        waits.append((time.perf_counter() - start) * 1000)
    late = float(np.percentile(waits, 95))
    return {'fps': len(waits) / (time.perf_counter() - begin), 'median_ms': statistics.median(waits), 'p95_ms': late}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=10, help='of each model')
    parser.add_argument('--json', help='write the figures to this file')
    args = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        network = exported('configs/ctdet_gaze/mobv2_synth_480.py', Path(folder))
        for name, model, geometry, size in (
            ('mobv2', network, 'eve', (480, 270)),
            (LANDMARK, LANDMARK, 'close', (640, 480)),
        ):
            predictor = GazePredictor(model, SCREEN)
            found[name] = loop(predictor, geometry, size, args.seconds)
            predictor.close()
            figures = ', '.join(f'{key} {value:.1f}' for key, value in found[name].items())
            print(f'{name}, {size[0]} x {size[1]}: {figures}')
    if args.json:
        write_json(args.json, found)


if __name__ == '__main__':
    main()
