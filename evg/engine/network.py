"""The network of a config with the weights of a checkpoint, for what is done with it after training."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from evg.engine.launch import load_weights
from evg.engine.leak_guard import META_KEY
from evg.engine.meaning import check_meaning
from evg.engine.storage import load_checkpoint_file
from evg.files import atomic_write
from evg.models import GazeEstimator
from evg.registry import MODELS

UNTRAINED = 'none'


def load_network(cfg: Config, checkpoint: str) -> tuple[GazeEstimator, dict[str, Any]]:
    """Build the network and fill it; in evaluation mode, on the CPU.

    Args:
        cfg: a loaded config.
        checkpoint: a file of evg, or 'none' for random weights, the same at each call.

    Returns:
        The network, and where it comes from: config, checkpoint, checkpoint_sha256 (None without a checkpoint).

    Raises:
        UserError: no such checkpoint, or one of another network or of other meaning.
    """
    torch.manual_seed(0)
    described = cfg.model.to_dict() if hasattr(cfg.model, 'to_dict') else dict(cfg.model)
    if 'pretrained' in described['backbone']:
        described['backbone'] = {**described['backbone'], 'pretrained': None}
    model: GazeEstimator = MODELS.build(described)
    facts: dict[str, Any] = {'config': '/'.join(Path(cfg.filename or '').parts[-2:])}
    if checkpoint == UNTRAINED:
        return model.eval(), {**facts, 'checkpoint': None, 'checkpoint_sha256': None}
    loaded = load_checkpoint_file(checkpoint)
    load_weights(model, loaded, checkpoint)
    check_meaning(cfg, loaded, checkpoint)
    digest = hashlib.sha256(Path(checkpoint).expanduser().read_bytes()).hexdigest()
    return model.eval(), {**facts, 'checkpoint': Path(checkpoint).name, 'checkpoint_sha256': digest}


def save_start(path: str | Path, state_dict: dict[str, torch.Tensor], parent: str) -> None:
    """Write weights that a training starts from (`load_from`).

    Args:
        path: the file.
        state_dict: the weights.
        parent: the checkpoint that they were made from, or 'none'. What it says of persons and meaning goes with them.
    """
    meta = {} if parent == UNTRAINED else load_checkpoint_file(parent).get('meta', {})
    kept = {name: meta[name] for name in (META_KEY, 'decoding') if name in meta}
    with atomic_write(path) as file:
        torch.save({'state_dict': state_dict, 'meta': kept}, file)
