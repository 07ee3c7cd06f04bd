"""A training step: the runner against a bare loop, and what each switch of `speed` gains.

    python benchmarks/train_step.py [CONFIG ...] [--batches N] [--rounds N] [--threads N] [--switches] [--json F]

The runner trains as tools/train.py does (hooks, logs, TensorBoard) on batches that are in memory. After each of its
steps a bare loop takes the same batch through the same network, losses and optimiser, so that other work on the
machine hits both. `runner_overhead` is the median over the rounds of runner / bare - 1, for the worst of the configs,
in CPU time where there is no GPU.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from evg.config import load_config
from evg.datasets.collate import collate_gaze
from evg.engine.launch import build_runner
from evg.evaluation.report import write_json
from evg.registry import DATASETS

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ('configs/ctdet_gaze/nano_synth_160.py', 'configs/ctdet_gaze/mobv2_synth_480.py')
# What a configuration without the switch does stands under 'base'.
SWITCHES: dict[str, list[str]] = {
    'base': [],
    'contiguous': ['preprocessor.memory_format=contiguous'],
    'bf16': ['speed.amp=bf16'],
    'compile': ['speed.compile=True'],
    'fused': ['speed.fused=True'],
    'accumulate 4': ['speed.accumulate=4'],
    'ema': ['ema={"type":"EMAHook","momentum":0.005,"update_buffers":True}'],
}


def clock() -> float:
    """Seconds: CPU time of this process, or wall time where a GPU works."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


class Start(Hook):
    """Gives the loop its batches and starts the watch, before any other hook of an epoch."""

    priority = 'HIGHEST'

    def __init__(self, batches: list) -> None:
        self.batches = batches

    def before_train_epoch(self, runner: Runner) -> None:
        runner.train_loop.dataloader = DataLoader(self.batches, batch_size=1, collate_fn=_only)
        self.at = clock()


class Compare(Hook):
    """Stops the watch after all other hooks of a step, and takes the batch through a bare loop."""

    priority = 'LOWEST'

    def __init__(self, start: Start) -> None:
        self.start = start
        self.rounds: list[tuple[float, float]] = []

    def before_train_epoch(self, runner: Runner) -> None:
        self.of_runner = self.alone = 0.0

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        at = clock()
        self.of_runner += at - self.start.at
        bare(runner.model, runner.optim_wrapper.optimizer, [data_batch])
        self.start.at = clock()
        self.alone += self.start.at - at

    def after_train_epoch(self, runner: Runner) -> None:
        self.rounds.append((self.of_runner + clock() - self.start.at, self.alone))


def _only(items: list) -> Any:
    return items[0]


def bare(model: Any, optimizer: torch.optim.Optimizer, batches: list) -> None:
    """The loop that anyone would write, with the gradient's limit of the configs."""
    for batch in batches:
        losses = model(**model.data_preprocessor(batch, True), mode='loss')
        loss = sum(value for name, value in losses.items() if name.startswith('loss'))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()


def loaded(config: str, folder: Path, overrides: list[str]) -> Any:
    """A config on a small synthetic data set, without validation but at the end."""
    cfg = load_config(ROOT / config)
    geometry, size = ('close', (160, 96)) if 'close' in cfg.data_root else ('eve', (480, 270))
    data = folder / geometry
    if not data.is_dir():
        shape = ['--persons', 8, '--frames', 16, '--geometry', geometry, '--size', *size, '--split-persons', 6, 1, 1]
        tool = [sys.executable, ROOT / 'tools' / 'prepare_data.py', 'synth', '--out', data, *map(str, shape)]
        subprocess.run(tool, check=True, capture_output=True, cwd=ROOT)
    cfg = load_config(
        ROOT / config, [f'data_root={data}', 'early_stop=None', f'train_cfg.val_interval={10**9}', *overrides]
    )
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=-1)
    if 'pretrained' in cfg.model.backbone:
        cfg.model.backbone.pretrained = None
    cfg.train_dataloader.num_workers = 0
    return cfg


def in_memory(cfg: Any, count: int, size: int) -> list:
    """Batches as the loader would give them."""
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    return [collate_gaze([dataset[(b * size + i) % len(dataset)] for i in range(size)]) for b in range(count)]


def overhead(config: str, folder: Path, batches: int, size: int, rounds: int) -> dict[str, float]:
    """Seconds of a batch in the runner and in the bare loop."""
    cfg = loaded(config, folder, [f'train_cfg.max_epochs={rounds + 1}'])
    runner = build_runner(cfg, folder / f'run_{Path(config).stem}')
    start = Start(in_memory(cfg, batches, size))
    compare = Compare(start)
    runner.register_hook(start)
    runner.register_hook(compare)
    runner.train()
    # The first round is slower for both: memory is allocated.
    pairs = compare.rounds[1:]
    of_runner, alone = (statistics.median(column) / batches for column in zip(*pairs, strict=True))
    return {
        'runner_ms': of_runner * 1e3,
        'bare_ms': alone * 1e3,
        'overhead': statistics.median(a / b for a, b in pairs) - 1,
        'images_per_s': size / of_runner,
    }


def switches(config: str, folder: Path, batches: int, size: int, rounds: int) -> dict[str, float]:
    """Time of a step with each switch, as a ratio to the step without; they take turns, batch by batch."""
    steps = {name: step(config, folder, name, over) for name, over in SWITCHES.items()}
    data = in_memory(loaded(config, folder, []), batches, size)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, run in steps.items():
            at = clock()
            for batch in data:
                run(batch)
            times[name].append(clock() - at)
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    return {name: value / medians['base'] for name, value in medians.items()}


def step(config: str, folder: Path, name: str, overrides: list[str]) -> Callable[[Any], None]:
    """What the runner's loop calls for a batch, with the average of the weights where a switch asks for it."""
    cfg = loaded(config, folder, overrides)
    runner = build_runner(cfg, folder / f'switch_{name.replace(" ", "_")}')
    wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    wrapper.initialize_count_status(runner.model, 0, 10**9)
    averages = list(_averages(runner))

    def run(batch: Any) -> None:
        runner.model.train()
        runner.model.train_step(batch, optim_wrapper=wrapper)
        for average in averages:
            average.update_parameters(runner.model)

    return run


def _averages(runner: Runner) -> Iterator[Any]:
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            hook.before_run(runner)
            yield hook.ema_model


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='*', default=CONFIGS, help='synthetic configs')
    parser.add_argument('--batches', type=int, default=20, help='of a round')
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--threads', type=int, default=1, help='of torch')
    parser.add_argument('--switches', action='store_true', help='measure them too')
    parser.add_argument('--json', help='write the figures to this file')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as made:
        for config in args.configs:
            shape = (Path(made), args.batches, args.batch_size, args.rounds)
            found = overhead(config, *shape)
            if args.switches:
                found.update({f'switch {name}': ratio for name, ratio in switches(config, *shape).items()})
            figures.update({f'{Path(config).stem} {name}': value for name, value in found.items()})
        figures['runner_overhead'] = max(value for name, value in figures.items() if name.endswith(' overhead'))
    for name, value in figures.items():
        print(f'{name}: {value:.3f}')
    if args.json:
        write_json(args.json, figures)


if __name__ == '__main__':
    main()
