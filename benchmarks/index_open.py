"""Time and memory of opening a large index: python benchmarks/index_open.py [--rows N] [--workers N] [--json F].

An index with a value in every column of every row is written and opened by `GazeDataset`; then the forked workers of a
loader read a tenth of its samples in random order, without their pictures. Memory is what this process and its workers
have more in the end than this process had before, pages that they share counted once (PSS).
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from torch.utils.data import DataLoader, Subset

from evg.datasets.gaze_dataset import GazeDataset
from evg.datasets.index import COLUMNS, SCHEMA_VERSION, rig_to_json, write_table
from evg.evaluation.report import write_json
from evg.geometry import Rig

RIG = Rig((480, 270), (1920, 1080), (553, 311), (0, 155.5), np.diag([250.0, 250, 1]), np.eye(4))


def pss_mib(process: int) -> float:
    """Proportional set size of a process in MiB (Linux)."""
    lines = Path(f'/proc/{process}/smaps_rollup').read_text(encoding='ascii').splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith('Pss:')) / 1024


def make_index(folder: Path, count: int) -> None:
    """Write an index of EVE's shape: 39 persons, recordings of 180 frames, random labels."""
    rng = np.random.default_rng(0)
    recording, frame = np.divmod(np.arange(count), 180)
    steps = [f'train{r % 39 + 1:02d}/step{r % 120:03d}_image_MIT-i{r:010d}' for r in range(recording[-1] + 1)]
    cells: dict[str, object] = {
        'sample_id': [f'{steps[r]}/webcam_c/{f:06d}' for r, f in zip(recording, frame, strict=True)],
        'image': [f'images/{r % 64:02d}.h5#webcam_c_{r:08d}/{f}' for r, f in zip(recording, frame, strict=True)],
        'subject': [steps[r][:7] for r in recording],
        'sequence': [steps[r][8:] for r in recording],
        'face_box_px': rng.uniform((100, 50, 200, 150), (150, 100, 300, 250), (count, 4)),
    }
    cells |= {name: [value] * count for name, value in (('split', 'train'), ('camera', 'webcam_c'), ('rig', 'r'))}
    arrays = []
    for column in COLUMNS:
        kind, values = column.field().type, cells.pop(column.name, None)
        if values is None and column.type == 'string':
            values = ['desk'] * count
        elif values is None:
            values = rng.integers(0, 2 if column.type == 'bool' else 180, count)
            values = rng.normal(0, 100, (count, max(column.size, 1))) if column.type.startswith('float') else values
        if isinstance(values, np.ndarray):
            flat = pa.array(values.astype(column.type).reshape(-1))
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, column.size) if column.size else flat)
        else:
            arrays.append(pa.array(values, kind))
    declared = {'version': SCHEMA_VERSION, 'dataset': 'eve', 'gaze_frame': 'camera', 'pose_rule': 'ray'}
    metadata = {f'evg.{key}': str(value) for key, value in declared.items()}
    metadata['evg.rigs'] = json.dumps({'r': rig_to_json(RIG)})
    schema = pa.schema([column.field() for column in COLUMNS], metadata)
    write_table(pa.table(arrays, schema=schema), folder / 'index.parquet')
    (folder / 'images').mkdir()
    for number in range(64):
        (folder / f'images/{number:02d}.h5').touch()


def main() -> None:
    """Build, open, read in workers, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rows', type=int, default=1_000_000)
    parser.add_argument('--workers', type=int, default=4)
    parser.add_argument('--json', help='write the figures to this file')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: what it leaves behind would hide what opening takes.
        maker = multiprocessing.get_context('spawn').Process(target=make_index, args=(Path(folder), args.rows))
        maker.start()
        maker.join()
        before, start, cpu = pss_mib(os.getpid()), time.perf_counter(), time.process_time()
        dataset = GazeDataset(folder, [])
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        opened = pss_mib(os.getpid())
        some = np.random.default_rng(0).permutation(len(dataset))[: len(dataset) // 10]
        loader = DataLoader(
            Subset(dataset, some.tolist()), batch_size=64, num_workers=args.workers, persistent_workers=True,
            collate_fn=len, multiprocessing_context='fork',
        )  # fmt: skip
        read = sum(loader)
        workers = [child.pid for child in multiprocessing.active_children()]
        added = sum(pss_mib(process) for process in (os.getpid(), *workers)) - before
    figures = {
        'rows': len(dataset), 'open_s': seconds, 'open_cpu_s': cpu, 'open_added_mib': opened - before,
        'workers': len(workers), 'samples_read': read, 'added_mib': added,
    }  # fmt: skip
    print(', '.join(f'{name} {value:,.2f}'.removesuffix('.00') for name, value in figures.items()))
    if args.json:
        write_json(args.json, figures)


if __name__ == '__main__':
    main()
