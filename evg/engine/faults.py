"""What can go wrong in a training, and what is left for the next one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from evg.errors import UserError
from evg.evaluation.report import write_json
from evg.registry import HOOKS


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn the death of a loader's worker into one line for the user."""
    try:
        yield
    except RuntimeError as error:
        lines = str(error).strip().splitlines()
        if not lines or not lines[0].startswith('DataLoader worker'):
            raise
        raise UserError(
            f'{lines[0].rstrip(" .")}: a process that loads pictures died, most likely for lack of memory or of shared '
            'memory (/dev/shm); checkpoints are whole: go on with --resume, with a smaller '
            'train_dataloader.num_workers or batch_size'
        ) from error


@HOOKS.register_module()
class StopAtBadLossHook(Hook):
    """Stops the training when a loss is not finite, before such weights are saved, and keeps the names of its pictures.

    Weights that are not finite though the losses are, from a gradient or from another process, are not saved either.

    `bad_batch.json` in the work folder (`bad_batch_N.json` of process N) holds the first bad batch.

    Args:
        interval: look at the losses of so many iterations at once; each look waits for the device.
    """

    priority = 'HIGH'

    def __init__(self, interval: int = 20) -> None:
        if interval < 1:
            raise UserError(f'StopAtBadLossHook needs interval >= 1, not {interval}')
        self.interval = interval
        self._recent: list[tuple[int, dict[str, Any], list]] = []

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Remember the losses, and look at them every `interval` iterations."""
        losses = {name: value.detach() for name, value in outputs.items() if name.startswith('loss')}
        self._recent.append((runner.iter, losses, data_batch['data_samples']))
        if len(self._recent) == self.interval:
            self._check(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Look at the rest."""
        self._check(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Never save weights of a bad step: neither of a bad loss here, nor of a gradient or of another process.

        Raises:
            UserError: a loss or a weight is not finite; the message names it.
        """
        self._check(runner)
        weights = checkpoint['state_dict']
        bad = [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
        if bad:
            raise UserError(
                f'the weights are not finite after iteration {runner.iter}, in {len(bad)} of {len(weights)} tensors '
                f'({bad[0]}), and are not saved: a gradient was not finite, or a loss of another process; go on from '
                'the last checkpoint with a smaller learning rate or without --amp'
            )

    def _check(self, runner: Runner) -> None:
        recent, self._recent = self._recent, []
        if not recent:
            return
        finite = torch.stack([torch.isfinite(losses['loss']).all() for _, losses, _ in recent]).tolist()
        if all(finite):
            return
        iteration, losses, samples = recent[finite.index(False)]
        path = Path(runner.work_dir) / (f'bad_batch_{get_rank()}.json' if get_world_size() > 1 else 'bad_batch.json')
        values = {name: value.item() for name, value in losses.items()}
        named = [{'sample_id': sample.sample_id, 'picture': sample.img_path} for sample in samples]
        text = {name: str(value) for name, value in values.items()}
        write_json(path, {'epoch': runner.epoch + 1, 'iteration': iteration + 1, 'losses': text, 'samples': named})
        bad = ', '.join(f'{name} is {value}' for name, value in text.items() if value in ('nan', 'inf', '-inf'))
        raise UserError(
            f'{bad} in iteration {iteration + 1} (epoch {runner.epoch + 1}): its pictures are listed in {path}; look '
            'at their labels, or go on from the last checkpoint with a smaller learning rate'
        )
