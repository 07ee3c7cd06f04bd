"""Which distribution of the module ``mmengine`` is installed."""

import importlib.metadata
from collections.abc import Collection

from evg.errors import UserError

NEEDED = 'onedl-mmengine>=0.10.12'


def _installed() -> set[str]:
    found = set()
    for name in ('mmengine', 'onedl-mmengine'):
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(name)
    return found


def require_mmengine(installed: Collection[str] | None = None) -> None:
    """Check that ``import mmengine`` means the maintained distribution.

    The upstream distribution cannot load its own checkpoints with torch >= 2.6, and both distributions write
    into the same folder ``mmengine/``.

    Args:
        installed: Names of the installed distributions; None asks ``importlib.metadata``.

    Raises:
        UserError: In one line, with the command that repairs the environment.
    """
    names = _installed() if installed is None else set(installed)
    if 'mmengine' in names and 'onedl-mmengine' in names:
        # uninstalling one removes files of the other, and pip alone would not write them again
        raise UserError(
            'mmengine and onedl-mmengine are both installed and overwrite each other: '
            f'pip uninstall -y mmengine && pip install --force-reinstall --no-deps "{NEEDED}"'
        )
    if 'mmengine' in names:
        raise UserError(
            'the installed mmengine cannot load its own checkpoints with torch >= 2.6: '
            f'pip uninstall -y mmengine && pip install "{NEEDED}"'
        )
    if 'onedl-mmengine' not in names:
        raise UserError(f'onedl-mmengine is not installed: pip install "{NEEDED}"')
