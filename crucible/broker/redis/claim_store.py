"""The life of claims as atomic operations; see ``redis/store.py``."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from crucible.broker.redis.commands import Commands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.redis_keys import Keys


class Claimed(NamedTuple):
    """The reply of ``claim``.

    Attributes:
        server_time: seconds since the epoch.
        dead_letters: messages that became dead letters instead.
        is_full: the server's memory is full.
        lists: for each message the list it came from: its number among those asked for, from 1.
        messages: their bytes, in the order of service.
    """

    server_time: float
    dead_letters: int
    is_full: bool
    lists: Sequence[int]
    messages: Sequence[bytes]


class ResultsSettled(NamedTuple):
    """The reply of ``settle_results``.

    Attributes:
        ours: claims that were still ours.
        stored: results that were stored; one that ended its task before stays.
    """

    ours: int
    stored: int


class Destination(StrEnum):
    """Where a settlement sends its message."""

    QUEUE_HEAD = "head"  # the end consumers take from
    QUEUE_TAIL = "tail"  # the end producers push to
    DELAYED = "delayed"
    DEAD_LETTERS = "dead_letters"


class DelayedEntry(NamedTuple):
    """The entry of ``unacked`` that a delayed message becomes.

    Attributes:
        field: new, of no worker.
        eta: when it is due, seconds since the epoch.
        queue_name: its queue's name as JSON.
    """

    field: str
    eta: float
    queue_name: str


class MessageSettlement(NamedTuple):
    """A claim that ends by sending its message somewhere.

    Attributes:
        field: of the claim.
        destination: what kind of place the message goes to.
        target: the list, for a delayed message the list it is for, or the stream.
        raw: the message as it goes there.
        result_key: where ``meta`` is stored; empty for no result.
        meta: the result.
        delayed: for ``DELAYED``.
        letter: names and values of the dead letter besides ``raw``; for ``DEAD_LETTERS``.
    """

    field: str
    destination: Destination
    target: str
    raw: bytes
    result_key: str = ""
    meta: bytes = b""
    delayed: DelayedEntry | None = None
    letter: Sequence[str] = ()


class DelayRow(NamedTuple):
    """A claim to be delayed as it is.

    Attributes:
        field: of the claim.
        delayed_field: new, of no worker.
        eta: seconds since the epoch.
    """

    field: str
    delayed_field: str
    eta: float


class Delayed(NamedTuple):
    """The reply of ``delay``: the server's time, and the fields of claims that are due already."""

    server_time: float
    due: Sequence[str]


class Renewed(NamedTuple):
    """The reply of ``renew``.

    Attributes:
        server_time: seconds since the epoch.
        fenced: claims of this worker were given to others: it was taken for dead.
        missing: fields that are no claims any more.
    """

    server_time: float
    fenced: bool
    missing: Sequence[str]


class ClaimStore(Commands, Protocol):
    """The life of claims."""

    async def claim(
        self,
        keys: Keys,
        *,
        field_prefix: str,
        last_number: int,
        limit: int,
        limit_when_full: int,
        lists: Sequence[str],
        queue_names: Sequence[str],
    ) -> Claimed:
        """Claim up to ``limit`` messages; garbage becomes dead letters.

        Args:
            keys: key names.
            field_prefix: what fields of ``unacked`` start with; a number follows.
            last_number: the last number used.
            limit: messages at most.
            limit_when_full: the same while the server's memory is full.
            lists: step lists in the order of service.
            queue_names: for each list the name of its queue as JSON.
        """

    async def settle_results(
        self,
        keys: Keys,
        fields: Sequence[str],
        result_keys: Sequence[str],
        metas: Sequence[bytes],
        ttl_s: int,
    ) -> ResultsSettled:
        """Acknowledge claims, storing and publishing results; either may be empty.

        Args:
            keys: key names.
            fields: of the claims.
            result_keys: where results are stored.
            metas: the results, in the same order.
            ttl_s: seconds results are kept, 0 for ever.
        """

    async def settle_message(
        self, keys: Keys, settled: MessageSettlement, visibility_timeout_s: float, ttl_s: int
    ) -> bool:
        """Requeue, delay or dead-letter one message; False when its claim was not ours."""

    async def delay(
        self, keys: Keys, rows: Sequence[DelayRow], visibility_timeout_s: float
    ) -> Delayed:
        """Turn claims into delayed messages, unless they are due."""

    async def requeue(self, keys: Keys, rows: Sequence[tuple[str, str]]) -> int:
        """Put claims (field, list) that were not started back unchanged; how many were ours.

        The newest comes first: they go to the end messages are taken from.
        """

    async def renew(
        self, keys: Keys, worker_id: str, heartbeat: str, fields: Sequence[str]
    ) -> Renewed:
        """Write a worker's heartbeat and extend the leases of its claims."""
