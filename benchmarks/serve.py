"""The server against the bare network: python benchmarks/serve.py [MODEL] [--seconds S] [--load-seconds S] [--json F].

The bare loop decodes a JPEG and calls `GazeModel.predict`, one picture after the other, in one process with ONNX
Runtime's own threads: what a program without a server reaches at most. The session alone runs the network on pictures
that are prepared already. The server is tools/serve.py with a worker a core, and 4 clients that ask again as soon as
they are answered. All see the same pictures; they take turns for 3 rounds, and the medians count. Then 8 clients keep
the server busy, while its latency and memory are watched.
"""

import argparse
import contextlib
import http.client
import json
import multiprocessing
import os
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import websockets.sync.client

from evg.deploy.runtime import GazeModel
from evg.evaluation.report import write_json
from evg.synthetic import SyntheticWorld

ROOT = Path(__file__).resolve().parent.parent
CONFIG = 'configs/ctdet_gaze/mobv2_synth_480.py'
MIB = 2**20


def jpegs(size: tuple[int, int], count: int = 16) -> list[bytes]:
    """Frames of the synthetic world as files."""
    world = SyntheticWorld('eve', size, seed=0)
    frames = [world.frame(i % 4, i).image for i in range(count)]
    return [cv2.imencode('.jpg', frame, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes() for frame in frames]


def exported(config: str, folder: Path) -> Path:
    """A model folder of a config, with random weights: they cost as much as learnt ones."""
    from evg.config import load_config  # noqa: PLC0415 (torch)
    from evg.deploy.describe import describe  # noqa: PLC0415
    from evg.deploy.onnx_export import export_onnx  # noqa: PLC0415
    from evg.geometry import InputFrame  # noqa: PLC0415
    from evg.registry import MODELS  # noqa: PLC0415

    cfg = load_config(config)
    if 'pretrained' in cfg.model.backbone:
        cfg.model.backbone.pretrained = None
    size = InputFrame(**cfg.input_frame).input_size
    result = export_onnx(MODELS.build(cfg.model).eval(), folder / 'model.onnx', size, batch=1)
    describe(cfg, result, 1, 'fp32', {}).with_file(folder / 'model.onnx').save(folder)
    return folder


def bare(model: GazeModel, files: list[bytes], seconds: float) -> float:
    """Pictures a second without a server."""
    count, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        image = cv2.imdecode(np.frombuffer(files[count % len(files)], np.uint8), cv2.IMREAD_COLOR)
        model.predict([image])
        count += 1
    return count / (time.perf_counter() - start)


def session(model: GazeModel, files: list[bytes], seconds: float) -> float:
    """Runs of the network a second, on pictures that are prepared before."""
    images = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in files]
    inputs = [model.prepare(image)[0][None] for image in images]
    count, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        model.run(inputs[count % len(inputs)])
        count += 1
    return count / (time.perf_counter() - start)


def post(host: str, files: list[bytes], until: float, waits: list) -> None:
    """One client of POST /v1/gaze that asks again as soon as it is answered."""
    with contextlib.closing(http.client.HTTPConnection(host)) as connection:
        for number, data in enumerate(_endless(files)):
            start = time.perf_counter()
            if start > until:
                return
            connection.request('POST', '/v1/gaze', data, {'Content-Type': 'image/jpeg'})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise RuntimeError(f'{answer.status}, request {number}: {text[:300]!r}')
            waits.append((time.perf_counter(), time.perf_counter() - start))


def stream(host: str, files: list[bytes], until: float, waits: list) -> None:
    """One client of the stream that sends a frame as soon as the last is answered."""
    with websockets.sync.client.connect(f'ws://{host}/v1/stream', subprotocols=['evg.v1'], compression=None) as socket:
        socket.recv()
        for number, data in enumerate(_endless(files)):
            start = time.perf_counter()
            if start > until:
                return
            socket.send(struct.pack('<Id', number % 2**32, start * 1000) + data)
            answer = json.loads(socket.recv())
            if answer['type'] != 'result' or answer['id'] != number % 2**32:
                raise RuntimeError(str(answer)[:300])
            waits.append((time.perf_counter(), time.perf_counter() - start))


def _endless(files: list[bytes]) -> Iterator[bytes]:
    while True:
        yield from files


def _clients(kind: str, host: str, files: list[bytes], count: int, seconds: float, answers) -> None:
    """All clients in one process beside the server, a thread each."""
    waits: list = []
    client = {'post': post, 'stream': stream}[kind]
    until = time.perf_counter() + seconds
    threads = [threading.Thread(target=client, args=(host, files, until, waits)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.put(waits)


def load(kind: str, host: str, files: list[bytes], count: int, seconds: float) -> list[tuple[float, float]]:
    """(when, seconds) of every answer to a number of clients."""
    context = multiprocessing.get_context('spawn')
    answers = context.Queue()
    process = context.Process(target=_clients, args=(kind, host, files, count, seconds, answers))
    process.start()
    waits = answers.get()
    process.join()
    return sorted(waits)


def rate(waits: list[tuple[float, float]]) -> float:
    """Answers a second."""
    return (len(waits) - 1) / (waits[-1][0] - waits[0][0])


def memory(host: str) -> float:
    """MiB of the server and its workers."""
    with contextlib.closing(http.client.HTTPConnection(host)) as connection:
        connection.request('GET', '/metrics')
        text = connection.getresponse().read().decode()
    names = ('process_resident_memory_bytes', 'evg_workers_resident_bytes')
    return sum(float(re.search(rf'^{name} (\S+)', text, re.M)[1]) for name in names) / MIB


@contextlib.contextmanager
def served(folder: Path, workers: int) -> Iterator[str]:
    """tools/serve.py; its address."""
    command = [sys.executable, ROOT / 'tools' / 'serve.py', folder, '--port', '0', '--workers', str(workers)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield re.search(r'http://(\S+)/', process.stdout.readline())[1]
    finally:
        process.terminate()
        process.wait()


def watch(host: str, seconds: float, seen: list[tuple[float, float]], stop: threading.Event) -> None:
    """(when, MiB) twenty times."""
    while not stop.wait(seconds / 20):
        seen.append((time.perf_counter(), memory(host)))


def main() -> None:
    """Serve, ask, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', nargs='?', default=CONFIG, help='a model folder, or a config to export')
    parser.add_argument('--size', type=int, nargs=2, default=(480, 270), help='of the frames')
    parser.add_argument('--seconds', type=float, default=10, help='of each measurement of throughput')
    parser.add_argument('--load-seconds', type=float, default=60, help='with 8 clients; 600 shows whether memory grows')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='of the server (default: one a core)')
    parser.add_argument('--json', help='write the figures to this file')
    args = parser.parse_args()
    files = jpegs(tuple(args.size))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(args.model) if Path(args.model).is_dir() else exported(args.model, Path(made))
        with GazeModel.load(folder) as model, served(folder, args.workers) as host:
            bare(model, files, 1)
            load('post', host, files, 4, 1)
            rounds = []
            for _ in range(3):
                alone = session(model, files, args.seconds), bare(model, files, args.seconds)
                asked = [rate(load(kind, host, files, 4, args.seconds)) for kind in ('post', 'stream')]
                rounds.append((*alone, *asked))
                text = 'session {:.1f}, bare loop {:.1f}, POST {:.1f}, stream {:.1f} pictures a second'
                print(text.format(*rounds[-1]), flush=True)
            seen: list[tuple[float, float]] = []
            stop = threading.Event()
            watching = threading.Thread(target=watch, args=(host, args.load_seconds, seen, stop))
            watching.start()
            waits = load('stream', host, files, 8, args.load_seconds)
            stop.set()
            watching.join()
    ran, alone, asked, streamed = (statistics.median(column) for column in zip(*rounds, strict=True))
    middle = (waits[0][0] + waits[-1][0]) / 2
    halves = [[s for when, s in waits if (when < middle) == first] for first in (True, False)]
    per_minute = np.polyfit([when / 60 for when, _ in seen[5:]], [mib for _, mib in seen[5:]], 1)[0]
    figures = {
        'model': str(args.model),
        'size': list(args.size),
        'session_per_s': ran,
        'loop_per_s': alone,
        'post_per_s': asked,
        'stream_per_s': streamed,
        'server_vs_session': asked / ran,
        'stream_vs_session': streamed / ran,
        'server_vs_loop': asked / alone,
        'stream_vs_loop': streamed / alone,
        'workers': args.workers,
        'clients': 8,
        'load_seconds': args.load_seconds,
        'load_per_s': rate(waits),
        'p50_ms': 1000 * float(np.percentile([s for _, s in waits], 50)),
        'p99_ms': 1000 * float(np.percentile([s for _, s in waits], 99)),
        'p99_first_half_ms': 1000 * float(np.percentile(halves[0], 99)),
        'p99_second_half_ms': 1000 * float(np.percentile(halves[1], 99)),
        'memory_first_mib': seen[0][1],
        'memory_last_mib': seen[-1][1],
        'memory_mib_per_minute': float(per_minute),
    }
    for name, value in figures.items():
        print(f'{name}: {value:.3f}' if isinstance(value, float) else f'{name}: {value}')
    if args.json:
        write_json(args.json, figures)


if __name__ == '__main__':
    main()
