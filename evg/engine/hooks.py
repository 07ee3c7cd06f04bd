"""Hooks that make runs repeatable and their checkpoints plain."""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from evg.engine.meaning import decoding, plain
from evg.engine.runner import bare_model
from evg.registry import HOOKS


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds every epoch by its number, so that a resumed run goes on as an uninterrupted one would have."""

    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed torch (dropout) and the dataset (augmentation)."""
        torch.manual_seed(runner.seed + runner.epoch)
        dataset = runner.train_dataloader.dataset
        if hasattr(dataset, 'set_epoch'):
            dataset.set_epoch(runner.epoch)


@HOOKS.register_module()
class DescribeRunHook(Hook):
    """Says before training what will be trained on: the codings, the samples, the labels that will be clamped."""

    def before_train(self, runner: Runner) -> None:
        """Log it."""
        model = bare_model(runner.model)
        dataset = runner.train_dataloader.dataset
        parameters = sum(p.numel() for p in model.parameters())
        runner.logger.info(f'{len(dataset)} training samples, {parameters:,} parameters')
        for name, codec in model.codecs.items():
            runner.logger.info(f'codec {name}: {codec.describe()}')
            if hasattr(codec, 'virtual_plane'):
                outside = dataset.labels_outside(codec.virtual_plane)
                runner.logger.info(f'{outside} labels lie outside the virtual plane and are clamped to it')


@HOOKS.register_module()
class PlainCheckpointHook(Hook):
    """Keeps only tensors and plain values in a checkpoint, so that it loads with `weights_only=True`.

    What falls away is the history of logged scalars, which the log files hold.
    """

    priority = 'VERY_LOW'

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Replace the message hub's objects."""
        hub = checkpoint['message_hub']
        kept = {k: v for k, v in plain(hub['runtime_info']).items() if k != 'cfg'}
        checkpoint['message_hub'] = {'log_scalars': {}, 'runtime_info': kept, 'resumed_keys': {k: True for k in kept}}
        checkpoint['meta'] = {**plain(checkpoint['meta']), 'decoding': decoding(runner.cfg)}
        checkpoint['param_schedulers'] = plain(checkpoint.get('param_schedulers'))
