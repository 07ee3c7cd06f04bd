"""Calibrations of the people who sit at the moment: kept for a while, never more than so many."""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from evg.serve.refusal import Refusal


@dataclass(frozen=True)
class Stored:
    """A calibration as the server keeps it.

    Attributes:
        name: its id.
        file: its JSON file, as text.
        summary: what the client was told about it, JSON as text.
    """

    name: str
    file: str
    summary: str


class Calibrations:
    """Calibrations by an id that cannot be guessed, so that nobody gets at another's.

    Args:
        capacity: how many are kept; the one that was not used for the longest time goes first.
        lifetime_s: how long one is kept after its last use.
        clock: seconds.
    """

    def __init__(self, capacity: int, lifetime_s: float, clock: Callable[[], float] = time.monotonic):
        self.capacity, self.lifetime_s, self.clock = capacity, lifetime_s, clock
        self._stored: OrderedDict[str, tuple[float, Stored]] = OrderedDict()

    def __len__(self) -> int:
        self._forget()
        return len(self._stored)

    def add(self, file: str, summary: str) -> Stored:
        """Keep one; its summary, a JSON object with some content, gets the id."""
        name = secrets.token_urlsafe(16)
        stored = Stored(name, file, f'{{"id": "{name}", {summary[1:]}')
        self._stored[name] = (self.clock(), stored)
        self._forget()
        return stored

    def get(self, name: str) -> Stored:
        """One that is kept; it counts as used.

        Raises:
            Refusal: 404.
        """
        self._forget()
        if name not in self._stored:
            raise Refusal(404, 'there is no such calibration; it may have expired')
        _, stored = self._stored.pop(name)
        self._stored[name] = (self.clock(), stored)
        return stored

    def remove(self, name: str) -> None:
        """Forget one.

        Raises:
            Refusal: 404.
        """
        self.get(name)
        del self._stored[name]

    def _forget(self) -> None:
        oldest = self.clock() - self.lifetime_s
        while self._stored:
            used, _ = next(iter(self._stored.values()))
            if used >= oldest and len(self._stored) <= self.capacity:
                return
            self._stored.popitem(last=False)
