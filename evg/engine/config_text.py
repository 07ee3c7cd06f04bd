"""The text of a config, formatted once a run."""

import functools

from yapf.yapflib import yapf_api


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
    yapf_api.FormatCode = formatted
