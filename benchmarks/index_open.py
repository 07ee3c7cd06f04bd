"""Time and memory of opening a large index: python benchmarks/index_open.py --index DIR [--rows N] [--json F].

The rows of a prepared data set are repeated to N; the index is opened by `GazeDataset`, and N workers each read samples
from every part of it. Memory is what the processes add together, shared pages counted once (PSS).
"""

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evg.datasets.gaze_dataset import GazeDataset
from evg.datasets.index import write_table
from evg.evaluation.report import write_json


def pss_mib() -> float:
    """Proportional set size of this process in MiB (Linux)."""
    for line in Path('/proc/self/smaps_rollup').read_text().splitlines():
        if line.startswith('Pss:'):
            return int(line.split()[1]) / 1024
    raise RuntimeError('no Pss in smaps_rollup')


def _work(dataset: GazeDataset, barrier, answers) -> None:
    for position in np.linspace(0, len(dataset) - 1, 5000).astype(int):
        dataset[int(position)]
    barrier.wait()  # measured while all of them live
    answers.put(pss_mib())
    barrier.wait()


def main() -> None:
    """Build, open, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--index', required=True, help='folder of a prepared data set')
    parser.add_argument('--rows', type=int, default=1_000_000)
    parser.add_argument('--workers', type=int, default=4)
    parser.add_argument('--json', help='write the figures to this file')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small = pq.read_table(Path(args.index) / 'index.parquet')
        times = -(-args.rows // len(small))
        large = pa.concat_tables([small] * times).slice(0, args.rows)
        image = small.schema.get_field_index('image')
        absolute = [str(Path(args.index).resolve() / name) for name in small['image'].to_pylist()]
        names = pa.chunked_array([pa.array((absolute * times)[: args.rows])])
        write_table(large.set_column(image, small.schema.field(image), names), Path(folder) / 'index.parquet')
        del large, names
        before = pss_mib()
        start = time.perf_counter()
        dataset = GazeDataset(folder, [], splits=['train', 'val', 'test'])
        seconds = time.perf_counter() - start
        context = multiprocessing.get_context('fork')
        barrier, answers = context.Barrier(args.workers + 1), context.Queue()
        workers = [context.Process(target=_work, args=(dataset, barrier, answers)) for _ in range(args.workers)]
        for worker in workers:
            worker.start()
        barrier.wait()
        added = pss_mib() + sum(answers.get() for _ in workers) - before
        barrier.wait()
        for worker in workers:
            worker.join()
    figures = {'rows': len(dataset), 'open_s': seconds, 'added_mib': added, 'workers': args.workers}
    print(', '.join(f'{k} {v:.2f}' for k, v in figures.items()))
    if args.json:
        write_json(args.json, figures)


if __name__ == '__main__':
    main()
