"""Train variants of a config with several seeds and compare them: means and 95 % confidence intervals over the seeds.

The first variant is what the others are compared with, seed by seed.

python benchmarks/ablation.py CONFIG --out DIR --seeds 0 1 2 \\
    --variant none pog_weight=0 --variant distance pog_weight=0.3 [--common train_cfg.max_epochs=4] \\
    [--retest distance flip model.flip_test=True]

`--retest VARIANT NAME KEY=VALUE...` tests the networks of a variant once more with other settings.
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


def run(
    config: str, out: Path, name: str, seed: int, overrides: list[str], retests: dict[str, list[str]]
) -> dict[str, dict[str, float]]:
    """Train and test one variant with one seed, each by its tool; the figures of the last epoch, by variant."""
    folder = out / name / f'seed{seed}'
    figures = folder / 'figures.json'
    if not figures.is_file():
        options = ['--cfg-options', f'randomness.seed={seed}', *overrides]
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / 'log.txt', 'a') as log:
            train = [sys.executable, 'tools/train.py', config, '--work-dir', str(folder), '--resume', *options]
            _call(train, log)
            _test(config, folder, figures, options, log)
    found = {name: _figures(figures)}
    for retest, more in retests.items():
        again = folder / f'figures_{retest}.json'
        if not again.is_file():
            with open(folder / 'log.txt', 'a') as log:
                options = ['--cfg-options', f'randomness.seed={seed}', *overrides, *more]
                _test(config, folder, again, options, log)
        found[retest] = _figures(again)
    return found


def _test(config: str, folder: Path, figures: Path, options: list[str], log) -> None:
    checkpoint = newest_checkpoint(folder)
    _call([sys.executable, 'tools/test.py', config, str(checkpoint), '--out', str(figures), *options], log)


def _figures(path: Path) -> dict[str, float]:
    return json.loads(path.read_text())['figures']


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
    parser.add_argument(
        '--retest', nargs='+', action='append', default=[], metavar=('VARIANT', 'NAME'), help='NAME KEY=VALUE...'
    )
    parser.add_argument('--common', nargs='*', default=[], metavar='KEY=VALUE', help='overrides of every variant')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time')
    parser.add_argument('--metric', default='pog/mean_mm', help='the figure to compare')
    args = parser.parse_args()
    out = args.out.resolve()
    # Seeds outside, so that an early look compares all variants.
    plan = [(seed, name, options) for seed in args.seeds for name, *options in args.variant]
    with ThreadPoolExecutor(args.jobs) as pool:
        retests = {name: {new: more for of, new, *more in args.retest if of == name} for _, name, _ in plan}
        jobs = [
            pool.submit(run, args.config, out, name, seed, [*args.common, *options], retests[name])
            for seed, name, options in plan
        ]
        results: dict[str, list[float]] = {}
        for job in jobs:
            for name, figures in job.result().items():
                results.setdefault(name, []).append(figures[args.metric])
    first, base = next(iter(results.items()))
    print(f'| variant | {args.metric}, mean of {len(args.seeds)} seeds, 95 % CI | minus {first}, 95 % CI | each seed |')
    print('|---|---|---|---|')
    for name, values in results.items():
        # Of the same seeds: what the seeds have in common falls out.
        pairs = [v - b for v, b in zip(values, base, strict=True)]
        (mean, half), (more, more_half) = mean_ci95(values), mean_ci95(pairs)
        change = '' if name == first else f'{more:+.1f} +- {more_half:.1f}'
        print(f'| {name} | {mean:.1f} +- {half:.1f} | {change} | {", ".join(f"{v:.1f}" for v in values)} |')
    summary = {'config': args.config, 'metric': args.metric, 'seeds': args.seeds, 'results': results}
    write_json(out / 'ablation.json', summary)


if __name__ == '__main__':
    main()
