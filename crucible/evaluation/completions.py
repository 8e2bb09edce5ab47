"""Completions of evaluations, counted on the task queue server for every api process to show.

The process that sees a completion (a worker; for the legacy queue, whose workers do not know this
server, an api process) notes it in memory. Once a second a few fields of one hash are incremented,
and the records of what completed are given the lifetime of their results. None of it is on the path
of a submission or of a settlement.
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

from crucible.broker.redis.connection import open_client
from crucible.broker.redis.translation import translated
from crucible.errors import BrokerError
from crucible.evaluation.record import decode_record, once_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

    from crucible.models import Status
    from crucible.redis_keys import Keys

log = logging.getLogger(__name__)

QueueSystem = Literal["celery", "legacy"]
#: Upper bounds of the counted durations, seconds; programs take milliseconds to minutes.
BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_LABELS = (*map(str, BOUNDS_S), "+Inf")
#: Seconds between two writes; what a process noted after its last one is lost when it is killed.
WRITE_S = 1.0
#: Completions kept while the server is away; beyond that the oldest are not counted.
LIMIT = 10_000
#: Records read at once.
PAGE = 500


class _Completion(NamedTuple):
    """One completion. ``duration_s`` is None where only the record says when it was accepted."""

    queue_system: QueueSystem
    status: str
    eval_id: str
    at_s: float
    duration_s: float | None


@dataclass(slots=True)
class CompletionCounts:
    """All completions in one queue system.

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
        """For each upper bound, how many took no longer (the form of a Prometheus histogram)."""
        found, so_far = [], 0
        for label in _LABELS:
            so_far += self.durations[label]
            found.append((label, so_far))
        return found


class CompletionCounter:
    """Counts completions; opened with ``writing``."""

    def __init__(self) -> None:
        # In stock workers one thread appends and another one takes.
        self._noted: deque[_Completion] = deque(maxlen=LIMIT)
        self._unwritten: Counter[str] = Counter()

    def note(
        self,
        queue_system: QueueSystem,
        status: Status,
        eval_id: str,
        duration_s: float | None = None,
    ) -> None:
        """Note a completion; cheap, and from any thread.

        Args:
            queue_system: where it ran.
            status: its last status.
            eval_id: its id; counted only if it has a record, unless ``duration_s`` is given.
            duration_s: seconds since it was accepted; None: computed from the record, later.
        """
        self._noted.append(
            _Completion(queue_system, status.value, eval_id, time.time(), duration_s)
        )

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
            result_ttl_s: seconds a result is kept, and the record with it.
        """
        stop = asyncio.Event()
        async with open_client(broker_url, name="completions") as client:
            writing = self._keep_writing(_Store(client, keys, result_ttl_s), stop)
            task = asyncio.create_task(writing, name="crucible-completions")
            try:
                yield self
            finally:
                # Not cancelled: it would not be known whether a cancelled write was done.
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
            log.debug("completions cannot be counted now: %s", error)

    async def _count(self, store: _Store, completions: Sequence[_Completion]) -> None:
        """Turn completions into increments."""
        accepted_s = await store.shorten(completions)
        for one in completions:
            duration_s = one.duration_s
            if duration_s is None and one.eval_id in accepted_s:
                duration_s = max(0.0, one.at_s - accepted_s[one.eval_id])
            if duration_s is not None:
                label = _LABELS[bisect_left(BOUNDS_S, duration_s)]
                self._unwritten[f"{one.queue_system} status {one.status}"] += 1
                self._unwritten[f"{one.queue_system} le {label}"] += 1
                self._unwritten[f"{one.queue_system} ms"] += round(duration_s * 1000)
        for one in completions:
            # A full deque may have dropped some of them meanwhile.
            if self._noted and self._noted[0] is one:
                self._noted.popleft()

    async def _flush(self, store: _Store) -> None:
        if not self._unwritten:
            return
        # Fails while the server is away and everything can still be kept. A write that fails after
        # that may have been done, so it is not repeated: a completion is never counted twice.
        await store.check()
        unwritten, self._unwritten = self._unwritten, Counter()
        await store.add(unwritten)


class _Store:
    """Completions on the task queue server."""

    def __init__(self, client: Redis, keys: Keys, result_ttl_s: int) -> None:
        self._client = client
        self._keys = keys
        self._result_ttl_s = result_ttl_s

    async def shorten(self, completions: Sequence[_Completion]) -> dict[str, float]:
        """Have the records of what completed expire together with the results.

        Returns:
            When those without a duration were accepted, seconds since the epoch, as far as they
            have a record.
        """
        unknown = [one.eval_id for one in completions if one.duration_s is None]
        with translated():
            async with self._client.pipeline(transaction=False) as pipe:
                for one in completions:
                    pipe.expire(self._record(one.eval_id), self._result_ttl_s)
                if unknown:
                    pipe.mget([self._record(eval_id) for eval_id in unknown])
                answers = await pipe.execute()
        return _accepted_s(unknown, answers[-1]) if unknown else {}

    def _record(self, eval_id: str) -> str:
        return self._keys.idempotency(once_name(eval_id))

    async def check(self) -> None:
        """Ping the server; raises BrokerError while it does not answer."""
        with translated():
            await self._client.ping()

    async def add(self, increments: Counter[str]) -> None:
        """Add to what was counted."""
        with translated():
            async with self._client.pipeline(transaction=True) as pipe:
                for name, more in increments.items():
                    pipe.hincrby(self._keys.completions, name, more)
                await pipe.execute()


def _accepted_s(eval_ids: Sequence[str], stored: Sequence[bytes | None]) -> dict[str, float]:
    found = {}
    for eval_id, value in zip(eval_ids, stored, strict=True):
        try:
            if value is not None:
                found[eval_id] = decode_record(value).created_ms / 1000
        except msgspec.DecodeError:
            continue
    return found


async def read_completions(client: Redis, keys: Keys) -> dict[str, CompletionCounts]:
    """What was counted, by queue system.

    Raises:
        BrokerError: the server does not answer.
    """
    with translated():
        stored: Any = await client.hgetall(keys.completions)
    found: dict[str, CompletionCounts] = {}
    for name, number in stored.items():
        queue_system, kind, *label = name.decode().split(" ", 2)
        counts = found.setdefault(queue_system, CompletionCounts())
        counts.read(kind, label[0] if label else "", int(number))
    return found
