"""A claim, and the ways it may end: plain data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crucible.broker.canvas.continuation import Continuation


@dataclass(slots=True, eq=False)
class Claim:
    """One message that is ours to end.

    Attributes:
        field: its name in ``unacked``.
        queue: name of the queue it came from.
        step: priority step of the list it came from.
        raw: its exact bytes.
    """

    field: str
    queue: str
    step: int
    raw: bytes


class Move(StrEnum):
    """Where a message goes that does not simply end."""

    HEAD = "head"  # the end consumers take from
    TAIL = "tail"  # the end producers push to
    PARK = "park"  # delayed
    BURY = "bury"  # dead letter


@dataclass(slots=True, frozen=True, kw_only=True)
class Onward:
    """What becomes of a claimed message besides its result.

    Attributes:
        move: where it goes.
        raw: the message as it goes on.
        eta: when it is due, seconds since the epoch; for ``PARK``.
        letter: further fields of the dead letter; for ``BURY``.
    """

    move: Move
    raw: bytes
    eta: float = 0.0
    letter: Mapping[str, str] | None = None


@dataclass(slots=True, eq=False)
class Settlement:
    """How a claim ends.

    Attributes:
        claim: the claim; None stores a result only.
        result_key: where ``meta`` is stored; empty for no result.
        meta: the encoded result.
        onward: where the message goes on to; None drops it.
        continuation: what else the end causes, in the same step; None for most.
    """

    claim: Claim | None
    result_key: str = ""
    meta: bytes = b""
    onward: Onward | None = None
    continuation: Continuation | None = None
