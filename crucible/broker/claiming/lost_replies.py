"""Calls of ``claim`` whose replies were lost: what they claimed is ours, but we do not know it.

The heartbeat of a worker keeps all its claims alive, so recovery would never find these.
"""

from __future__ import annotations

import time

from crucible.broker.wire import claim_value
from crucible.broker.wire.priority import priority_of, step_of
from crucible.broker.wire.retry import parse
from crucible.errors import MessageError

#: Seconds a call may still be executed after its connection was given up: what is in flight
#: through a stalled link arrives when the link recovers.
_EXECUTED_WITHIN_S = 300.0
#: Seconds between looks.
_LOOK_S = 1.0


class LostReplies:
    """Numbers of claims that may or may not have been made."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int, float]] = []
        self._found: set[str] = set()
        self._next_look = 0.0

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def add(self, first: int, last: int) -> None:
        """Claims ``first`` to ``last`` may have been made; they are looked for at once."""
        self._ranges.append((first, last, time.monotonic() + _EXECUTED_WITHIN_S))
        self._next_look = 0.0

    def found(self, field: str) -> None:
        """This one was made, and is known from now on."""
        self._found.add(field)

    def fields(self, prefix: str) -> list[str]:
        """Fields to look for now; none when the last look was just now."""
        if time.monotonic() < self._next_look:
            return []
        fields = [
            f"{prefix}{number}"
            for first, last, _ in self._ranges
            for number in range(first, last + 1)
        ]
        self._found.intersection_update(fields)
        return [field for field in fields if field not in self._found]

    def looked(self, began: float) -> None:
        """All fields were looked for in a look that ``began`` then, by ``time.monotonic()``.

        Calls that cannot be executed any more are forgotten only now: one that is forgotten
        without a look would leave claims that no worker knows of.
        """
        self._next_look = time.monotonic() + _LOOK_S
        self._ranges = [lost for lost in self._ranges if lost[2] > began]


def read_value(value: bytes) -> tuple[bytes, str, int]:
    """Message, queue and priority step of a claim this worker's scripts wrote.

    The message's own bytes are cut out, not encoded anew.
    """
    raw, queue = claim_value.split(value)
    try:
        envelope = parse(raw)
    except MessageError:
        return raw, queue, 0
    return raw, queue, step_of(priority_of(envelope))
