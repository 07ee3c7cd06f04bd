"""From a config to a runner: device, processes, resuming, and the checks before any data is touched."""

import os
import re
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from evg.compat import require_mmengine
from evg.engine import storage  # noqa: F401  replaces mmengine's file access
from evg.errors import UserError


def build_runner(
    cfg: Config,
    work_dir: str | os.PathLike,
    *,
    resume: str | None = None,
    amp: bool = False,
    launcher: str = 'none',
    training: bool = True,
) -> Runner:
    """A runner that is ready to train or test.

    Args:
        cfg: a loaded config.
        work_dir: where logs and checkpoints go.
        resume: None, 'auto' (the newest checkpoint in `work_dir`, if there is one) or the path of a checkpoint.
        amp: train in mixed precision; needs CUDA.
        launcher: 'none', 'pytorch' (torchrun) or 'slurm'.
        training: False drops the parts that only training needs.

    Raises:
        UserError: mixed precision without CUDA, a checkpoint to resume that does not exist.
    """
    require_mmengine()
    cfg = Config(cfg.to_dict(), filename=cfg.filename)
    cfg.work_dir = str(work_dir)
    cfg.launcher = launcher
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if cfg.get(name) and not cfg[name].get('num_workers'):
            cfg[name].persistent_workers = False
    # `early_stop=None` in a config leaves a None in the list.
    cfg.custom_hooks = [hook for hook in cfg.get('custom_hooks') or [] if hook is not None]
    if amp:
        if not torch.cuda.is_available():
            raise UserError('--amp needs a CUDA device; without one train without it')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if not training:
        for name in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr'):
            cfg[name] = None
        for name in ('val_dataloader', 'val_cfg', 'val_evaluator'):
            cfg[name] = None
        cfg.custom_hooks = []
        # The test loop gets the weights from the caller, so ImageNet's are not needed.
        if 'pretrained' in cfg.model.get('backbone', {}):
            cfg.model.backbone.pretrained = None
    if launcher != 'none' and not torch.cuda.is_available():
        _start_on_cpu(cfg, launcher)
    if resume == 'auto':
        resume = newest_checkpoint(work_dir)
    if resume:
        if not Path(resume).is_file():
            raise UserError(f'--resume: no checkpoint {resume}')
        cfg.resume, cfg.load_from = True, resume
    return Runner.from_cfg(cfg)


def newest_checkpoint(work_dir: str | os.PathLike) -> str | None:
    """The checkpoint `model_N.pth` of the latest epoch in a folder, None where there is none.

    Checkpoints are written whole, so the latest one can be trusted; mmengine's pointer file `last_checkpoint` is not.
    """
    found = {
        int(m[1]): path for path in Path(work_dir).glob('model_*.pth') if (m := re.fullmatch(r'model_(\d+)', path.stem))
    }
    return str(found[max(found)]) if found else None


def _start_on_cpu(cfg: Config, launcher: str) -> None:
    """Join the process group over gloo; mmengine's own start calls CUDA whatever the machine has."""
    if launcher != 'pytorch':
        raise UserError(f'--launcher {launcher} needs CUDA devices; on CPUs start with torchrun and --launcher pytorch')
    missing = [name for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR') if name not in os.environ]
    if missing:
        raise UserError(
            f'--launcher pytorch without {", ".join(missing)}: '
            'start it as `torchrun --nproc-per-node 2 tools/train.py ...`'
        )
    torch.distributed.init_process_group('gloo')
    # device_ids are for GPUs only; an explicit None keeps the runner from filling them in.
    cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None)


def choose_gpu(gpu: int | None) -> None:
    """Make one GPU the only visible one; to be called before CUDA is used."""
    if gpu is not None:
        os.environ['CUDA_VISIBLE_DEVICES'] = str(gpu)


def load_weights(model: torch.nn.Module, checkpoint: dict[str, Any], path: str) -> None:
    """Load a checkpoint's weights, all of them, into a model or a wrapped one, and check that it decodes as trained.

    Raises:
        UserError: the checkpoint is of another model, or of one whose output or input means something else; the message
            names what differs.
    """
    state = checkpoint.get('state_dict')
    if state is None:
        raise UserError(f'{path} has no state_dict: it is not a checkpoint of evg')
    model = cast(torch.nn.Module, model.module) if is_model_wrapper(model) else model
    meta = checkpoint.get('meta', {})
    name = meta.get('experiment_name', 'another config')
    own = model.state_dict()
    missing, extra = [k for k in own if k not in state], [k for k in state if k not in own]
    shapes = [k for k in own if k in state and own[k].shape != state[k].shape]
    if missing or extra or shapes:
        raise UserError(
            f'{path} was not trained with this config (it says {name}): '
            f'{len(missing)} tensors are missing ({", ".join(missing[:2])}), '
            f'{len(extra)} are unknown ({", ".join(extra[:2])}), '
            f'{len(shapes)} have another shape ({", ".join(shapes[:2])})'
        )
    model.load_state_dict(state)
