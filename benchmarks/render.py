"""Milliseconds of CPU time per rendered frame, one thread: python benchmarks/render.py [--frames N] [--json F]."""

import argparse
import time
from collections.abc import Callable

import cv2

from evg.evaluation.report import write_json
from evg.synthetic import SyntheticWorld

CASES = (('eve', (480, 270)), ('close', (160, 96)), ('close', (480, 270)), ('phone', (240, 320)))


def main() -> None:
    """Render, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--frames', type=int, default=20, help='frames of each of five persons')
    parser.add_argument('--json', help='write the figures to this file')
    args = parser.parse_args()
    cv2.setNumThreads(1)
    figures = {}
    for geometry, size in CASES:
        world = SyntheticWorld(geometry, size, seed=0)
        world.frame(0, 0)
        persons = _milliseconds(lambda i, world=world: world.frame(i + 1, 0), 5)
        count = args.frames
        frames = _milliseconds(lambda i, world=world, n=count: world.frame(i // n + 1, i % n), 5 * count)
        name = f'{geometry} {size[0]} x {size[1]}'
        figures[name] = {'frame_ms': frames, 'person_ms': persons - frames}
        print(f'{name}: {frames:.1f} ms a frame, {persons - frames:.0f} ms to make a person')
    if args.json:
        write_json(args.json, figures)


def _milliseconds(call: Callable[[int], object], times: int) -> float:
    """CPU time of a call, on average."""
    start = time.process_time()
    for index in range(times):
        call(index)
    return (time.process_time() - start) / times * 1000


if __name__ == '__main__':
    main()
