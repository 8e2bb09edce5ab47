"""The cells of the matrix: how long, in which state, for whom."""

from __future__ import annotations

import enum
import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Seconds an outage lasts. A heartbeat lasts 9 s: two are shorter than it and three longer.
SECONDS = (1, 5, 12, 30, 90)


class State(enum.StrEnum):
    """What is wrong with the queue server. Where one side is affected, its link does it."""

    #: It ends in good order and is started again. One side: connections are reset and refused.
    STOPPED = "stopped"
    #: SIGKILL, and it is started again. One side: packets vanish, and so do their connections.
    KILLED = "killed"
    #: SIGSTOP and SIGCONT. One side: nothing flows, and all of it does afterwards.
    FROZEN = "frozen"
    #: It is a replica for a while: READONLY. One side: it is led to a replica.
    DEMOTED = "demoted"
    #: ``maxmemory`` is just below what is used. One side: what writes is answered with OOM.
    FULL = "full"
    #: The password of the users is another for a while, and their connections are closed.
    ROTATED = "rotated"


class Side(enum.StrEnum):
    """Who is affected."""

    API = "api"
    WORKER = "worker"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Cell:
    """One outage."""

    seconds: int
    state: State
    side: Side

    @property
    def name(self) -> str:
        """Such as ``12-frozen-worker``."""
        return f"{self.seconds}-{self.state}-{self.side}"


MATRIX = tuple(
    Cell(seconds, state, side) for seconds in SECONDS for state in State for side in Side
)
#: A few that took running tasks from living workers, lost results, or never healed.
SHORT = (
    Cell(12, State.FROZEN, Side.WORKER),
    Cell(12, State.KILLED, Side.BOTH),
    Cell(12, State.DEMOTED, Side.BOTH),
    Cell(12, State.FULL, Side.BOTH),
    Cell(12, State.ROTATED, Side.WORKER),
)


def select(patterns: Iterable[str], cells: Iterable[Cell] = MATRIX) -> list[Cell]:
    """The cells whose names match a pattern such as ``12-*-both``, the longest first.

    Raises:
        ValueError: a pattern matches none.
    """
    known = list(cells)
    asked = list(patterns)
    for pattern in asked:
        if not any(fnmatch.fnmatch(cell.name, pattern) for cell in known):
            raise ValueError(f"no cell is called {pattern}")
    chosen = [
        cell for cell in known if not asked or any(fnmatch.fnmatch(cell.name, p) for p in asked)
    ]
    # The longest first: nobody waits for one that was started last.
    return sorted(chosen, key=lambda cell: -cell.seconds)
