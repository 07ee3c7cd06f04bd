"""The loop over epochs that a scheduler may stop at any moment."""

import itertools
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dist import all_reduce, all_reduce_params, get_world_size, is_main_process
from mmengine.hooks import EMAHook
from mmengine.registry import FUNCTIONS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import Sampler

from evg.engine.work_dir import drop_interrupted, interrupted_name
from evg.errors import UserError
from evg.registry import LOOPS

# Where a checkpoint in mid-epoch keeps what an epoch's beginning would set anew.
STATE = 'mid_epoch'
# Processes agree to stop after about so many iterations: asking waits for all of them.
_ASK_EVERY = 10


@LOOPS.register_module()
class ResumableLoop(EpochBasedTrainLoop):
    """mmengine's loop over epochs; at SIGTERM it writes a checkpoint and ends the process with 0.

    A run that resumes from this checkpoint goes on with the very next batch of the interrupted epoch: same order of the
    samples, same random numbers. A validation that has begun is finished first.

    In several processes the buffers (statistics of batch norms) are averaged before an epoch ends or a checkpoint is
    written, those of averaged weights too: what is validated is what is saved.

    The arguments are those of mmengine's `EpochBasedTrainLoop`. It raises a `UserError` where there is not one batch.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: Any,
        max_epochs: int,
        val_begin: int = 1,
        val_interval: int = 1,
        dynamic_intervals: list[tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(runner, dataloader, max_epochs, val_begin, val_interval, dynamic_intervals)
        if not len(self.dataloader):
            size, processes, samples = self._shape().values()
            shared = f' in each of {processes} processes' if processes > 1 else ''
            raise UserError(
                f'{samples} training samples do not fill one batch of {size}{shared}: nothing would be trained; '
                f'--cfg-options train_dataloader.batch_size={max(1, samples // processes)}'
            )

    def run(self) -> torch.nn.Module:
        """Train; see the class."""
        with _sigterm() as self._asked:
            return super().run()

    def run_epoch(self) -> None:
        """One epoch, or what is left of it."""
        self._stop_if_asked(0)
        runner = self.runner
        # Not before the hooks: they seed the epoch.
        runner.call_hook('before_train_epoch')
        runner.model.train()
        state = self._state_of_the_interrupted()
        done = state['done'] if state else 0
        for index, batch in enumerate(self._batches(done), start=done):
            if index == done and done:
                _set_random_state(state['random'])
            self.run_iter(index, batch)
            self._stop_if_asked(index + 1)
        _average_buffers(runner)
        runner.call_hook('after_train_epoch')
        self._epoch += 1
        if is_main_process():
            drop_interrupted(runner.work_dir)

    def _batches(self, first: int) -> Iterator[Any]:
        """The epoch's batches from one on; those before it are not loaded."""
        batches = self.dataloader.batch_sampler
        samples = batches.sampler
        if first:
            batches.sampler = _Rest(samples, first * batches.batch_size)
        try:
            yield from self.dataloader
        finally:
            batches.sampler = samples

    def _shape(self) -> dict[str, int]:
        """What the place in an epoch is counted in."""
        return {
            'batch_size': self.dataloader.batch_sampler.batch_size,
            'processes': get_world_size(),
            'samples': len(self.dataloader.dataset),
        }

    def _state_of_the_interrupted(self) -> dict[str, Any]:
        hub = self.runner.message_hub
        state = hub.get_info(STATE, None) or {}
        hub.update_info(STATE, None)
        if state and state['done'] and state['shape'] != self._shape():
            raise UserError(
                f'the checkpoint is from the middle of an epoch with {state["shape"]}, this run has {self._shape()}: '
                'go on with the same numbers, or from the checkpoint of a finished epoch, --resume WORK_DIR/model_N.pth'
            )
        return state

    def _stop_if_asked(self, done: int) -> None:
        if not self._all_stop():
            return
        runner, name = self.runner, interrupted_name(self._epoch, self._iter)
        # They change linearly: the average at the end of the epoch is the same as without this one.
        _average_buffers(runner)
        runner.message_hub.update_info(STATE, {'done': done, 'shape': self._shape(), 'random': _random_state()})
        runner.save_checkpoint(runner.work_dir, name, meta={'epoch': self._epoch, 'iter': self._iter})
        runner.logger.info(f'stopped by SIGTERM after {self._iter} iterations; --resume goes on from {name}')
        runner.call_hook('after_run')
        raise SystemExit(0)

    def _all_stop(self) -> bool:
        """Whether a signal came; the same answer in all processes, as one that is left alone would wait for ever."""
        # Not between the steps of an accumulated gradient, which no checkpoint holds.
        accumulate = getattr(self.runner.optim_wrapper, '_accumulative_counts', 1)
        alone = get_world_size() == 1
        if self._iter % (accumulate if alone else accumulate * max(1, round(_ASK_EVERY / accumulate))):
            return False
        if alone:
            return self._asked.is_set()
        asked = torch.tensor(float(self._asked.is_set()), device=next(self.runner.model.parameters()).device)
        all_reduce(asked, 'max')
        return bool(asked.item())


def _average_buffers(runner: Runner) -> None:
    """Make every process's buffers their mean over the processes, also those of averaged weights (`ema`)."""
    models = [runner.model, *(hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook))]
    all_reduce_params([b for model in models for b in model.buffers() if b.is_floating_point()], op='mean')


class _Rest(Sampler[int]):
    """A sampler without its first samples, and with the length of the whole."""

    def __init__(self, samples: Any, first: int) -> None:
        self._samples = samples
        self._first = first

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(iter(self._samples), self._first, None)

    def __len__(self) -> int:
        return len(self._samples)


@contextmanager
def _sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, instead of ending the process."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


@FUNCTIONS.register_module()
def ignore_sigterm(worker: int) -> None:
    """Start of a loader's worker: only its parent may end it.

    Schedulers signal every process of a job; with its workers dead, the main one could not end in order.

    Args:
        worker: its number, which torch gives.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    threading.Thread(target=_obey_parent, daemon=True).start()


def _obey_parent() -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)


def _random_state() -> list[str]:
    """State of torch's generators on the CPU and the current GPU, as text."""
    states = [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if torch.cuda.is_available() else [])]
    return [bytes(state.tolist()).hex() for state in states]


def _set_random_state(states: Iterable[str]) -> None:
    cpu, *gpu = (torch.tensor(list(bytes.fromhex(state)), dtype=torch.uint8) for state in states)
    torch.set_rng_state(cpu)
    if gpu and torch.cuda.is_available():
        torch.cuda.set_rng_state(gpu[0])
