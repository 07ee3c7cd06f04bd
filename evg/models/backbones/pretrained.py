"""Published ImageNet weights, from the network or from a local file."""

from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from evg.errors import UserError


@dataclass(frozen=True)
class PublishedFile:
    """A state dict on the web that is not torchvision's; used as one of torchvision's `WeightsEnum`.

    Attributes:
        url: its address; the name ends with the first digits of its SHA-256, as torch.hub has it.
        mirror: a page that has the same weights in the same names.
    """

    url: str
    mirror: str = ''

    def get_state_dict(self, progress: bool, check_hash: bool) -> dict[str, Tensor]:
        """Download, or take from torch.hub's cache."""
        return torch.hub.load_state_dict_from_url(
            self.url, map_location='cpu', progress=progress, check_hash=check_hash, weights_only=True
        )


def load_pretrained(
    model: nn.Module, pretrained: str | None, weights: WeightsEnum | PublishedFile | None, name: str
) -> None:
    """Fill a network whose names are those of the published file.

    Args:
        model: the whole network; its classifier may be missing.
        pretrained: None (random weights), 'imagenet', or the path of such a state dict.
        weights: the entry for 'imagenet', None where nothing is published for this variant.
        name: what messages call the network.

    Raises:
        UserError: no such file, no published weights, the download failed, the file is of another network.
    """
    if pretrained is None:
        return
    if pretrained == 'imagenet':
        if weights is None:
            raise UserError(f'no ImageNet weights are published for {name}: set model.backbone.pretrained=None')
        try:
            state = dict(weights.get_state_dict(progress=True, check_hash=True))
        except (URLError, OSError) as error:
            source = ' or '.join(filter(None, (weights.url, getattr(weights, 'mirror', ''))))
            raise UserError(
                f'the ImageNet weights of {name} could not be downloaded ({error}). Without a network: fetch '
                f'{source} elsewhere and set model.backbone.pretrained=/path/to/the/file.pth, or train from '
                'random weights with model.backbone.pretrained=None'
            ) from error
    else:
        state = read_state_dict(Path(pretrained))
    missing, unexpected = _load(model, state)
    if missing:
        raise UserError(
            f'{pretrained} is not a state dict of this {name}: it lacks {", ".join(missing[:3])} '
            f'({len(missing)} in all), has {", ".join(unexpected[:3]) or "nothing"} beside'
        )


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """A state dict on disk, .safetensors or torch's own; nothing in it is executed.

    Raises:
        UserError: no such file, or it holds something else.
    """
    if not path.is_file():
        raise UserError(
            f"model.backbone.pretrained: no file {path} (use 'imagenet', a file of the network's weights, or None)"
        )
    try:
        if path.suffix == '.safetensors':
            return load_file(path)
        state = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:
        reason = type(error).__name__
        raise UserError(f'model.backbone.pretrained: {path} is no file of plain tensors ({reason})') from error
    return state.get('state_dict', state)


def _load(model: nn.Module, state: dict[str, Tensor]) -> tuple[list[str], list[str]]:
    # The classifier is not used, so its shape may differ; num_batches_tracked is absent from old files.
    own = model.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    model.load_state_dict(fitting, strict=False)
    needed = [k for k in own if not k.startswith(('fc.', 'classifier.')) and 'num_batches' not in k]
    missing = [k for k in needed if k not in fitting]
    return missing, [k for k in state if k not in own]
