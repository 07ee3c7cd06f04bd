"""How mmengine's checkpoints and small files get to disk and back: whole files, and no code in them.

Importing this module replaces mmengine's local file backend and checkpoint loader, in this one place.
"""

import os
from pathlib import Path
from typing import Any

import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.runner import CheckpointLoader

from evg.errors import UserError
from evg.files import atomic_write


@register_backend('local', force=True, prefixes='')
class AtomicLocalBackend(LocalBackend):
    """mmengine's local files, written whole or not at all, so that a killed run leaves no half checkpoint."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes."""
        with atomic_write(filepath) as file:
            file.write(obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text."""
        self.put(obj.encode(encoding), filepath)


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_checkpoint_file(filename: str, map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a checkpoint as plain tensors and values; nothing in the file is executed.

    Args:
        filename: a local path.
        map_location: as torch.load.

    Raises:
        UserError: no such file, not a whole checkpoint, or one with pickled objects.
    """
    path = Path(os.path.expanduser(filename))
    if not path.is_file():
        near = sorted(str(p) for p in path.parent.glob('*.pth')) if path.parent.is_dir() else []
        raise UserError(f'no checkpoint {path}' + (f'; there are {", ".join(near[:5])}' if near else ''))
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:
        # Damaged bytes raise almost anything, and torch's own text advises to execute what is in the file.
        raise UserError(
            f'{path} is not a whole checkpoint of plain tensors and values ({type(error).__name__}); a file with other '
            'Python objects in it is never opened: save its state dict alone with the program that wrote it'
        ) from error
    if not isinstance(checkpoint, dict):
        raise UserError(f'{path} holds a {type(checkpoint).__name__}, not a checkpoint')
    return checkpoint
