"""Completions of evaluations, counted on the task queue server for every api process to show.

The process that sees a completion (a worker; for the legacy queue, whose workers do not know this
server, an api process) notes it in memory. Once a second a few fields of one hash are incremented,
and the records of what completed are given the lifetime of their results. None of it is on the path
of a submission or of a settlement.

What no worker sees end is counted elsewhere: what is purged by whoever purges it
(``completion_store.counting_cancelled``), what became a dead letter because its workers died from
the letter (``completion_store.CompletionStore.count_letters``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from crucible.errors import BrokerError
from crucible.evaluation.completion_store import (
    PAGE,
    Completion,
    CompletionStore,
    increments_of,
    open_servers,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from crucible.broker.canvas.effects import Push
    from crucible.evaluation.completion_store import QueueSystem
    from crucible.evaluation.record import Record
    from crucible.models import Status
    from crucible.redis_keys import Keys

log = logging.getLogger(__name__)

#: Seconds between two writes; what a process noted after its last one is lost when it is killed.
WRITE_S = 1.0
#: Completions kept while the server is away; beyond that the oldest are not counted.
LIMIT = 10_000


class CompletionCounter:
    """Counts completions; opened with ``writing``."""

    def __init__(self) -> None:
        # In stock workers one thread appends and another one takes.
        self._noted: deque[Completion] = deque(maxlen=LIMIT)
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
        self._noted.append(Completion(queue_system, status.value, eval_id, time.time(), duration_s))

    def sandbox_taken(self, *, hit: bool, waited_s: float, lane: bool = False) -> None:
        """Count a program that got a sandbox; only in the event loop that ``writing`` runs in.

        Args:
            hit: one was ready.
            waited_s: seconds until it had one.
            lane: it is one.
        """
        if lane:
            self._unwritten[f"celery lane {'hit' if hit else 'miss'}"] += 1
        self._unwritten[f"celery sandbox {'hit' if hit else 'miss'}"] += 1
        if not hit:
            self._unwritten["celery sandbox_ms"] += round(waited_s * 1000)

    def sandbox_retired(self, isolation: str, reason: str) -> None:
        """Count a sandbox that serves nobody any more as it is; in the same event loop."""
        self._unwritten[f"celery retired {isolation} {reason}"] += 1

    def compile_looked_up(self, *, hit: bool) -> None:
        """Count a program whose language has a compiler; in the event loop of ``writing`` only.

        Args:
            hit: it was not compiled, since the same had been.
        """
        self._unwritten[f"celery compile {'hit' if hit else 'miss'}"] += 1

    @asynccontextmanager
    async def writing(
        self,
        broker_url: str,
        keys: Keys,
        result_ttl_s: int,
        result_url: str = "",
        lost: Callable[[Completion, str], None] = lambda completion, detail: None,
        pushes: Callable[[Completion, Record], Sequence[Push]] = lambda completion, record: (),
    ) -> AsyncIterator[CompletionCounter]:
        """Write what is noted while the context is open, and once more at its end.

        Args:
            broker_url: the task queue server.
            keys: key names.
            result_ttl_s: seconds a result is kept, and the record with it; 0 for ever.
            result_url: the result server; empty where that is the same.
            lost: called for each evaluation that became a dead letter because its workers died,
                with why; by one process only.
            pushes: the messages that such a one causes; sent in the step that counts it.
        """
        stop = asyncio.Event()
        async with open_servers(broker_url, result_url) as (client, results):
            store = CompletionStore(client, keys, result_ttl_s, results, pushes)
            writing = self._keep_writing(store, stop, lost)
            task = asyncio.create_task(writing, name="crucible-completions")
            try:
                yield self
            finally:
                # Not cancelled: it would not be known whether a cancelled write was done.
                stop.set()
                await task

    async def _keep_writing(
        self, store: CompletionStore, stop: asyncio.Event, lost: Callable[[Completion, str], None]
    ) -> None:
        stopped = False
        while not stopped:
            try:
                async with asyncio.timeout(WRITE_S):
                    stopped = await stop.wait()
            except TimeoutError:
                stopped = False
            await self._write(store, lost)

    async def _write(self, store: CompletionStore, lost: Callable[[Completion, str], None]) -> None:
        try:
            async with asyncio.timeout(2 * WRITE_S):
                while self._noted:
                    await self._count(store, [*self._noted][:PAGE])
                await self._flush(store)
                for completion, detail in await store.count_letters():
                    lost(completion, detail)
        except (BrokerError, TimeoutError) as error:
            log.debug("completions cannot be counted now: %s", error)

    async def _count(self, store: CompletionStore, completions: Sequence[Completion]) -> None:
        """Turn completions into increments."""
        self._unwritten += increments_of(completions, await store.shorten(completions))
        for one in completions:
            # A full deque may have dropped some of them meanwhile.
            if self._noted and self._noted[0] is one:
                self._noted.popleft()

    async def _flush(self, store: CompletionStore) -> None:
        if not self._unwritten:
            return
        # Fails while the server is away and everything can still be kept. A write that fails after
        # that may have been done, so it is not repeated: a completion is never counted twice.
        await store.check()
        unwritten, self._unwritten = self._unwritten, Counter()
        await store.add(unwritten)
