"""Networks with random weights that behave like trained ones: no layer vanishes, outputs are of order 1."""

import torch
from conftest import ROOT
from torch import nn

from evg.config import load_config
from evg.models.necks.deconv import ModulatedDeformConv
from evg.registry import MODELS

# A narrow one: the form is the same as that of 190 million parameters.
NARROW_HOURGLASS = {'dims': (16, 16, 24, 24, 24, 32), 'modules': (1, 1, 1, 1, 1, 1), 'out_channels': 16}


def load(path, overrides=()):
    """A config without weights to be fetched, hourglasses narrow."""
    backbone = load_config(ROOT / path).model.backbone
    more = ['model.backbone.pretrained=None'] if 'pretrained' in backbone else []
    if backbone.type == 'Hourglass':
        more += [f'+model.backbone.{key}={value}' for key, value in NARROW_HOURGLASS.items()]
    return load_config(ROOT / path, [*more, *overrides])


def pictures(count, size, seed=0):
    """(count, 3, height, width) of blurred noise, which has the spectrum of pictures rather than that of noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, max(size[1] // 8, 2), max(size[0] // 8, 2), generator=generator)
    return nn.functional.interpolate(coarse, size=(size[1], size[0]), mode='bicubic', align_corners=False)


def settled(cfg, seed=0):
    """The network of a config, see `settle`."""
    torch.manual_seed(seed)
    return settle(MODELS.build(cfg.model))


def settle(model):
    """The network in evaluation mode, with random weights.

    Deformable convolutions look up to several cells away, by offsets that differ from place to place.
    """
    for module in model.modules():
        if isinstance(module, ModulatedDeformConv):
            nn.init.normal_(module.offset_mask.weight, std=0.0005)
            nn.init.normal_(module.offset_mask.bias, std=1.5)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            # Small beside the shortcuts and the biases, as in trained networks: with PyTorch's start values a hundred
            # layers amplify float32's roundings until torch itself is 1e-3 away from its answer in float64.
            nn.init.uniform_(module.weight, 0.2, 0.6)
            nn.init.normal_(module.bias, std=0.5)
    size = next(iter(model.codecs.values())).input_frame.input_size
    with torch.no_grad():
        # The batch norms' statistics become those of these pictures.
        model.train()(pictures(2, size))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                # A channel that these pictures leave dark must not blow up with others.
                module.running_var.clamp_(min=0.2 * module.running_var.mean())
        outputs = model.eval()(pictures(2, size))
        for head in model.heads.values():
            spread = outputs[head.output].std()
            *_, last = (m for m in head.modules() if isinstance(m, nn.Conv2d | nn.Linear))
            last.weight *= 0.2 / spread
    return model
