"""From a checkpoint of an original to one of evg."""

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor

from evg.codecs.main import main_first
from evg.engine.config_text import remember_formatted_configs
from evg.engine.leak_guard import CONVERTED_KEY, META_KEY
from evg.engine.meaning import decoding
from evg.engine.storage import load_checkpoint_file
from evg.errors import UserError
from evg.files import atomic_write
from evg.models.flops import build_on_meta
from evg.models.originals import ORIGINALS, convert_weights
from evg.registry import CODECS

# Where the originals put the weights: CenterNet and EVG, ETH-XGaze.
_WRAPPERS = ('state_dict', 'model_state')


def convert_checkpoint(
    path: str, cfg: Config, out: str | os.PathLike, original: str = 'auto', heads: bool = True
) -> list[str]:
    """Write an original's weights as a checkpoint that tools/test.py takes with this config.

    Nothing in the file is executed. What it was trained on is not known, and the new file says so.

    Args:
        path: the original's checkpoint.
        cfg: a loaded config of the same network.
        out: the new file.
        original: key of `ORIGINALS`, or 'auto'.
        heads: False leaves the heads out: a start for `load_from`, which no test takes.

    Returns:
        Lines for the user: what became of the tensors, and what the config takes for granted.

    Raises:
        UserError: the file cannot be read without executing it, is none of an original, or does not fit the config.
    """
    checkpoint = load_checkpoint_file(path)
    if Path(out).exists() and os.path.samefile(path, out):
        raise UserError(f'{out} is the original itself: give the new file another name')
    if META_KEY in (checkpoint.get('meta') or {}):
        raise UserError(f'{path} is a checkpoint of evg already')
    done = convert_weights(_weights(checkpoint, path), build_on_meta(cfg.model).state_dict(), original, heads)
    facts: dict[str, Any] = {
        'file': Path(path).name,
        'sha256': _sha256(path),
        'original': done.original,
        'dropped': sorted(done.dropped),
    }
    if isinstance(checkpoint.get('epoch'), int):
        facts['epoch'] = checkpoint['epoch']
    remember_formatted_configs()
    meta = {
        'experiment_name': Path(str(cfg.filename)).stem,
        'cfg': cfg.pretty_text,
        'decoding': decoding(cfg),
        CONVERTED_KEY: facts,
        META_KEY: {'train': {}, 'val': {}, 'best': None, 'early_stop': False},
    }
    with atomic_write(out) as file:
        torch.save({'state_dict': done.state_dict, 'meta': meta}, file)
    why = dict.fromkeys(done.dropped.values(), 0)
    for reason in done.dropped.values():
        why[reason] += 1
    return [
        f'{len(done.state_dict)} tensors of {ORIGINALS[done.original].what} -> {out}',
        *(f'dropped: {count} tensors, {reason}' for reason, count in why.items()),
        *_assumptions(cfg),
    ]


def _weights(checkpoint: dict[str, Any], path: str) -> dict[str, Tensor]:
    state = next((checkpoint[key] for key in _WRAPPERS if isinstance(checkpoint.get(key), dict)), checkpoint)
    other = [str(name) for name, value in state.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if other or not state:
        raise UserError(
            f'{path} holds no state dict: {", ".join(other[:4]) or "it is empty"} is no tensor; known are a state dict '
            f'alone, and one under {" or ".join(map(repr, _WRAPPERS))}'
        )
    return state


def _assumptions(cfg: Config) -> list[str]:
    """What the weights cannot tell and the config says instead."""
    given = {key: value for key, value in (cfg.get('preprocessor') or {}).items() if key != 'type'}
    return [
        'what the file does not tell is taken from the config (--cfg-options changes it):',
        f'  preprocessor: {", ".join(f"{key} {value}" for key, value in given.items())}',
        *(f'  {name}: {CODECS.build(codec).describe()}' for name, codec in main_first(cfg.codecs).items()),
    ]


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()
