"""Structured pruning: the weights of a network for a config with fewer channels in the neck and the heads.

Which channels stay is decided by their norm; the smaller network is then trained on from there (`load_from`).
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from evg.errors import UserError
from evg.models import GazeEstimator
from evg.models.necks.deconv import ModulatedDeformConv

Keep = Tensor | None  # indices of channels, ascending; None is all of them
State = dict[str, Tensor]


@dataclass
class Cut:
    """Channels of one layer that were dropped.

    Attributes:
        layer: module path.
        before: channels of the larger network.
        after: of the smaller one.
        norm_kept: norm of the kept channels relative to all of the layer's, 0..1.
    """

    layer: str
    before: int
    after: int
    norm_kept: float


@dataclass
class Pruned:
    """A state dict for the smaller network, and what was dropped to get it."""

    state_dict: State
    cuts: list[Cut] = field(default_factory=list)


def prune(model: GazeEstimator, child: GazeEstimator) -> Pruned:
    """The larger network's weights that the smaller one has room for.

    The neck's deconvolutions and what refines before them, and the first convolutions of the heads, may have fewer
    channels; everything else must be the same. Of each such layer the channels with the largest norm stay: that of the
    weights with the batch norm after them multiplied in, and of the bias where it is positive, as a ReLU follows. A
    channel whose norm is 0 is 0 everywhere, so dropping it changes no output.

    Args:
        model: the larger network.
        child: the network of the smaller config; only its shapes are read.

    Raises:
        UserError: the networks differ in more than these channels.
    """
    pruned = Pruned(dict(model.state_dict()))
    keep: Keep = None
    if isinstance(model.neck, nn.Module):
        keep = _prune_neck(model, child, pruned)
    stacks = {'heads': model.heads, **{f'earlier_heads.{i}': heads for i, heads in enumerate(model.earlier_heads)}}
    for stack, heads in stacks.items():
        for name, head in heads.named_children():
            _prune_head(child, f'{stack}.{name}', head, keep, pruned)
    _compare(child, pruned.state_dict)
    return pruned


def _prune_neck(model: GazeEstimator, child: GazeEstimator, pruned: Pruned) -> Keep:
    """The channels of the neck's output that stay."""
    steps = getattr(model.neck, 'steps', None)
    if not isinstance(steps, nn.Sequential):
        raise UserError(f'the neck {type(model.neck).__name__} is no DeconvNeck: only that one can be pruned')
    keep: Keep = None
    for i, layer in enumerate(steps):
        path = f'neck.steps.{i}'
        if isinstance(layer, ModulatedDeformConv):
            _narrow(pruned.state_dict, f'{path}.offset_mask', inputs=keep)
            keep = _prune_layer(child, f'{path}.conv', layer.conv, steps[i + 1], keep, pruned)
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            keep = _prune_layer(child, path, layer, steps[i + 1], keep, pruned)
        elif isinstance(layer, nn.BatchNorm2d):
            _narrow(pruned.state_dict, path, outputs=keep)
    return keep


def _prune_head(child: GazeEstimator, path: str, head: nn.Module, keep: Keep, pruned: Pruned) -> None:
    branch = getattr(head, 'branch', None)
    if branch is None:  # one that answers with a few numbers; its first layer reads the features
        first = next(name for name, m in head.named_modules() if isinstance(m, nn.Linear | nn.Conv2d))
        _narrow(pruned.state_dict, f'{path}.{first}', inputs=keep)
        return
    inner = _prune_layer(child, f'{path}.branch.0', branch[0], None, keep, pruned)
    _narrow(pruned.state_dict, f'{path}.branch.2', inputs=inner)


def _prune_layer(
    child: GazeEstimator, path: str, layer: nn.Module, norm: nn.Module | None, inputs: Keep, pruned: Pruned
) -> Keep:
    """Drop the inputs that are gone and the outputs that are too many; the outputs that stay."""
    _narrow(pruned.state_dict, path, inputs=inputs, transposed=isinstance(layer, nn.ConvTranspose2d))
    wanted = child.state_dict().get(f'{path}.weight')
    axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    before = pruned.state_dict[f'{path}.weight'].shape[axis]
    if wanted is None or wanted.shape[axis] == before:
        return None
    after = wanted.shape[axis]
    if after > before:
        raise UserError(f'{path} has {before} channels and would have {after}: pruning only makes networks smaller')
    norms = _norms(pruned.state_dict[f'{path}.weight'].transpose(0, axis), getattr(layer, 'bias', None), norm)
    keep = norms.topk(after).indices.sort().values
    total = float(norms.square().sum().sqrt())
    kept = float(norms[keep].square().sum().sqrt()) / total if total else 1.0
    pruned.cuts.append(Cut(path, before, after, kept))
    _narrow(pruned.state_dict, path, outputs=keep, transposed=axis == 1)
    return keep


def _norms(weight: Tensor, bias: Tensor | None, norm: nn.Module | None) -> Tensor:
    """Norm (C,) of each output channel of weight (C, ...) with its batch norm folded in."""
    weight = weight.detach().double().flatten(1)
    offset = torch.zeros(len(weight), dtype=torch.float64) if bias is None else bias.detach().double()
    if isinstance(norm, nn.BatchNorm2d):
        factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()  # type: ignore[union-attr]
        weight = weight * factor[:, None]
        offset = (offset - norm.running_mean.double()) * factor + norm.bias.double()  # type: ignore[union-attr]
    return (weight.square().sum(dim=1) + offset.clamp(min=0).square()).sqrt().detach()


def _narrow(state: State, path: str, inputs: Keep = None, outputs: Keep = None, transposed: bool = False) -> None:
    """Keep some input or output channels of a layer's tensors."""
    for name, tensor in state.items():
        if name.rpartition('.')[0] != path or tensor.ndim == 0:
            continue
        if tensor.ndim > 1 and inputs is not None:
            state[name] = state[name].index_select(0 if transposed else 1, inputs)
        if outputs is not None:
            state[name] = state[name].index_select(1 if transposed and tensor.ndim > 1 else 0, outputs)


def _compare(child: GazeEstimator, state: State) -> None:
    own = child.state_dict()
    wrong = [f'{k} {tuple(v.shape)}' for k, v in own.items() if k not in state or state[k].shape != v.shape]
    wrong += [f'{k} (not in the smaller one)' for k in state if k not in own]
    if wrong:
        raise UserError(
            f'the two networks differ in more than channels of neck and heads: {", ".join(wrong[:3])} ({len(wrong)} in '
            'all); change only model.neck.channels and head_conv'
        )
