"""The text of a config: formatted once a run, by a yapf that shares nothing with other processes."""

import functools
import os
from types import ModuleType

import platformdirs


def _import_yapf() -> ModuleType:
    """``yapf_api``, imported without the grammar that yapf keeps in the user's cache.

    yapf 0.43 gives that file its name before all of it is written: a process that starts at the same time, or any later
    one if the writer was killed there, reads half a pickle and ends. Without the file an import takes 15 ms more.
    """
    user_cache_dir = platformdirs.user_cache_dir
    platformdirs.user_cache_dir = lambda **_: os.path.join(os.devnull, 'yapf')  # there is no such folder
    try:
        from yapf.yapflib import yapf_api  # noqa: PLC0415
    finally:
        platformdirs.user_cache_dir = user_cache_dir
    return yapf_api


yapf_api = _import_yapf()


def remember_formatted_configs() -> None:
    """Let ``Config.pretty_text`` format each text once.

    A run asks for the same text at its start and at every checkpoint, and yapf takes more than a second for it.
    """
    if hasattr(yapf_api.FormatCode, 'cache_info'):
        return
    format_code = yapf_api.FormatCode

    @functools.lru_cache(maxsize=16)
    def remembered(text: str, style: tuple[tuple[str, object], ...]) -> tuple[str, bool]:
        return format_code(text, style_config=dict(style))

    def formatted(text: str, style_config: dict[str, object]) -> tuple[str, bool]:
        return remembered(text, tuple(style_config.items()))

    formatted.cache_info = remembered.cache_info  # type: ignore[attr-defined]
    yapf_api.FormatCode = formatted  # type: ignore[attr-defined]
