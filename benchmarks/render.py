"""Milliseconds of CPU time per rendered frame, one thread: python benchmarks/render.py [--frames N] [--json F]."""

import argparse
import time

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
        start = time.process_time()
        for person in range(5):
            for index in range(args.frames):
                world.frame(person, index)
        name = f'{geometry} {size[0]} x {size[1]}'
        figures[name] = (time.process_time() - start) / (5 * args.frames) * 1000
        print(f'{name}: {figures[name]:.1f} ms a frame, the making of the persons included')
    if args.json:
        write_json(args.json, figures)


if __name__ == '__main__':
    main()
