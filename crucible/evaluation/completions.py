"""How evaluations ended, counted on the task queue server for every api process to show.

Whoever sees an end (a worker, or an api process for the legacy queue, whose workers know nothing of
this server) notes it down in memory; once a second a handful of fields of one hash is incremented,
and the records of what ended are kept as long as their results from then on, and no longer. Nothing
of it is on the way of a submission, nor of a task's end.
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

from crucible.broker.redis.connection import open_client, translated
from crucible.errors import BrokerError
from crucible.evaluation.record import decode_record, once_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

    from crucible.models import Status
    from crucible.redis_keys import Keys

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
class CompletionCounts:
    """All ends of one side.

    Attributes:
        statuses: evaluations by the status they ended with.
        durations: evaluations by the upper bound of their duration, each counted once.
        total_s: the sum of all durations.
        sandboxes: programs that found a sandbox ready (``hit``), and that had to wait (``miss``).
        sandbox_wait_s: the sum of those waits.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    durations: Counter[str] = field(default_factory=Counter)
    total_s: float = 0.0
    sandboxes: Counter[str] = field(default_factory=Counter)
    sandbox_wait_s: float = 0.0

    def read(self, kind: str, label: str, number: int) -> None:
        """Take in one field as it is stored; those of a later version are passed over."""
        if kind == "ms":
            self.total_s = number / 1000
        elif kind == "sandbox_ms":
            self.sandbox_wait_s = number / 1000
        elif kind == "status":
            self.statuses[label] = number
        elif kind == "le":
            self.durations[label] = number
        elif kind == "sandbox":
            self.sandboxes[label] = number

    def cumulative(self) -> list[tuple[str, int]]:
        """The durations as Prometheus wants them: how many took no longer than each bound."""
        found, so_far = [], 0
        for label in _LABELS:
            so_far += self.durations[label]
            found.append((label, so_far))
        return found


class CompletionCounter:
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

    def sandbox_taken(self, *, hit: bool, waited_s: float) -> None:
        """Count a program that got a sandbox; only in the event loop that ``writing`` runs in.

        Args:
            hit: one was ready.
            waited_s: seconds until it had one.
        """
        self._unwritten[f"celery sandbox {'hit' if hit else 'miss'}"] += 1
        if not hit:
            self._unwritten["celery sandbox_ms"] += round(waited_s * 1000)

    @asynccontextmanager
    async def writing(
        self, broker_url: str, keys: Keys, result_ttl_s: int
    ) -> AsyncIterator[CompletionCounter]:
        """Write what is noted while the context is open, and once more at its end.

        Args:
            broker_url: the task queue server.
            keys: key names.
            result_ttl_s: seconds a result is kept, and the record of what ended with it.
        """
        stop = asyncio.Event()
        async with open_client(broker_url, name="ends") as client:
            writing = self._keep_writing(_Store(client, keys, result_ttl_s), stop)
            task = asyncio.create_task(writing, name="crucible-ends")
            try:
                yield self
            finally:
                # Not cancelled: a write broken off in the middle is done or not, who knows.
                stop.set()
                await task

    async def _keep_writing(self, store: _Store, stop: asyncio.Event) -> None:
        stopped = False
        while not stopped:
            try:
                async with asyncio.timeout(WRITE_S):
                    stopped = await stop.wait()
            except TimeoutError:
                stopped = False
            await self._write(store)

    async def _write(self, store: _Store) -> None:
        try:
            async with asyncio.timeout(2 * WRITE_S):
                while self._noted:
                    await self._count(store, [*self._noted][:PAGE])
                await self._flush(store)
        except (BrokerError, TimeoutError) as error:
            log.debug("ends wait to be counted: %s", error)

    async def _count(self, store: _Store, ends: Sequence[_End]) -> None:
        """Turn ends into increments."""
        began_s = await store.close(ends)
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

    async def _flush(self, store: _Store) -> None:
        if not self._unwritten:
            return
        # Finds out that the server is away while all can still be kept. What fails after that
        # may have been counted, so it is not counted again.
        await store.check()
        unwritten, self._unwritten = self._unwritten, Counter()
        await store.add(unwritten)


class _Store:
    """The task queue server, as far as ends are its matter."""

    def __init__(self, client: Redis, keys: Keys, result_ttl_s: int) -> None:
        self._client = client
        self._keys = keys
        self._result_ttl_s = result_ttl_s

    async def close(self, ends: Sequence[_End]) -> dict[str, float]:
        """Keep the records of what has ended as long as results are, from now on.

        Returns:
            When those whose duration is not known were accepted, seconds since the epoch, as far
            as they are on record.
        """
        unknown = [end.eval_id for end in ends if end.duration_s is None]
        with translated():
            async with self._client.pipeline(transaction=False) as pipe:
                for end in ends:
                    pipe.expire(self._record(end.eval_id), self._result_ttl_s)
                if unknown:
                    pipe.mget([self._record(eval_id) for eval_id in unknown])
                answers = await pipe.execute()
        return _began_s(unknown, answers[-1]) if unknown else {}

    def _record(self, eval_id: str) -> str:
        return self._keys.once(once_name(eval_id))

    async def check(self) -> None:
        """Raises BrokerError while it does not answer."""
        with translated():
            await self._client.ping()

    async def add(self, increments: Counter[str]) -> None:
        """Add to what was counted."""
        with translated():
            async with self._client.pipeline(transaction=True) as pipe:
                for name, more in increments.items():
                    pipe.hincrby(self._keys.ends, name, more)
                await pipe.execute()


def _began_s(eval_ids: Sequence[str], stored: Sequence[bytes | None]) -> dict[str, float]:
    found = {}
    for eval_id, value in zip(eval_ids, stored, strict=True):
        try:
            if value is not None:
                found[eval_id] = decode_record(value).created_ms / 1000
        except msgspec.DecodeError:
            continue
    return found


async def read_completions(client: Redis, keys: Keys) -> dict[str, CompletionCounts]:
    """What was counted, by side.

    Raises:
        BrokerError: the server does not answer.
    """
    with translated():
        stored: Any = await client.hgetall(keys.ends)
    found: dict[str, CompletionCounts] = {}
    for name, number in stored.items():
        side, kind, *label = name.decode().split(" ", 2)
        counts = found.setdefault(side, CompletionCounts())
        counts.read(kind, label[0] if label else "", int(number))
    return found
