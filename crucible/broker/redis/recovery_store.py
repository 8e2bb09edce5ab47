"""Recovery and delayed messages as atomic operations; see ``redis/store.py``."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from crucible.broker.redis.commands import Commands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.redis_keys import Keys

#: Seconds that a delayed message waits whose list refused it.
REFUSED_PAUSE_S = 60


class DueReleased(NamedTuple):
    """The reply of ``release_due``.

    Attributes:
        server_time: seconds since the epoch.
        moved: messages that are in their lists now.
        refused: messages whose lists refused them; they wait ``REFUSED_PAUSE_S`` more.
        earliest_score: of what is left in ``unacked_index``; None when nothing is.
        stale: fields and scores of claims that are older than the visibility timeout.
    """

    server_time: float
    moved: int
    refused: int
    earliest_score: float | None
    stale: Sequence[tuple[str, str]]


class RestoreRow(NamedTuple):
    """A claim to be taken away from its owner.

    Attributes:
        field: of the claim.
        score: its score, as it was read; what decides where there is no ``owner``.
        owner: worker id; the claim is taken only while its heartbeat is missing. Empty: by age.
        target: the list, or the stream of dead letters.
        raw: the message.
        letter: names and values of the dead letter; empty where it goes to a list.
        others: further lists that get the message.
        result_key: where ``meta`` is stored; empty for no result.
        meta: the result.
        task_id: of a task's message that goes to a list, for the log.
    """

    field: str
    score: str
    owner: str
    target: str
    raw: bytes
    letter: Sequence[str] = ()
    others: Sequence[str] = ()
    result_key: str = ""
    meta: bytes = b""
    task_id: str = ""


class RestoreStatus(IntEnum):
    """What became of one row of ``restore``."""

    REFUSED = -1  # the key it was to go to is of another type
    NOT_LOST = 0  # another worker's by now, or its owner is alive
    TAKEN = 1


class SweepMark(StrEnum):
    """What to do with the mark that one worker sweeps for all."""

    LOOK = "look"  # leave it
    BEGIN = "begin"  # take it, unless another worker has it
    RENEW = "renew"  # keep it


class SweepBegun(NamedTuple):
    """The reply of ``begin_sweep``, which is a write that the server has confirmed.

    Attributes:
        server_time: seconds since the epoch.
        server_id: of the server's process; empty where it does not tell.
        is_ours: the mark is this worker's.
    """

    server_time: float
    server_id: str
    is_ours: bool


class StraysIndexed(NamedTuple):
    """The reply of ``index_strays``: where to go on, 0 at the end, and how many there were."""

    cursor: int
    found: int


class RecoveryStore(Commands, Protocol):
    """What becomes of delayed messages and of claims without an owner."""

    async def release_due(self, keys: Keys, visibility_timeout_s: float, limit: int) -> DueReleased:
        """Move delayed messages that are due to their lists; looks at ``limit`` rows."""

    async def restore(
        self, keys: Keys, rows: Sequence[RestoreRow], ttl_s: int
    ) -> list[RestoreStatus]:
        """Take claims away from owners who are gone; one status a row."""

    async def begin_sweep(self, keys: Keys, mark: SweepMark) -> SweepBegun:
        """Write to the server; who it is, and whether a sweep is ours to make."""

    async def index_strays(self, keys: Keys, cursor: int, scan_rows: int) -> StraysIndexed:
        """Give claims without a row in ``unacked_index`` one, dated now; a page of them.

        Args:
            keys: key names.
            cursor: 0 to begin, then as the last call said.
            scan_rows: claims looked at, about.
        """
