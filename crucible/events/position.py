"""Positions in the stream: ids of its entries, which are ordered. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple, Self

_ID = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")
_MAX = 2**64 - 1


class Position(NamedTuple):
    """The id of an entry, or a place between two.

    Attributes:
        ms: milliseconds since the epoch by the bus's clock.
        number: counts the entries of one millisecond.
    """

    ms: int
    number: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.number}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """A position from its text; None where it is none."""
        match = _ID.fullmatch(text)
        if match is None:
            return None
        found = cls(int(match[1]), int(match[2]))
        return found if max(found) <= _MAX else None

    @classmethod
    def of_entry(cls, entry_id: bytes) -> Self:
        """The position of an entry that the bus returned."""
        ms, _, number = entry_id.partition(b"-")
        return cls(int(ms), int(number))

    @property
    def ended(self) -> bool:
        """It stands for the end of an evaluation that has no entry of its own; see ``end_at``."""
        return self.number == _MAX

    def end_at(self) -> Position:
        """The id under which a client is given an end that was read from the result."""
        return Position(self.ms, _MAX)


START = Position(0, 0)
