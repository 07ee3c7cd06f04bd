"""Reading JSON field by field, so that what is wrong is named with its place in the file."""

import math
from collections.abc import Iterable
from typing import Any

from evg.errors import UserError, did_you_mean


class Fields:
    """A JSON object; `where` is its place: the file and the names of the fields above it."""

    def __init__(self, data: Any, where: str):
        self.where = where
        if not isinstance(data, dict):
            raise UserError(f'{where} must be an object, not {data!r}')
        self.data = data
        self.known: set[str] = set()

    def any(self, name: str) -> Any:
        """A field of any kind; it must be there."""
        self.known.add(name)
        if name not in self.data:
            raise UserError(f'{self.where}.{name} is missing')
        return self.data[name]

    def wrong(self, name: str, allowed: str) -> UserError:
        """The error of a field."""
        return UserError(f'{self.where}.{name} must be {allowed}, not {self.data[name]!r}')

    def object(self, name: str) -> 'Fields':
        """A field that is an object."""
        return Fields(self.any(name), f'{self.where}.{name}')

    def text(self, name: str, allowed: Iterable[str] = (), null: bool = False) -> Any:
        """A text, one of `allowed` if they are given."""
        value, allowed = self.any(name), tuple(allowed)
        if value is None and null:
            return None
        if not isinstance(value, str) or not value or (allowed and value not in allowed):
            raise self.wrong(name, f'one of {", ".join(allowed)}{" or null" * null}' if allowed else 'a text')
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self.any(name)
        if not isinstance(value, bool):
            raise self.wrong(name, 'true or false')
        return value

    def whole(self, name: str, least: int, null: bool = False) -> Any:
        """A whole number."""
        value = self.any(name)
        if value is None and null:
            return None
        if not is_number(value, least) or not isinstance(value, int):
            raise self.wrong(name, f'a whole number of at least {least}{" or null" * null}')
        return value

    def number(self, name: str) -> float:
        """A positive number."""
        value = self.any(name)
        if not is_number(value, 0) or value == 0:
            raise self.wrong(name, 'a positive number')
        return value

    def numbers(self, name: str, count: int, kind: type = float, least: float = 0) -> tuple:
        """A list of `count` numbers."""
        value = self.any(name)
        good = isinstance(value, list) and len(value) == count
        if not good or not all(is_number(v, least) and (kind is float or isinstance(v, int)) for v in value):
            kinds = 'whole numbers' if kind is int else 'numbers'
            raise self.wrong(name, f'a list of {count} {kinds} of at least {least:g}')
        return tuple(value)

    def end(self) -> None:
        """Nothing is left."""
        for name in self.data.keys() - self.known:
            raise UserError(f'{self.where}.{name} is not known{did_you_mean(name, self.known)}')


def is_number(value: Any, least: float) -> bool:
    """A finite number of at least `least`; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= least
