"""How close the EVE conversion comes to its decoder: python benchmarks/conversion.py [--frames N] [--crf Q] [--json F].

Persons of the synthetic world in EVE's format (1920 x 1080, 30 Hz, recordings of 3 s) are encoded by x264's default
preset. In turns, the videos are decoded alone, and converted as `prepare_data.py eve` does: 480 x 270 JPEGs, labels,
index. Both use one thread. The figure is decoding time over conversion time, of medians: of CPU time of this process,
since a machine may be shared, and of wall time.
"""

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2

from evg.datasets.eve import EveConverter
from evg.datasets.prepare import prepare
from evg.datasets.synth import SynthEveConverter
from evg.evaluation.report import write_json

SIZE = (1920, 1080)


def encode_again(path: Path, crf: int) -> None:
    """Replace a video by one of x264's default preset at another quality; smaller is better, 23 is the default."""
    with av.open(str(path)) as source, av.open(f'{path}.new.mp4', 'w') as target:
        stream = target.add_stream('libx264', rate=30, options={'crf': str(crf)})
        stream.width, stream.height, stream.pix_fmt = *SIZE, 'yuv420p'
        for frame in source.decode(video=0):
            frame.pict_type = 0  # for the encoder to choose
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    os.replace(f'{path}.new.mp4', path)


def decode(videos: list[Path]) -> int:
    """Decode every frame with one thread, and nothing else."""
    frames = 0
    for path in videos:
        with av.open(str(path)) as video:
            stream = video.streams.video[0]
            stream.codec_context.thread_type, stream.codec_context.thread_count = 'NONE', 1
            frames += sum(1 for _ in video.decode(stream))
    return frames


def timed(work: Callable) -> tuple[Any, tuple[float, float]]:
    """What something gives, and the CPU and wall time it takes, s."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, (time.process_time() - cpu, time.perf_counter() - wall)


def quietly(work: Callable) -> Any:
    """Do something whose progress nobody wants to see."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return work()


def main() -> None:
    """Make recordings, time both in turns, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--frames', type=int, default=180, help='frames of the person')
    parser.add_argument('--crf', type=int, default=23, help='quality of the videos')
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument('--json', help='write the figures to this file')
    args = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / 'EVE', Path(folder) / 'out'
        quietly(lambda: prepare(SynthEveConverter(SIZE, 1, args.frames, 0, (1, 0, 0)), source, 1))
        videos = sorted(source.glob('train01/*/webcam_c.mp4'))
        for path in videos:
            encode_again(path, args.crf)
        converter = EveConverter(src=str(source), camera='webcam_c', size=(480, 270), every=1, quality=90)
        rounds = []
        for repeat in range(args.repeats):
            frames, decoding = timed(lambda: decode(videos))
            target = out / str(repeat)
            summary, converting = timed(lambda: quietly(lambda: prepare(converter, target, 1)))  # noqa: B023
            rounds.append((*decoding, *converting))
        medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
        decode_cpu, decode_wall, convert_cpu, convert_wall = medians
        figures = {
            'frames': frames,
            'rows': summary['rows'],
            'megabit_per_s': sum(path.stat().st_size for path in videos) * 8e-6 / (frames / 30),
            'decode_cpu_ms': decode_cpu / frames * 1000,
            'convert_cpu_ms': convert_cpu / frames * 1000,
            'conversion_vs_decode': decode_cpu / convert_cpu,
            'conversion_vs_decode_wall': decode_wall / convert_wall,
        }
    print(', '.join(f'{name} {value:.2f}'.removesuffix('.00') for name, value in figures.items()))
    if args.json:
        write_json(args.json, figures)


if __name__ == '__main__':
    main()
