"""The end of a training in a few lines: what it reached, what it cost, and the command that tests it."""

import datetime
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner

from evg.engine.leak_guard import persons_of
from evg.engine.observe import TOTALS
from evg.engine.work_dir import newest_checkpoint
from evg.evaluation.report import number, write_json
from evg.registry import HOOKS

FILE_NAME = 'run_summary.json'


@HOOKS.register_module()
class SummaryHook(Hook):
    """Ends a training, also one that stopped early, with a summary: in the log and in `run_summary.json`.

    Times, images and memory are those of the whole training, earlier starts of a resumed one included.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self._last: dict[str, Any] | None = None

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Take away the summary of an earlier start: this one may not reach its end."""
        (Path(runner.work_dir) / FILE_NAME).unlink(missing_ok=True)

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Remember the newest figures."""
        self._last = {'epoch': runner.epoch, 'figures': dict(metrics or {})}

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Write the file and the log's last lines."""
        summary = summarise(runner, self._last)
        path = Path(runner.work_dir) / FILE_NAME
        write_json(path, summary)
        for line in [*summary_lines(summary), f'Summary: {shown(path)}']:
            runner.logger.info(line)
        if summary['test']:
            runner.logger.info(f'Done. Test {summary["test"]["checkpoint"]}: {summary["test"]["command"]}')


def summarise(runner: Runner, last: dict[str, Any] | None) -> dict[str, Any]:
    """What `run_summary.json` holds.

    Args:
        runner: at the end of its training.
        last: epoch and figures of the last validation, None where there was none.
    """
    best = best_checkpoint(runner)
    totals = runner.message_hub.get_info(TOTALS) or {}
    seconds = totals.get('train_s')
    memory = {'process': 'rss_mib', 'workers': 'workers_mib', 'gpu': 'gpu_mib'}
    return {
        'config': _config(runner),
        'overrides': list(runner.cfg.get('overrides') or []),
        'epochs': runner.epoch,
        'max_epochs': runner.max_epochs,
        'iterations': runner.iter,
        'duration_s': totals.get('wall_s'),
        'images': totals.get('images'),
        'images_per_s': totals['images'] / seconds if seconds else None,
        'data_wait': totals['wait_s'] / seconds if seconds else None,
        'memory_mib': {name: totals.get(key) or None for name, key in memory.items()},
        'best': best,
        'last': last,
        'test': _test(runner, best),
    }


def best_checkpoint(runner: Runner) -> dict[str, Any] | None:
    """Path, metric, value and epoch of the best checkpoint, of the first metric if several are watched; or None."""
    saver = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook) and hook.save_best), None)
    if saver is None:
        return None
    metric = saver.key_indicators[0]
    tail = '' if len(saver.key_indicators) == 1 else f'_{metric}'
    path = runner.message_hub.get_info(f'best_ckpt{tail}')
    if path is None:
        return None
    # A work folder may have been moved between two starts.
    path = Path(saver.out_dir) / Path(path).name
    epoch = re.search(r'(\d+)\.pth$', path.name)
    value = float(runner.message_hub.get_info(f'best_score{tail}'))
    return {'checkpoint': shown(path), 'metric': metric, 'value': value, 'epoch': int(epoch[1]) if epoch else None}


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """The summary for the log."""
    epochs, of, iterations = (summary[name] for name in ('epochs', 'max_epochs', 'iterations'))
    lines = [f'Trained {epochs} of {of} epochs{", stopped early" if epochs < of else ""}, {iterations} iterations']
    if summary['images_per_s'] is not None:
        duration, rate = datetime.timedelta(seconds=round(summary['duration_s'])), number(summary['images_per_s'])
        memory = ', '.join(f'{name} {mib}' for name, mib in summary['memory_mib'].items() if mib)
        lines += [
            f'Time: {duration}; training: {rate} images/s, {100 * summary["data_wait"]:.1f} % of it waiting for data',
            f'Memory at its peak, MiB: {memory}',
        ]
    best, last = summary['best'], summary['last']
    if best:
        lines.append(f'Best {best["metric"]}: {number(best["value"])} in epoch {best["epoch"]}, {best["checkpoint"]}')
    if last:
        metrics = [best['metric']] if best and best['metric'] in last['figures'] else list(last['figures'])
        figures = ', '.join(f'{name} {number(last["figures"][name])}' for name in metrics)
        lines.append(f'Last validation, epoch {last["epoch"]}: {figures}')
    return lines


def shown(path: str | Path) -> str:
    """A path as it is typed: relative to the current folder where it is in there."""
    path, here = Path(path).absolute(), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _config(runner: Runner) -> str | None:
    return shown(runner.cfg.filename) if runner.cfg.filename else None


def _test(runner: Runner, best: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Which checkpoint may be tested, and the command for it; None where there is nothing to test, or with."""
    cfg, config = runner.cfg, _config(runner)
    shared = persons_of(cfg.get('val_dataloader')) & persons_of(cfg.get('test_dataloader'))
    # tools/test.py refuses one that was chosen on the test.
    refused = best is not None and shared and not cfg.get('allow_leak')
    if best is None or refused:
        which = 'the last checkpoint' + (' (validation and test share persons)' if refused else '')
        newest = newest_checkpoint(runner.work_dir)
        path = shown(newest) if newest else None
    else:
        which, path = 'the best checkpoint', best['checkpoint']
    if path is None or config is None or not cfg.get('test_dataloader'):
        return None
    words = ['python', 'tools/test.py', config, path]
    if cfg.get('overrides'):
        words += ['--cfg-options', *cfg.overrides]
    return {'checkpoint': which, 'command': shlex.join(words)}
