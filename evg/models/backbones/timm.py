"""Any backbone of timm, as an option."""

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from evg.errors import UserError, did_you_mean
from evg.models.backbones.pretrained import read_state_dict
from evg.registry import BACKBONES


@BACKBONES.register_module()
class TimmBackbone(nn.Module):
    """One feature map of a network of timm (pip install -e '.[timm]'); channels and stride are timm's own figures.

    Args:
        name: timm's name of the network, such as 'efficientnet_b0'.
        pretrained: None (random weights), 'imagenet' (what timm publishes for that name), or the path of a file with
            such weights (.pth or .safetensors).
        out_index: which of its feature maps, -1 is the last. Some networks, MobileNetV3 among them, keep the layers
            beyond it: training on several devices then needs `find_unused_parameters=True`.
    """

    def __init__(self, name: str, pretrained: str | None = 'imagenet', out_index: int = -1):
        super().__init__()
        try:
            import timm  # noqa: PLC0415  # optional
        except ImportError:
            raise UserError(f"the backbone {name!r} needs timm: pip install -e '.[timm]' in the clone of evg") from None
        if not timm.is_model(name):
            raise UserError(f'timm has no network {name!r}{did_you_mean(name, timm.list_models())}')
        self.name = name
        self.net = _create(timm, name, pretrained, out_index)
        info: Any = self.net.feature_info
        self.out_channels = info.channels()[-1]
        self.stride = info.reduction()[-1]
        self.max_stride = max(entry['reduction'] for entry in info.info)
        # Swin and its kin answer with channels last.
        self.channels_last = 'NHWC' in str(getattr(self.net, 'output_fmt', ''))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, out_channels, H / stride, W / stride)."""
        try:
            features = self.net(images)[0]
        except AssertionError as error:
            # Transformers with windows or learnt positions are built for one size.
            width, height = images.shape[3], images.shape[2]
            raise UserError(
                f'{self.name} of timm does not take {width} x {height} px ({error}): choose input_frame.size so, or a '
                'network of convolutions'
            ) from error
        return features.permute(0, 3, 1, 2) if self.channels_last else features


def _create(timm: ModuleType, name: str, pretrained: str | None, out_index: int) -> nn.Module:
    """The network up to one feature map, with its weights."""
    options: dict = dict(features_only=True, out_indices=(out_index,))
    if pretrained not in (None, 'imagenet'):
        state = read_state_dict(Path(pretrained))
        # timm drops what features do not need and says nothing of what it does not find.
        with torch.device('meta'):
            wanted, whole = (timm.create_model(name, **more).state_dict() for more in ({'num_classes': 0}, {}))
        missing = [key for key in wanted if key not in state and not key.endswith('num_batches_tracked')]
        # It knows the old names of some networks: as many names of the file may stand for them.
        if len(missing) > min(len(wanted) / 2, len(state.keys() - whole.keys())):
            raise UserError(
                f"{pretrained} is not a state dict of timm's {name}: it lacks {', '.join(missing[:3])} "
                f'({len(missing)} in all), has {", ".join([*state][:3])}, ...'
            )
        options['pretrained_cfg_overlay'] = dict(state_dict=state)
    try:
        return timm.create_model(name, pretrained=pretrained is not None, **options)
    except (IndexError, AssertionError) as error:
        raise UserError(f'{name} of timm has no feature map out_index={out_index}: {error}') from error
    except Exception as error:
        if pretrained is None:
            raise UserError(f'{name} of timm cannot be built as a backbone: {error}') from error
        raise UserError(
            f'the weights of {name} could not be had from timm ({type(error).__name__}: {str(error)[:200]}). Without a '
            f'network: fetch them from https://huggingface.co/timm elsewhere and set model.backbone.pretrained='
            '/path/to/model.safetensors, or train from random weights with model.backbone.pretrained=None'
        ) from error
