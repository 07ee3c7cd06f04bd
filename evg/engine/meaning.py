"""What the numbers of a checkpoint mean: codecs, normalisation, plane rule; stored in it, compared with a config."""

from typing import Any

import numpy as np
from mmengine.config import Config

from evg.codecs.main import main_first
from evg.errors import UserError


def decoding(cfg: Config) -> dict[str, Any]:
    """The values that give outputs and inputs their meaning, flat and plain, as they are stored in a checkpoint."""
    flat: dict[str, Any] = {'plane_rule': cfg.get('plane_rule')}
    for name, codec in main_first(cfg.get('codecs') or {}).items():
        flat.update(
            {f'codecs.{name}.{k}': plain(v) for k, v in codec.items() if k not in ('read_out', 'sigma', 'heatmap_hw')}
        )
    flat.update(
        {f'preprocessor.{k}': plain(v) for k, v in (cfg.get('preprocessor') or {}).items() if k != 'memory_format'}
    )
    return flat


def check_meaning(cfg: Config, checkpoint: dict[str, Any], path: str) -> None:
    """Compare what a checkpoint's outputs and inputs mean with a config.

    Weights fit any virtual plane and any normalisation; figures would be wrong without a sign of it.

    Raises:
        UserError: a value differs; the message names it.
    """
    trained = checkpoint.get('meta', {}).get('decoding')
    if trained is None:
        return
    for key, now in decoding(cfg).items():
        then = trained.get(key)
        if now != then:
            raise UserError(
                f'{path} was trained with {key}={then}, this config has {key}={now}: test it with the config it was '
                'trained with, or override the key'
            )


def plain(value: Any) -> Any:
    """Numpy numbers and arrays as Python's, whatever else is no plain value as its text."""
    if isinstance(value, dict):
        return {str(k) if not isinstance(k, int) else k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)
