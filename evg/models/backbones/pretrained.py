"""Published ImageNet weights for torchvision networks, from the network or from a local file."""

from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from evg.errors import UserError


def load_pretrained(model: nn.Module, pretrained: str | None, weights: WeightsEnum | None) -> None:
    """Fill a torchvision network.

    Args:
        model: the whole torchvision network, classifier included.
        pretrained: None (random weights), 'imagenet', or the path of a torchvision state dict.
        weights: torchvision's entry for 'imagenet', None where nothing is published for this variant.

    Raises:
        UserError: no such file, no published weights, the download failed, the file is of another network.
    """
    if pretrained is None:
        return
    name = type(model).__name__
    if pretrained == 'imagenet':
        if weights is None:
            raise UserError(
                f'no ImageNet weights are published for this variant of {name}: set model.backbone.pretrained=None'
            )
        try:
            state = weights.get_state_dict(progress=True, check_hash=True)
        except (URLError, OSError) as error:
            raise UserError(
                f'the ImageNet weights of {name} could not be downloaded ({error}). Without a network: fetch '
                f'{weights.url} elsewhere and set model.backbone.pretrained=/path/to/the/file.pth, or train from '
                'random weights with model.backbone.pretrained=None'
            ) from error
    else:
        state = _read_state_dict(Path(pretrained))
    missing, unexpected = _load(model, state)
    if missing:
        raise UserError(
            f'{pretrained} is not a state dict of this {name}: it lacks {", ".join(missing[:3])} '
            f'({len(missing)} in all), has {", ".join(unexpected[:3]) or "nothing"} beside'
        )


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(
            f"model.backbone.pretrained: no file {path} (use 'imagenet', a file of torchvision weights, or None)"
        )
    try:
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
