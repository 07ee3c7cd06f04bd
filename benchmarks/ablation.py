"""Train variants of a config with several seeds and compare them: mean and 95 % confidence interval over the seeds.

python benchmarks/ablation.py CONFIG --out DIR --seeds 0 1 2 \\
    --variant none pog_weight=0 --variant distance pog_weight=0.3 [--common train_cfg.max_epochs=4]

A run that is finished is not repeated, so an interrupted comparison goes on where it stopped.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from evg.engine.launch import newest_checkpoint
from evg.errors import UserError, run_tool
from evg.evaluation.functional import mean_ci95
from evg.evaluation.report import write_json

ROOT = Path(__file__).resolve().parent.parent


def run(config: str, out: Path, name: str, seed: int, overrides: list[str]) -> dict[str, float]:
    """Train and test one variant with one seed, each by its tool; returns the figures of the last epoch."""
    folder = out / name / f'seed{seed}'
    figures = folder / 'figures.json'
    if not figures.is_file():
        options = ['--cfg-options', f'randomness.seed={seed}', *overrides]
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / 'log.txt', 'a') as log:
            train = [sys.executable, 'tools/train.py', config, '--work-dir', str(folder), '--resume', *options]
            _call(train, log)
            checkpoint = newest_checkpoint(folder)
            test = [sys.executable, 'tools/test.py', config, checkpoint, '--out', str(figures), *options]
            _call(test, log)
    return json.loads(figures.read_text())['figures']


def _call(command: list[str], log) -> None:
    if subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False).returncode:
        raise UserError(f'{" ".join(command[1:3])} failed; its output is in {log.name}')


@run_tool
def main() -> None:
    """Run all, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('--out', type=Path, required=True, help='folder of the runs')
    parser.add_argument('--variant', nargs='+', action='append', required=True, metavar=('NAME', 'KEY=VALUE'))
    parser.add_argument('--common', nargs='*', default=[], metavar='KEY=VALUE', help='overrides of every variant')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time')
    parser.add_argument('--metric', default='pog/mean_mm', help='the figure to compare')
    args = parser.parse_args()
    out = args.out.resolve()
    # Seeds outside, so that an early look compares all variants.
    plan = [(seed, name, options) for seed in args.seeds for name, *options in args.variant]
    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = [
            (name, pool.submit(run, args.config, out, name, seed, [*args.common, *options]))
            for seed, name, options in plan
        ]
        results: dict[str, list[float]] = {}
        for name, job in jobs:
            results.setdefault(name, []).append(job.result()[args.metric])
    print(f'| variant | {args.metric}, mean of {len(args.seeds)} seeds | 95 % CI | each |\n|---|---|---|---|')
    for name, values in results.items():
        mean, half = mean_ci95(values)
        print(f'| {name} | {mean:.1f} | +- {half:.1f} | {", ".join(f"{v:.1f}" for v in values)} |')
    summary = {'config': args.config, 'metric': args.metric, 'seeds': args.seeds, 'results': results}
    write_json(out / 'ablation.json', summary)


if __name__ == '__main__':
    main()
