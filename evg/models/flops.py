"""Multiply-accumulates of a network, by calflops, corrected where it is wrong or blind."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from mmengine.config import Config
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import DeformConv2d

from evg.codecs.main import main_first
from evg.errors import UserError
from evg.registry import CODECS, MODELS


@dataclass
class Cost:
    """What one module and everything in it costs for one batch.

    A MAC is a multiplication and an addition of a convolution or matrix product; `flops` is 2 `macs`. As everywhere in
    the literature, normalisation, activations, pooling and resampling are not counted.

    Attributes:
        name: dotted name, '' is the whole network.
        kind: name of its class.
        params: parameters.
        macs: of all convolutions and matrix products, those of deformable convolutions and of their offsets included.
        sampling_macs: of the bilinear sampling inside deformable convolutions, not part of `macs`: 5 per sampled value,
            four neighbours and the mask.
    """

    name: str
    kind: str
    params: int
    macs: int = 0
    sampling_macs: int = 0

    @property
    def flops(self) -> int:
        """2 `macs`."""
        return 2 * self.macs


@dataclass
class _Own:
    """What modules cost by themselves, without their children, where calflops does not know it."""

    macs: dict[nn.Module, int] = field(default_factory=dict)
    sampling_macs: dict[nn.Module, int] = field(default_factory=dict)

    def see(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """A forward hook."""
        if isinstance(module, DeformConv2d):
            # calflops does not see it: a product of the sampled values with the weights, at each output.
            values = module.weight[0].numel() * output[:, 0].numel()
            self.macs[module] = self.macs.get(module, 0) + values * module.out_channels
            sampled = 5 * values * module.groups
            self.sampling_macs[module] = self.sampling_macs.get(module, 0) + sampled
        elif isinstance(module, nn.ConvTranspose2d) and module.groups > 1:
            # calflops divides by the groups twice: this is added to what it counts, and its share is taken out.
            weight, cells = module.weight, inputs[0][:, 0].numel()
            per_cell = weight.numel()
            seen = weight[0, 0].numel() * module.in_channels * (weight.shape[1] // module.groups)
            self.macs[module] = self.macs.get(module, 0) + (per_cell - seen) * cells

    def add_products(self, module: nn.Module, name: str, counted: dict[str, int], seen: dict[nn.Module, int]) -> int:
        """Add the products that calflops misses, such as attention's, where torch's own counter saw them.

        Args:
            module: a module; those inside it follow.
            name: as the counter calls it.
            counted: MACs of each module that was called and all inside it, by torch's counter.
            seen: MACs of each module by itself, by calflops.

        Returns:
            MACs of the module and all inside it, by torch's counter.
        """
        inside = sum(self.add_products(m, f'{name}.{part}', counted, seen) for part, m in module.named_children())
        whole = counted.get(name, inside)
        # Torch's counter knows no deformable convolution: there it counts less, not more.
        missed = whole - inside - seen[module] - self.macs.get(module, 0)
        if missed > 0:
            self.macs[module] = self.macs.get(module, 0) + missed
        return whole


def build_untrained(model_config: dict) -> nn.Module:
    """The model of a config with random weights; none are fetched."""
    backbone = dict(model_config['backbone'])
    if 'pretrained' in backbone:
        backbone['pretrained'] = None
    return MODELS.build({**model_config, 'backbone': backbone})


def build_on_meta(model_config: dict) -> nn.Module:
    """The model of a config on the device 'meta': all its shapes, in no time and no memory, no weights fetched."""
    with torch.device('meta'):
        return build_untrained(model_config)


def count_config(
    cfg: Config, shape: tuple[int, int] | None = None, batch: int = 1
) -> tuple[tuple[int, int], list[Cost]]:
    """Cost of a config's network.

    Args:
        cfg: a loaded config.
        shape: (width, height) of the network's input in px; None is the config's, padding included.
        batch: pictures.

    Returns:
        The size of the input, and what `count_flops` returns.

    Raises:
        UserError: the network cannot take `shape`, or the config has none.
    """
    if not cfg.get('model') or not cfg.get('codecs'):
        raise UserError(f'{cfg.filename} has no model with codecs: give a config of a network, not one of its bases')
    size = shape or CODECS.build(next(iter(main_first(cfg.codecs).values()))).input_frame.input_size
    model = build_on_meta(cfg.model)
    backbone = model.backbone
    multiple = int(getattr(backbone, 'max_stride', backbone.stride) or 1)  # type: ignore[arg-type]  # an int, see backbones
    if batch < 1 or min(size) < 1:
        raise UserError(f'shape and batch must be positive, not {size[0]} {size[1]} and {batch}')
    if any(side % multiple for side in size):
        raise UserError(f'the shape must be multiples of {multiple} for this network, not {size[0]} {size[1]}')
    return size, count_flops(model, size, batch)


def count_flops(model: nn.Module, input_size: tuple[int, int], batch: int = 1) -> list[Cost]:
    """Cost of a network in inference, per module.

    The network runs once, on the device it is on; `build_on_meta` makes that free.

    Args:
        model: takes pictures (B, 3, H, W).
        input_size: (width, height) of the network's input in px, padding included.
        batch: pictures.

    Returns:
        The whole network first, then every module inside it in order of definition, each with what it contains.
    """
    own = _Own()
    width, height = input_size
    handles = [module.register_forward_hook(own.see) for module in model.modules()]
    training = model.training
    try:
        counter = FlopCounterMode(display=False)
        with _calflops(model.eval()), counter, torch.no_grad():
            model(torch.zeros(batch, 3, height, width, device=next(model.parameters()).device))
            seen = {module: int(module.__macs__) for module in model.modules()}  # type: ignore[arg-type]
        counted = {name: sum(ops.values()) // 2 for name, ops in counter.get_flop_counts().items()}
        own.add_products(model, type(model).__name__, counted, seen)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return [_cost(name, module, seen, own) for name, module in model.named_modules()]


def _cost(name: str, module: nn.Module, seen: dict[nn.Module, int], own: _Own) -> Cost:
    inside = list(module.modules())
    return Cost(
        name,
        type(module).__name__,
        sum(p.numel() for p in module.parameters()),
        sum(seen[m] + own.macs.get(m, 0) for m in inside),
        sum(own.sampling_macs.get(m, 0) for m in inside),
    )


@contextmanager
def _calflops(model: nn.Module) -> Iterator[None]:
    """calflops' counting, undone afterwards whatever happens."""
    try:
        from calflops.calculate_pipline import CalFlopsPipline  # noqa: PLC0415  # imports transformers, seconds
    except ImportError as error:
        raise UserError(f'calflops cannot be imported ({error}): pip install calflops transformers') from error
    pipeline = CalFlopsPipline(model, include_backPropagation=False, compute_bp_factor=2.0)
    pipeline.start_flops_calculate()
    try:
        yield
    finally:
        pipeline.end_flops_calculate()
