"""Which codecs a network has, and which of them is the main one."""

from collections.abc import Mapping
from typing import TypeVar

from evg.registry import CODECS

Codec = TypeVar('Codec')


def main_first(codecs: Mapping[str, Codec | None]) -> dict[str, Codec]:
    """The codecs by name, objects or configs, those that say where a person looks before auxiliary ones.

    One that is None, removed from a base config, is left out.
    A codec class is auxiliary by its attribute. The order in a config does not tell: a dumped config is sorted by name.
    """

    def auxiliary(codec) -> bool:
        kind = CODECS.lookup(codec['type']) if isinstance(codec, Mapping) else codec
        return getattr(kind, 'auxiliary', False)

    kept = {name: codec for name, codec in codecs.items() if codec is not None}
    return dict(sorted(kept.items(), key=lambda item: auxiliary(item[1])))
