"""Which of a network's codecs is the main one."""

from collections.abc import Mapping
from typing import TypeVar

from evg.registry import CODECS

Codec = TypeVar('Codec')


def main_first(codecs: Mapping[str, Codec]) -> dict[str, Codec]:
    """The codecs by name, objects or configs, those that say where a person looks before auxiliary ones.

    A codec class is auxiliary by its attribute. The order in a config does not tell: a dumped config is sorted by name.
    """

    def auxiliary(codec) -> bool:
        kind = CODECS.lookup(codec['type']) if isinstance(codec, Mapping) else codec
        return getattr(kind, 'auxiliary', False)

    return dict(sorted(codecs.items(), key=lambda item: auxiliary(item[1])))
