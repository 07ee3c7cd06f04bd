"""Any backbone of timm, as an option."""

from pathlib import Path

from torch import Tensor, nn

from evg.errors import UserError, did_you_mean
from evg.models.backbones.pretrained import read_state_dict
from evg.registry import BACKBONES


@BACKBONES.register_module()
class TimmBackbone(nn.Module):
    """One feature map of a network of timm (pip install evg[timm]); channels and stride are timm's own figures.

    Args:
        name: timm's name of the network, such as 'efficientnet_b0'.
        pretrained: None (random weights), 'imagenet' (what timm publishes for that name), or the path of a file with
            such weights (.pth or .safetensors).
        out_index: which of its feature maps, -1 is the last.
    """

    def __init__(self, name: str, pretrained: str | None = 'imagenet', out_index: int = -1):
        super().__init__()
        try:
            import timm  # noqa: PLC0415  # optional
        except ImportError:
            raise UserError(
                f'the backbone {name!r} needs timm, which is not installed: pip install evg[timm]'
            ) from None
        if not timm.is_model(name):
            raise UserError(f'timm has no network {name!r}{did_you_mean(name, timm.list_models())}')
        indices = self._indices(timm, name)
        if not -len(indices) <= out_index < len(indices):
            raise UserError(f'{name} has {len(indices)} feature maps, so out_index={out_index} names none')
        self.net = self._create(timm, name, pretrained, indices[out_index])
        self.out_channels = self.net.feature_info.channels()[-1]
        self.stride = self.net.feature_info.reduction()[-1]

    @staticmethod
    def _indices(timm, name: str) -> list[int]:
        """The feature maps that a network offers."""
        try:
            with torch_meta():
                net = timm.create_model(name, pretrained=False, features_only=True)
        except (RuntimeError, AttributeError, AssertionError) as error:
            raise UserError(f'{name} of timm offers no feature maps: {error}') from error
        return list(range(len(net.feature_info)))
