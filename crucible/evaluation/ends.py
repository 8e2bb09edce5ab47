"""How evaluations ended, counted on the task queue server for every api process to show.

Whoever sees an end (a worker, or an api process for the legacy queue, whose workers know nothing of
this server) notes it down in memory; once a second a handful of fields of one hash is incremented.
Nothing of it is on the way of a submission, nor of a task's end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_left
from collections import Counter, deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from crucible.broker.servers.connection import open_client, translated
from crucible.errors import BrokerError
from crucible.evaluation.record import decode_record, once_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

    from crucible.broker.keys import Keys
    from crucible.models import Status

log = logging.getLogger(__name__)

Side = Literal["celery", "legacy"]
#: Upper bounds of the counted durations, seconds; programs take milliseconds to minutes.
BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_LABELS = (*map(str, BOUNDS_S), "+Inf")
#: Seconds between two writes; what a killed process noted since the last is not counted.
WRITE_S = 1.0
#: Ends that wait for a server that is away; beyond that the oldest are not counted.
LIMIT = 10_000
#: Records read at once.
PAGE = 500


class _End(NamedTuple):
    """One end. ``duration_s`` is None where only the record knows when it began."""

    side: Side
    status: str
    eval_id: str
    at_s: float
    duration_s: float | None


@dataclass(slots=True)
class EndCounts:
    """All ends of one side.

    Attributes:
        statuses: evaluations by the status they ended with.
        durations: evaluations by the upper bound of their duration, each counted once.
        total_s: the sum of all durations.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    durations: Counter[str] = field(default_factory=Counter)
    total_s: float = 0.0

    def cumulative(self) -> list[tuple[str, int]]:
        """The durations as Prometheus wants them: how many took no longer than each bound."""
        found, so_far = [], 0
        for label in _LABELS:
            so_far += self.durations[label]
            found.append((label, so_far))
        return found


class Tally:
    """Counts ends; opened with ``writing``."""

    def __init__(self) -> None:
        # Of one writer and one reader in different threads, in stock workers.
        self._noted: deque[_End] = deque(maxlen=LIMIT)
        self._unwritten: Counter[str] = Counter()

    def note(
        self, side: Side, status: Status, eval_id: str, duration_s: float | None = None
    ) -> None:
        """Note an end; cheap, and from any thread.

        Args:
            side: where it ended.
            status: how.
            eval_id: which; only what is on record counts, unless ``duration_s`` is given.
            duration_s: seconds from its acceptance; None has the record read for it, later.
        """
        self._noted.append(_End(side, status.value, eval_id, time.time(), duration_s))

    @asynccontextmanager
    async def writing(self, broker_url: str, keys: Keys) -> AsyncIterator[Tally]:
        """Write what is noted while the context is open, and once more at its end."""
        stop = asyncio.Event()
        async with open_client(broker_url, name="ends") as client:
            writing = self._keep_writing(client, keys, stop)
            task = asyncio.create_task(writing, name="crucible-ends")
            try:
                yield self
            finally:
                # Not cancelled: a write broken off in the middle is done or not, who knows.
                stop.set()
                await task

    async def _keep_writing(self, client: Redis, keys: Keys, stop: asyncio.Event) -> None:
        stopped = False
        while not stopped:
            try:
                async with asyncio.timeout(WRITE_S):
                    stopped = await stop.wait()
            except TimeoutError:
                stopped = False
            await self._write(client, keys)

    async def _write(self, client: Redis, keys: Keys) -> None:
        try:
            async with asyncio.timeout(2 * WRITE_S):
                while self._noted:
                    await self._count(client, keys, [*self._noted][:PAGE])
                await self._flush(client, keys)
        except (BrokerError, TimeoutError) as error:
            log.debug("ends wait to be counted: %s", error)

    async def _count(self, client: Redis, keys: Keys, ends: Sequence[_End]) -> None:
        """Turn ends into increments."""
        unknown = [end.eval_id for end in ends if end.duration_s is None]
        began_s = await _began_s(client, keys, unknown)
        for end in ends:
            duration_s = end.duration_s
            if duration_s is None and end.eval_id in began_s:
                duration_s = max(0.0, end.at_s - began_s[end.eval_id])
            if duration_s is not None:
                label = _LABELS[bisect_left(BOUNDS_S, duration_s)]
                self._unwritten[f"{end.side} status {end.status}"] += 1
                self._unwritten[f"{end.side} le {label}"] += 1
                self._unwritten[f"{end.side} ms"] += round(duration_s * 1000)
        for end in ends:
            # A full deque may have dropped some of them meanwhile.
            if self._noted and self._noted[0] is end:
                self._noted.popleft()

    async def _flush(self, client: Redis, keys: Keys) -> None:
        if not self._unwritten:
            return
        with translated():
            # Finds out that the server is away while all can still be kept. What fails after that
            # may have been counted, so it is not counted again.
            await client.ping()
            unwritten, self._unwritten = self._unwritten, Counter()
            async with client.pipeline(transaction=True) as pipe:
                for name, more in unwritten.items():
                    pipe.hincrby(keys.ends, name, more)
                await pipe.execute()


async def _began_s(client: Redis, keys: Keys, eval_ids: Sequence[str]) -> dict[str, float]:
    """When evaluations were accepted, seconds since the epoch, as far as they are on record."""
    if not eval_ids:
        return {}
    with translated():
        stored: Any = await client.mget([keys.once(once_name(eval_id)) for eval_id in eval_ids])
    found = {}
    for eval_id, value in zip(eval_ids, stored, strict=True):
        try:
            if value is not None:
                found[eval_id] = decode_record(value).created_ms / 1000
        except msgspec.DecodeError:
            continue
    return found


async def read_ends(client: Redis, keys: Keys) -> dict[str, EndCounts]:
    """What was counted, by side.

    Raises:
        BrokerError: the server does not answer.
    """
    with translated():
        stored: Any = await client.hgetall(keys.ends)
    found: dict[str, EndCounts] = {}
    for name, number in stored.items():
        side, kind, *label = name.decode().split(" ", 2)
        counts = found.setdefault(side, EndCounts())
        if kind == "ms":
            counts.total_s = int(number) / 1000
        else:
            of = counts.statuses if kind == "status" else counts.durations
            of[label[0]] = int(number)
    return found
