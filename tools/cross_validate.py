"""Train and test every fold of a config's protocol: python tools/cross_validate.py CONFIG [--jobs N]."""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from evg.errors import UserError, did_you_mean, needs, run_tool

with needs('train'):
    from evg.config import add_config_arguments, config_from_args
    from evg.datasets.gaze_dataset import label_column
    from evg.datasets.index import read_index
    from evg.evaluation.protocols import Fold, fold_overrides, labelled_persons, pool, render_pooled
    from evg.evaluation.report import number, write_json
    from evg.registry import EVALUATOR

ROOT = Path(__file__).resolve().parent.parent


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train and test every fold of a config's protocol.")
    add_config_arguments(parser)
    parser.add_argument('--folds', nargs='+', metavar='NAME', help='these folds only (a person, or fold1, ...)')
    parser.add_argument('--work-dir', help='results (default: work_dirs/NAME_OF_THE_CONFIG_cv)')
    parser.add_argument('--jobs', type=int, default=1, help='folds at a time')
    return parser.parse_args()


def call(tool: str, log: Path, *words: object) -> None:
    """Run one tool; its output goes to a file."""
    command = [sys.executable, str(ROOT / 'tools' / f'{tool}.py'), *map(str, words)]
    with open(log, 'w', encoding='utf-8') as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        lines = [line for line in log.read_text(encoding='utf-8', errors='replace').splitlines() if line.strip()]
        raise UserError(f'tools/{tool}.py ended with {done.returncode}: {"".join(lines[-1:])} (all of it: {log})')


def run_fold(config: str, options: list[str], fold: Fold, folder: Path, splits: list[str], cfg) -> dict:
    """Train, or go on training, and test one fold; a finished one is read back."""
    done, words = folder / 'result.json', ['--cfg-options', *fold_overrides(cfg, options, fold, splits)]
    settings = {**{key: json.dumps(value) for key, value in cfg.to_dict().items()}, 'fold': fold.to_json()}
    claim = folder / 'settings.json'
    stored = json.loads(claim.read_text(encoding='utf-8')) if claim.is_file() else settings
    other = [key for key in {**stored, **settings} if stored.get(key) != settings.get(key)]
    if other:
        why = f'was begun with other values of {", ".join(other)}'
        raise UserError(f'{folder} {why}: give another --work-dir, or delete it')
    if done.is_file():
        return json.loads(done.read_text(encoding='utf-8'))
    write_json(claim, settings)
    call('train', folder / 'train.log', config, '--work-dir', folder, '--resume', *words)
    best = sorted(folder.glob('best_*.pth'), key=lambda path: path.stat().st_mtime)
    checkpoint = best[-1] if fold.val else (folder / 'last_checkpoint').read_text(encoding='utf-8').strip()
    call('test', folder / 'test.log', config, checkpoint, '--out', folder / 'test.json', *words)
    tested = json.loads((folder / 'test.json').read_text(encoding='utf-8'))
    result = {'fold': fold.to_json(), 'provenance': tested['provenance'], 'reports': tested['reports']}
    write_json(done, result)
    return result


@run_tool
def main() -> None:
    """Run the folds, print and write one table of persons."""
    args = parse_args()
    cfg = config_from_args(args)
    if not cfg.get('data_root'):
        raise UserError(f'{args.config} has no data_root, whose persons would be the folds')
    label = label_column(cfg.get('labels'), cfg.get('plane_rule', 'offset'))
    persons, splits = labelled_persons(read_index(cfg.data_root), label)
    protocol = EVALUATOR.build(cfg.get('protocol') or dict(type='LeaveOneOut'))
    folds = protocol.folds(persons)
    names = [fold.name for fold in folds]
    for name in args.folds or ():
        if name not in names:
            raise UserError(f'there is no fold {name!r}{did_you_mean(name, names)}')
    folds = [fold for fold in folds if not args.folds or fold.name in args.folds]
    work_dir = Path(args.work_dir or Path('work_dirs') / f'{Path(args.config).stem}_cv')
    results, failed = [], []
    with ThreadPoolExecutor(max(args.jobs, 1)) as pool_of_jobs:
        work = (args.config, args.cfg_options)
        waiting = [pool_of_jobs.submit(run_fold, *work, fold, work_dir / fold.name, splits, cfg) for fold in folds]
        try:
            for count, (fold, future) in enumerate(zip(folds, waiting, strict=True), start=1):
                try:
                    results.append(future.result())
                    figures = [(r['metric'], r['overall'][0]['mean'], r['unit']) for r in results[-1]['reports']]
                    words = ', '.join(f'{name} {number(mean)} {unit}' for name, mean, unit in figures)
                except UserError as error:
                    failed.append(fold.name)
                    words = f'FAILED: {error}'
                print(f'[{count}/{len(folds)}] {fold.name}: {words}', flush=True)
        finally:
            pool_of_jobs.shutdown(wait=False, cancel_futures=True)
    if results:
        metrics, leaks = pool(results), [leak for result in results for leak in result['provenance']['leaks']]
        print(f'\n{render_pooled(metrics)}')
        choice = 'the best on the validation persons' if folds[0].val else 'the last one; nobody chose it'
        print(f'checkpoint of each fold: {choice}')
        if cfg.get('allow_leak'):
            print(f'allow_leak=True: {"; ".join(leaks) or "no leak found"}')
        run = {'config': args.config, 'overrides': args.cfg_options, 'checkpoint': choice, 'leaks': leaks}
        run |= {'allow_leak': bool(cfg.get('allow_leak')), 'metrics': metrics, 'folds': results, 'failed': failed}
        write_json(work_dir / 'cross_validation.json', run)
        print(f'figures: {work_dir / "cross_validation.json"}')
    if failed:
        raise UserError(f'{len(failed)} of {len(folds)} folds failed: {", ".join(failed)}; repeat the command to go on')


if __name__ == '__main__':
    main()
