"""The switches of `speed` in the base config: a faster step, or a larger batch, of the same network."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper

from evg.errors import ConfigError, UserError
from evg.registry import OPTIM_WRAPPERS

PRECISIONS = ('fp16', 'bf16')


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Mixed precision in bfloat16, on any device: float32's range, so the loss is not scaled.

    Weights, their update and the losses stay in float32; validation and test are not touched. The arguments are those
    of mmengine's `OptimWrapper`.
    """

    @contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        """Forward pass of a step."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16):
            yield


def switch(cfg: Config) -> None:
    """Write the switches of `cfg.speed` into the optimiser's config.

    Args:
        cfg: a resolved config with an `optim_wrapper`; changed in place.

    Raises:
        ConfigError: a switch has no such value.
        UserError: fp16 without CUDA.
    """
    speed, wrapper = cfg.speed, cfg.optim_wrapper
    if speed.amp not in (None, *PRECISIONS):
        raise ConfigError(f'speed.amp is None, {" or ".join(map(repr, PRECISIONS))}, not {speed.amp!r}')
    if not isinstance(speed.accumulate, int) or speed.accumulate < 1:
        raise ConfigError(f'speed.accumulate is a number of batches from 1, not {speed.accumulate!r}')
    if speed.amp == 'fp16':
        if not torch.cuda.is_available():
            raise UserError("fp16 needs a CUDA device; speed.amp='bf16' does not, nor does training without --amp")
        wrapper.type, wrapper.dtype = 'AmpOptimWrapper', 'float16'
    elif speed.amp == 'bf16':
        wrapper.type = 'BFloat16OptimWrapper'
    if speed.fused:
        wrapper.optimizer.fused = True
    if speed.accumulate > 1:
        wrapper.accumulative_counts = speed.accumulate


def compile_parts(model: Any) -> None:
    """Let torch compile backbone, neck and heads at their first batch; names and checkpoints stay as they are.

    Args:
        model: a `GazeEstimator`.
    """
    for part in (model.backbone, model.neck, *model.heads.values()):
        if part is not None:
            part.compile()
