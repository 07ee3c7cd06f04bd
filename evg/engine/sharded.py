"""Training of a network of which every process holds a part: torch's FSDP2, with checkpoints like any other's."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from evg.engine.runner import GazeRunner
from evg.errors import UserError


class ShardedRunner(GazeRunner):
    """mmengine's runner with weights, gradients and the optimiser's state shared out over the processes.

    What is in memory falls with the number of processes; each block's weights are gathered when it computes. A
    checkpoint is whole: every process takes part in gathering it, the first one writes it, and a run without FSDP, a
    test or an export reads it as its own.
    """

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Share out a model's parameters, block by block; it stays the model it is."""
        # fully_shard takes no other layout; activations stay in the preprocessor's.
        model.to(memory_format=torch.contiguous_format)
        self.model = model
        super()._init_model_weights()
        # Each block goes to the device and leaves but its share there; the whole need not fit.
        for block in _blocks(model):
            fully_shard(block)
        fully_shard(model)
        # It moves parameters and buffers; this tells the preprocessor where its batches go.
        model.to(get_device())
        model.register_load_state_dict_pre_hook(_share_weights)
        held, whole = (sum(p.numel() for p in parts) for parts in zip(*_held(model), strict=True))
        self.logger.info(f'this process holds {held:,} of {whole:,} parameters')
        return model

    def _init_model_weights(self) -> None:
        """Done while the weights were whole."""

    def build_optim_wrapper(self, optim_wrapper: Any) -> OptimWrapper:
        """As mmengine's; it also loads whole states."""
        wrapper = super().build_optim_wrapper(optim_wrapper)
        wrapper.optimizer.register_load_state_dict_pre_hook(_share_state)
        return wrapper

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: str | Callable = 'cpu',
    ) -> None:
        """As mmengine's; the whole state stays on the CPU, the device gets its share."""
        super().resume(filename, resume_optimizer, resume_param_scheduler, map_location)

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """As mmengine's, of the whole model; all processes must call it."""
        weights = OrderedDict(_whole(self.model.state_dict()))
        state = _whole(self.optim_wrapper.state_dict())
        with _answering(self.model, weights), _answering(self.optim_wrapper, state):
            super().save_checkpoint(*args, **kwargs)


def check_sharded(cfg: Config, launcher: str) -> None:
    """Refuse what a shared-out model cannot do.

    Args:
        cfg: a resolved config.
        launcher: see `evg.engine.launch.build_runner`.

    Raises:
        UserError: one process only, or averaged weights, or a penalty on all weights.
    """
    if launcher == 'none':
        raise UserError('fsdp=True shares a network out over processes: start several, tools/dist_train.sh CONFIG N')
    if cfg.ema is not None:
        raise UserError('fsdp=True and ema: averaged weights are whole in every process; use one of the two')
    if cfg.model.get('l1_penalty'):
        raise UserError('fsdp=True and l1_penalty: the penalty needs all weights at once; use optimizer.weight_decay')


def _blocks(model: nn.Module) -> Iterator[nn.Module]:
    """The parts whose weights are gathered together: the stages of the backbone, the neck, each head."""
    backbone: nn.Module = model.backbone  # type: ignore[assignment]
    yield from _stages(backbone, _size(backbone) / 2)
    for part in (model.neck, *model.heads.values()):  # type: ignore[union-attr, operator]
        if isinstance(part, nn.Module) and _size(part):
            yield part


def _stages(part: nn.Module, most: float) -> Iterator[nn.Module]:
    """A module's children; those of a list, which computes nothing itself, or of one that holds most of the weights."""
    for child in part.children():
        if isinstance(child, (nn.ModuleList, nn.ModuleDict)) or (_size(child) > most and any(child.children())):
            yield from _stages(child, most)
        elif _size(child):
            yield child


def _size(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


def _held(model: nn.Module) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """This process's share of each parameter, and the parameter."""
    for parameter in model.parameters():
        yield (parameter.to_local() if isinstance(parameter, DTensor) else parameter), parameter


def _whole(state: Any) -> Any:
    """Shares gathered into tensors on the CPU; other values as they are. Every process must call it."""
    if isinstance(state, DTensor):
        return state.full_tensor().cpu()
    if isinstance(state, dict):
        return {key: _whole(value) for key, value in state.items()}
    return [_whole(value) for value in state] if isinstance(state, list) else state


def _share(tensor: torch.Tensor, like: DTensor) -> DTensor:
    """This process's share of a tensor that every process has."""
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def _share_weights(model: nn.Module, state: dict[str, Any], *_: Any) -> None:
    """Before a model loads whole weights; those of another shape are left for it to complain of."""
    for name, own in model.state_dict().items():
        given = state.get(name)
        if isinstance(own, DTensor) and isinstance(given, torch.Tensor) and given.shape == own.shape:
            state[name] = _share(given, own)


def _share_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Before an optimiser loads a whole state."""
    parameters = [p for group in optimizer.param_groups for p in group['params']]
    shared: dict[int, Any] = {}
    for number, values in state['state'].items():
        own = parameters[number]
        shared[number] = {
            key: _share(value, own) if isinstance(value, torch.Tensor) and value.shape == own.shape else value
            for key, value in values.items()
        }
    return {**state, 'state': shared}


@contextmanager
def _answering(part: Any, state: Any) -> Iterator[None]:
    """`part.state_dict()` gives a state that was gathered before: mmengine asks in one process alone."""
    answer: Callable[..., Any] = lambda *_, **__: state  # noqa: E731
    part.state_dict = answer
    try:
        yield
    finally:
        del part.state_dict
