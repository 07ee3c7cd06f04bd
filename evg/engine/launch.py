"""From a config to a runner: device, processes and how they end, resuming, the checks before any data is touched."""

import functools
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed
from mmengine.config import Config
from mmengine.runner import Runner

from evg.compat import require_mmengine
from evg.datasets.index_stream import index_file
from evg.engine import storage  # it also replaces mmengine's file access
from evg.engine.config_text import remember_formatted_configs
from evg.engine.meaning import check_meaning
from evg.engine.runner import GazeRunner, bare_model
from evg.engine.sharded import ShardedRunner, check_sharded
from evg.engine.speed import compile_parts, switch
from evg.engine.work_dir import lock, newest_checkpoint
from evg.errors import UserError

# What the launchers tell each process.
_TOLD = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'LOCAL_RANK'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'),
}
_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def build_runner(
    cfg: Config,
    work_dir: str | os.PathLike,
    *,
    resume: str | None = None,
    amp: str | None = None,
    auto_scale_lr: bool = False,
    launcher: str = 'none',
    training: bool = True,
) -> Runner:
    """A runner that is ready to train or test.

    Args:
        cfg: a loaded config.
        work_dir: where logs and checkpoints go.
        resume: None, 'auto' (the newest checkpoint in `work_dir`, if there is one) or the path of a checkpoint.
        amp: precision of the training instead of the config's `speed.amp`: 'fp16' (needs CUDA) or 'bf16'.
        auto_scale_lr: the learning rate of the config is for its `auto_scale_lr.base_batch_size`; use it in proportion
            to the batch of all processes together.
        launcher: 'none', 'pytorch' (torchrun) or 'slurm'.
        training: False drops the parts that only training needs.

    Raises:
        UserError: fp16 without CUDA; a checkpoint to resume that does not exist or is of another config;
            another run works in `work_dir`; there are no data; a launcher that did not start this process.
    """
    require_mmengine()
    remember_formatted_configs()
    cfg = Config(cfg.to_dict(), filename=cfg.filename)
    cfg.work_dir = str(work_dir)
    cfg.launcher = launcher
    _settle_loaders(cfg)
    # `early_stop=None` in a config leaves a None in the list.
    cfg.custom_hooks = [hook for hook in cfg.get('custom_hooks') or [] if hook is not None]
    if training:
        cfg.speed.amp = amp or cfg.speed.amp
        cfg.auto_scale_lr.enable |= auto_scale_lr
        _settle_training(cfg, launcher)
    else:
        _drop_training(cfg)
    _check_data(cfg)
    if launcher != 'none':
        _check_started(launcher)
        if not torch.cuda.is_available():
            _start_on_cpu(cfg)
    note = lock(work_dir) if training and _first_process(launcher) else None
    if resume == 'auto':
        resume = newest_checkpoint(work_dir)
    if resume:
        checkpoint = storage.load_checkpoint_file(resume)
        check_meaning(cfg, checkpoint, resume)
        cfg.resume, cfg.load_from = True, resume
    runner = (ShardedRunner if training and cfg.fsdp else GazeRunner).from_cfg(cfg)
    if resume:
        # The runner takes what fits.
        load_weights(runner.model, checkpoint, resume)
    if training and cfg.speed.compile:
        compile_parts(bare_model(runner.model))
    if note:
        runner.logger.warning(note)
    return runner


def _settle_loaders(cfg: Config) -> None:
    for name in _LOADERS:
        if cfg.get(name):
            cfg[name].setdefault('worker_init_fn', dict(type='ignore_sigterm'))
            # Only from pinned memory can a batch be copied to the GPU without waiting.
            cfg[name].setdefault('pin_memory', torch.cuda.is_available())
            if not cfg[name].get('num_workers'):
                cfg[name].persistent_workers = False


def _check_data(cfg: Config) -> None:
    """Look for the data before a network is built, which may need weights from elsewhere."""
    for name in _LOADERS[:2] if cfg.get('train_dataloader') else _LOADERS[2:]:
        loader = cfg.get(name)
        if loader and loader.dataset.type == 'GazeDataset':
            index_file(loader.dataset.data_root)


def _settle_training(cfg: Config, launcher: str) -> None:
    if cfg.train_cfg.get('type') == 'EpochBasedTrainLoop':
        # It averages the statistics of batch norms over the processes.
        cfg.train_cfg.type = 'ResumableLoop'
    elif launcher != 'none':
        cfg.custom_hooks.append(dict(type='SyncBuffersHook'))
    switch(cfg)
    if cfg.fsdp:
        check_sharded(cfg, launcher)


def _drop_training(cfg: Config) -> None:
    for name in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr'):
        cfg[name] = None
    for name in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg[name] = None
    cfg.custom_hooks = []
    # The test loop gets the weights from the caller: none that the training began or went on with, none of ImageNet.
    cfg.load_from, cfg.resume = None, False
    if 'pretrained' in cfg.model.get('backbone', {}):
        cfg.model.backbone.pretrained = None


def _first_process(launcher: str) -> bool:
    """Whether this is the first of all processes; the launchers number them."""
    variable = {'none': '', 'pytorch': 'RANK', 'slurm': 'SLURM_PROCID'}[launcher]
    return os.environ.get(variable, '0') == '0'


def _check_started(launcher: str) -> None:
    """Refuse what was not started by its launcher, and more processes than GPUs."""
    cuda = torch.cuda.is_available()
    if launcher != 'pytorch' and not cuda:
        raise UserError(f'--launcher {launcher} needs CUDA devices; on CPUs start with torchrun and --launcher pytorch')
    missing = [name for name in _TOLD[launcher] if name not in os.environ]
    if missing:
        start = {
            'pytorch': '`torchrun --nproc-per-node 2 tools/train.py ...`, or with tools/dist_train.sh',
            'slurm': '`srun ... tools/train.py ...`, or with tools/slurm_train.sh',
        }
        raise UserError(f'--launcher {launcher} without {", ".join(missing)}: start it as {start[launcher]}')
    place = int(os.environ.get('LOCAL_RANK' if launcher == 'pytorch' else 'SLURM_LOCALID', '0'))
    if cuda and place >= torch.cuda.device_count():
        raise UserError(
            f'process {place + 1} of this machine has no GPU of its own, {torch.cuda.device_count()} can be seen: '
            'start as many processes as GPUs; each must see all of them'
        )


def _start_on_cpu(cfg: Config) -> None:
    """Join the process group over gloo; mmengine's own start calls CUDA whatever the machine has."""
    torch.distributed.init_process_group('gloo')
    # device_ids are for GPUs only; an explicit None keeps the runner from filling them in.
    cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None)


def choose_gpu(gpu: int | None) -> None:
    """Make one GPU the only visible one; to be called before CUDA is used."""
    if gpu is not None:
        os.environ['CUDA_VISIBLE_DEVICES'] = str(gpu)


def leaves_plainly(main: Callable[[], None]) -> Callable[[], None]:
    """Decorate the ``main`` of a tool: one of several processes that ends well ends without torch's teardown.

    Torch 2.14 now and then aborts there ("terminate called without an active exception"), after
    `destroy_process_group` as well; torchrun then kills the other processes, which may still be writing.
    """

    @functools.wraps(main)
    def run() -> None:
        try:
            main()
        except SystemExit as end:
            if end.code:
                raise
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    return run


def load_weights(model: torch.nn.Module, checkpoint: dict[str, Any], path: str) -> None:
    """Load a checkpoint's weights, all of them, into a model or a wrapped one, and check that it decodes as trained.

    Raises:
        UserError: the checkpoint is of another model, or of one whose output or input means something else; the message
            names what differs.
    """
    state = checkpoint.get('state_dict')
    if state is None:
        raise UserError(f'{path} has no state_dict: it is not a checkpoint of evg')
    model = bare_model(model)
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
