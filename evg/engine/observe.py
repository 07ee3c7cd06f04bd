"""What a training shows of itself: images per second, waiting for data and memory beside the losses; pictures."""

import multiprocessing
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend

from evg.engine.runner import bare_model
from evg.engine.show import prediction_sheets, spread
from evg.errors import UserError
from evg.files import atomic_write
from evg.registry import HOOKS

# Where the message hub, and so every checkpoint, keeps the sums over a training and its peaks of memory.
TOTALS = 'throughput'
_NOTHING = {'images': 0, 'train_s': 0.0, 'wait_s': 0.0, 'wall_s': 0.0, 'rss_mib': 0, 'workers_mib': 0, 'gpu_mib': 0}


@HOOKS.register_module()
class ThroughputLoggerHook(LoggerHook):
    """mmengine's logger, with the error in mm and what the machine did since the line before.

    - `pog_mm`: of models with a virtual plane, the mean of `pog_vp_px` over the log's window, in mm of the plane.
    - `images_per_s`: pictures of all processes; validation and checkpoints of epochs do not count.
    - `data_wait`: share 0..1 of that time in which this process had no batch. mmengine's `data_time` also holds what
      hooks do at the end of an iteration, averaging weights for instance.
    - `rss_mib`, `workers_mib`: resident memory of this process, and of its loaders' workers together. Memory that
      workers share counts for each of them.

    The sums go into checkpoints: a resumed run goes on with them.
    """

    def before_train(self, runner: Runner) -> None:
        """Begin, or go on with the sums of a resumed run."""
        hub = runner.message_hub
        self._totals: dict[str, Any] = {**_NOTHING, **((hub.get_info(TOTALS) or {}) if runner.iter else {})}
        self._shown = dict(self._totals)
        self._processes = get_world_size()
        # The main codec is the first one.
        main = next(iter(getattr(bare_model(runner.model), 'codecs', {}).values()), None)
        self._plane = getattr(main, 'virtual_plane', None)
        self._start = perf_counter() - self._totals['wall_s']
        hub.update_info(TOTALS, self._totals)

    def before_train_epoch(self, runner: Runner) -> None:
        """From here on the loop waits for the first batch."""
        self._counted = self._waiting_since = perf_counter()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """The batch is there."""
        self._totals['wait_s'] += perf_counter() - self._waiting_since

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Count the iteration; log where it is time to."""
        now = perf_counter()
        self._totals['images'] += len(data_batch['inputs']) * self._processes
        self._totals['train_s'] += now - self._counted
        self._totals['wall_s'] = now - self._start
        self._counted = now
        if self._writes(runner.train_dataloader, batch_idx):
            self._show(runner)
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        self._waiting_since = perf_counter()

    def after_val(self, runner: Runner) -> None:
        """A validation between two iterations is neither training nor waiting."""
        self.before_train_epoch(runner)

    def after_train(self, runner: Runner) -> None:
        """The time of the last validation."""
        self._totals['wall_s'] = perf_counter() - self._start

    def _writes(self, loader: Any, batch_idx: int) -> bool:
        """Whether mmengine's logger will write a line after this iteration."""
        last = self.end_of_epoch(loader, batch_idx) and not (self.ignore_last and len(loader) > self.interval)
        return last or self.every_n_inner_iters(batch_idx, self.interval)

    def _show(self, runner: Runner) -> None:
        totals, hub = self._totals, runner.message_hub
        since = {name: totals[name] - self._shown[name] for name in ('images', 'train_s', 'wait_s')}
        if self._plane is not None:
            distance_px = hub.get_scalar('train/pog_vp_px').mean(runner.log_processor.window_size)
            hub.update_scalar('train/pog_mm', distance_px / self._plane.ppm)
        hub.update_scalar('train/images_per_s', since['images'] / since['train_s'])
        hub.update_scalar('train/data_wait', since['wait_s'] / since['train_s'])
        workers = [process.pid for process in multiprocessing.active_children() if process.pid]
        memory = {'rss_mib': resident_mib([os.getpid()]), **({'workers_mib': resident_mib(workers)} if workers else {})}
        for name, mib in memory.items():
            hub.update_scalar(f'train/{name}', mib)
        if torch.cuda.is_available():
            # mmengine's line shows it as `memory`, and begins its peak anew.
            memory['gpu_mib'] = torch.cuda.max_memory_allocated() >> 20
        totals.update({name: max(totals[name], mib) for name, mib in memory.items()})
        self._shown = dict(totals)


def resident_mib(processes: Iterable[int]) -> int:
    """Resident memory of processes together, MiB.

    Args:
        processes: their numbers; one that has ended counts nothing, nor does any on a system without /proc.
    """
    pages = 0
    for process in processes:
        try:
            pages += int(Path(f'/proc/{process}/statm').read_text(encoding='ascii').split()[1])
        except OSError:
            continue
    return pages * os.sysconf('SC_PAGE_SIZE') >> 20


@HOOKS.register_module()
class ShowPredictionsHook(Hook):
    """Draws predictions of validation samples, always the same ones, after the validation of every so manieth epoch.

    They go to `pictures/epoch_NNN_SAMPLE.jpg` in the work folder, and as `predictions/0`, `predictions/1`, ... to
    TensorBoard and the like. They are of the weights that were validated, averaged ones included. The training goes on
    as it would without them.

    Args:
        interval: every so many epochs; 0 for never.
        count: how many samples, evenly spread over the validation.
    """

    # Averaged weights are taken back at NORMAL.
    priority = 'HIGH'

    def __init__(self, interval: int = 0, count: int = 4) -> None:
        if interval < 0 or count < 1:
            raise UserError(f'ShowPredictionsHook needs interval >= 0 and count >= 1, not {interval} and {count}')
        self.interval = interval
        self.count = count

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Draw, in every process, as each may hold but a part of the weights; write in the main one."""
        if not self.interval or runner.epoch % self.interval:
            return
        dataset = runner.val_dataloader.dataset
        sheets = list(prediction_sheets(bare_model(runner.model), dataset, spread(len(dataset), self.count)))
        if is_main_process():
            _keep(runner, sheets)


def _keep(runner: Runner, sheets: Sequence[tuple[str, Any]]) -> None:
    """Write sheets (sample id, BGR picture) into the work folder and to the visualizer's backends."""
    # Of these, mmengine's local one only writes files.
    backends = [b for b in runner.visualizer._vis_backends.values() if not isinstance(b, LocalVisBackend)]
    for number, (sample_id, sheet) in enumerate(sheets):
        name = f'epoch_{runner.epoch:03d}_{sample_id.replace("/", "_")}.jpg'
        with atomic_write(Path(runner.work_dir) / 'pictures' / name) as file:
            file.write(cv2.imencode('.jpg', sheet)[1].tobytes())
        for backend in backends:
            backend.add_image(f'predictions/{number}', sheet[..., ::-1], step=runner.epoch)
