"""Early stop: end a training that has got worse for good."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from evg.errors import UserError
from evg.evaluation.report import write_json
from evg.registry import HOOKS

FILE_NAME = 'early_stop.json'
History = list[tuple[int, float | None]]  # iterations done, value of the monitor (None: not finite)


@HOOKS.register_module()
class EarlyStopByDelta(Hook):
    """Stop the training at the `patience`-th validation that is worse than the best one by more than `delta`.

    After each validation: value <= best makes it the best and sets the count to 0; worse by at most `delta` changes
    nothing; worse by more counts one, and so does a value that is not finite. Training stops when the count reaches
    `patience`. EVG's rule, for an error (smaller is better).

    The history goes into checkpoints. A regular checkpoint is written before its epoch is validated, so the history
    also goes into `early_stop.json` in the work folder, from which a resumed run takes the value that is lacking.

    Args:
        monitor: key of the metric.
        patience: how many counts stop the training.
        delta: in the unit of the metric; VP px with the default monitor.
    """

    def __init__(self, monitor: str = 'pog/mean_vp_px', patience: int = 4, delta: float = 10.0) -> None:
        if patience < 1 or not delta >= 0:
            raise UserError(f'EarlyStopByDelta needs patience >= 1 and delta >= 0, not {patience} and {delta}')
        self.monitor = monitor
        self.patience = patience
        self.delta = delta
        self.history: History = []

    def state(self) -> tuple[float, int]:
        """(best, count) after the whole history; best is infinite before the first finite value."""
        best, count = math.inf, 0
        for _, value in self.history:
            if value is not None and value <= best:
                best, count = value, 0
            elif value is None or value - best > self.delta:
                count += 1
        return best, count

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Read the history."""
        self.history = self._read(checkpoint.get('meta', {}).get('early_stop'))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Store the history."""
        checkpoint['meta']['early_stop'] = {'monitor': self.monitor, 'history': list(self.history)}

    def before_train(self, runner: Runner) -> None:
        """Go on with the history of a resumed run, and stop at once if it says so; a new run begins with none."""
        path = Path(runner.work_dir) / FILE_NAME
        if runner.iter == 0:
            # Weights that a new run starts from brought the history of another one.
            self.history = []
            if is_main_process():
                path.unlink(missing_ok=True)
            return
        shared: list[Any] = [[]]
        # Only the main process reads: all must decide the same, also without a common file system.
        if is_main_process() and path.is_file():
            shared[0] = self._read(json.loads(path.read_text(encoding='utf-8')))
        broadcast_object_list(shared)
        recorded = [entry for entry in shared[0] if entry[0] <= runner.iter]
        # The file of another run does not begin like this one.
        if recorded[: len(self.history)] == self.history:
            self.history = recorded
        if self.state()[1] >= self.patience:
            self._stop(runner)

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Count and decide.

        Raises:
            UserError: no metric is called `monitor`; the message names the nearest or all of them.
        """
        if runner.iter == 0:  # a validation on its own, outside a training
            return
        metrics = metrics or {}
        if self.monitor not in metrics:
            names = ', '.join(metrics) or 'none'
            raise UserError(f'EarlyStopByDelta monitors {self.monitor!r}, which no metric gives; available: {names}')
        value = float(metrics[self.monitor])
        self.history.append((runner.iter, value if math.isfinite(value) else None))
        if is_main_process():
            write_json(Path(runner.work_dir) / FILE_NAME, {'monitor': self.monitor, 'history': self.history})
        if self.state()[1] >= self.patience:
            self._stop(runner)

    def _stop(self, runner: Runner) -> None:
        best, count = self.state()
        value = self.history[-1][1]
        runner.train_loop.stop_training = True
        runner.logger.info(
            f'early stop: {self.monitor} is {"not finite" if value is None else f"{value:.2f}"}; {count} validations '
            f'were worse than the best, {best:.2f}, by more than {self.delta:g} (patience {self.patience})'
        )

    def _read(self, stored: Mapping[str, Any] | None) -> History:
        """The history in a checkpoint or file, if it is one of this monitor."""
        if not stored or stored['monitor'] != self.monitor:
            return []
        entries: Sequence[Sequence] = stored['history']
        return [(int(done), None if value is None else float(value)) for done, value in entries]
