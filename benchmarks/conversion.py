"""How close the EVE conversion comes to its decoder: python benchmarks/conversion.py [--frames N] [--json F].

A recording of the synthetic world in EVE's format (1920 x 1080 H.264) is decoded alone and converted to 480 x 270 JPEGs
and index rows, in turns, in one process with one thread; the ratio is conversion speed over decoding speed.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av

from evg.datasets.eve import EveConverter
from evg.evaluation.report import write_json

ROOT = Path(__file__).resolve().parent.parent


def decode(path: Path) -> int:
    """Decode every frame of a video with one thread, and nothing else."""
    with av.open(str(path)) as video:
        stream = video.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = 'NONE', 1
        return sum(1 for _ in video.decode(stream))


def main() -> None:
    """Make a recording, time both in turns, print the ratio of the best times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--frames', type=int, default=120, help='frames of the recording')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--json', help='write the figures to this file')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / 'EVE', Path(folder) / 'out'
        make = ['synth', '--out', source, '--format', 'eve', '--persons', 1, '--frames', args.frames]
        subprocess.run([sys.executable, ROOT / 'tools/prepare_data.py', *map(str, make)], check=True)
        converter = EveConverter(src=str(source), camera='webcam_c', size=(480, 270), every=1, quality=90)
        unit = converter.units()[0]
        video = source / unit.name / 'webcam_c.mp4'
        seconds: dict[str, list[float]] = {'decode': [], 'convert': []}
        for repeat in range(args.repeats):
            start = time.perf_counter()
            frames = decode(video)
            seconds['decode'].append(time.perf_counter() - start)
            start = time.perf_counter()
            rows = converter.convert(unit, out / str(repeat)).rows
            seconds['convert'].append(time.perf_counter() - start)
        figures = {
            'decode_fps': frames / min(seconds['decode']),
            'convert_fps': frames / min(seconds['convert']),
            'conversion_vs_decode': min(seconds['decode']) / min(seconds['convert']),
            'megabit_per_s': video.stat().st_size * 8e-6 / (frames / 30),
        }
        print(f'{frames} frames, {len(rows)} rows: ' + ', '.join(f'{k} {v:.2f}' for k, v in figures.items()))
    if args.json:
        write_json(args.json, figures)


if __name__ == '__main__':
    main()
