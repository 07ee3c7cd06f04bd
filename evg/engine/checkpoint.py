"""Checkpoints of a training: a new one is on disk before an old one goes."""

from collections.abc import Mapping
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from evg.registry import HOOKS


@HOOKS.register_module()
class SaveFirstCheckpointHook(CheckpointHook):
    """mmengine's checkpoints, but the old best one, or the oldest of `max_keep_ckpts`, goes after the new one is whole.

    mmengine deletes first, so that a full disk or a kill at that moment leaves neither. For that moment there is one
    file more; a kill leaves it.
    """

    def _save_best_checkpoint(self, runner: Runner, metrics: Mapping[str, float]) -> None:
        if not self.save_best:
            return
        # What mmengine does not see it does not delete.
        old, self._bests = self._bests, dict.fromkeys(self._bests)
        super()._save_best_checkpoint(runner, metrics)
        new = self._bests
        self._bests = {name: path or old[name] for name, path in new.items()}
        for name, path in old.items():
            if path and new[name] and path != new[name]:
                self._remove(runner, path)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        outdated = None
        if (
            self.max_keep_ckpts > 0
            and len(self.keep_ckpt_ids) == self.max_keep_ckpts
            and step not in self.keep_ckpt_ids
        ):
            outdated = self.keep_ckpt_ids.popleft()
        super()._save_checkpoint_with_step(runner, step, meta)
        if outdated is not None:
            self._remove(runner, self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(outdated)))

    @property
    def _bests(self) -> dict[str, str | None]:
        """Paths of the best checkpoints by metric, or of the only one, as mmengine keeps them."""
        return {'': self.best_ckpt_path} if len(self.key_indicators) == 1 else self.best_ckpt_path_dict

    @_bests.setter
    def _bests(self, paths: dict[str, str | None]) -> None:
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = paths['']
        else:
            self.best_ckpt_path_dict = paths

    def _remove(self, runner: Runner, path: str) -> None:
        if is_main_process() and self.file_backend.isfile(path):
            self.file_backend.remove(path)
            runner.logger.info(f'{path} is removed: a newer one takes its place')
