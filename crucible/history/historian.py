"""The historian: takes events from the bus, writes them, acknowledges them.

Acknowledged is only what is committed. A historian that is killed in between leaves its batch in
the group, another one adopts it after ``consumer.ABANDONED_MS`` and writes it again, which changes
nothing. While the database is away the batch is kept and tried again; what follows stays on the
bus.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from crucible.breaker import CircuitBreaker
from crucible.broker.redis.connection import open_client
from crucible.errors import BrokerError, HistoryError
from crucible.history.consumer import HistoryConsumer
from crucible.history.database import open_database
from crucible.history.rows import batch_of
from crucible.history.state import HISTORY, REPORT_S, HistorianState, report, withdraw
from crucible.history.writer import HistoryWriter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from redis.asyncio import Redis

    from crucible.breaker import BreakerPolicy
    from crucible.events.event import Event
    from crucible.history.consumer import Taken
    from crucible.history.rows import Batch
    from crucible.redis_keys import Keys

    Written = Callable[[Sequence[Event], float], None]

log = logging.getLogger(__name__)

#: Milliseconds to wait for an event, and seconds that events are let pile up when there are few: a
#: commit costs the same for one as for hundreds.
_BLOCK_MS, _GATHER_S = 500, 0.2
#: Seconds between looks for batches left behind, and between attempts while something is away.
_ADOPT_S, _AWAY_S = 5.0, 0.5


class Historian:
    """Writes the history; opened with ``open_historian``.

    Args:
        client: of the event bus.
        keys: key names.
        writer: of the database.
        count: events of one transaction, at most.
        policy: when the database's circuit opens.
        written: called with each batch that was written, and the seconds that took.
    """

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        writer: HistoryWriter,
        count: int,
        policy: BreakerPolicy,
        written: Written | None = None,
    ) -> None:
        self._client = client
        self._keys = keys
        self._writer = writer
        self._consumer = HistoryConsumer(client, keys, count)
        self._count = count
        self._breaker = CircuitBreaker(HISTORY, HistoryError, policy=policy)
        self._ahead: tuple[Taken, Batch] | None = None
        self._written = written
        self._gaps = 0
        self._joined = False
        self._checked = False
        self._adopted_s = 0.0
        self._trouble = ""
        self._lag_s = 0.0

    @property
    def name(self) -> str:
        """Its name in the consumer group."""
        return self._consumer.name

    @property
    def state(self) -> HistorianState:
        """What it reports."""
        now_s = time.time()
        return HistorianState(
            at_s=now_s,
            lag_s=self._lag_s,
            written=self._writer.written,
            refused=self._writer.refused,
            gaps=self._gaps,
            circuit=self._breaker.circuit,
            trouble=self._trouble,
            host=socket.gethostname(),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Write until ``stop`` is set; a batch that is being written is finished.

        Raises:
            RequirementError: the schema, which could not be read before, is not this code's.
        """
        while not stop.is_set() or self._ahead is not None:
            if not self._checked and not await self.check_schema():
                await _pause(stop, _AWAY_S)
                continue
            try:
                full = await self._step(stop)
            except BrokerError as error:
                self._note(f"the event bus does not answer: {error}")
                self._joined = False
                await _pause(stop, _AWAY_S)
            else:
                if not full:
                    await _pause(stop, _GATHER_S)

    async def check_schema(self) -> bool:
        """Refuse a schema of another version; False while the database does not answer.

        Exiting then would leave nobody to write where a restart of historians and database meet.

        Raises:
            RequirementError: the schema is not this code's.
        """
        try:
            await self._writer.check_schema()
        except HistoryError as error:
            self._note(f"the database does not answer: {error}")
        else:
            self._note("")
            self._checked = True
        return self._checked

    async def _step(self, stop: asyncio.Event) -> bool:
        """Take and write one batch; whether there is more at once."""
        if not self._joined:
            await self._join()
        ahead, self._ahead = self._ahead, None
        taken, batch = ahead or await self._take_and_fold()
        if not taken.ids:
            return False
        is_full = len(taken.ids) >= self._count
        if is_full and not stop.is_set():
            written = await self._write_and_take(taken, batch, stop)
        else:
            written = await self._write(taken, batch, stop)
        if written:
            await self._consumer.acknowledge(taken)
        return is_full

    async def _write_and_take(self, taken: Taken, batch: Batch, stop: asyncio.Event) -> bool:
        """Write a batch, and prepare the next one while the database works: there is a backlog.

        Not sooner: before it has anything to do, the database would wait for the preparation.
        """
        working = asyncio.Event()
        written, ahead = await asyncio.gather(
            self._write(taken, batch, stop, working),
            self._take_and_fold(working),
            return_exceptions=True,
        )
        if isinstance(written, BaseException):
            raise written
        if isinstance(ahead, BrokerError):
            self._note(f"the event bus does not answer: {ahead}")
        elif isinstance(ahead, BaseException):
            raise ahead
        elif ahead[0].ids:
            self._ahead = ahead
        return written

    async def _join(self) -> None:
        if await self._consumer.join():
            self._gaps += 1
            log.error(
                "the event bus dropped events before they were written; "
                "crucible historian repair restores them from the results"
            )
        self._joined = True

    async def _take_and_fold(self, after: asyncio.Event | None = None) -> tuple[Taken, Batch]:
        """The next entries and their rows: half of a historian's own work."""
        if after is not None:
            await after.wait()
        taken = await self._take()
        return taken, batch_of(taken.events)

    async def _take(self) -> Taken:
        if time.monotonic() - self._adopted_s >= _ADOPT_S:
            taken = await self._consumer.adopt()
            if taken.ids:
                return taken
            self._adopted_s = time.monotonic()
            await self._consumer.tidy()
        return await self._consumer.take(_BLOCK_MS)

    async def _write(
        self,
        taken: Taken,
        batch: Batch,
        stop: asyncio.Event,
        working: asyncio.Event | None = None,
    ) -> bool:
        """Write a batch, however long the database is away; False where asked to stop before.

        Args:
            taken: the batch.
            batch: its rows.
            stop: ends the wait.
            working: is set when the database has most of its work before it, at the latest when
                this returns.
        """
        try:
            return await self._write_until(taken, batch, stop, working)
        finally:
            if working is not None:
                working.set()

    async def _write_until(
        self, taken: Taken, batch: Batch, stop: asyncio.Event, working: asyncio.Event | None
    ) -> bool:
        while True:
            permit = self._breaker.permit()
            if permit is not None:
                began_s = time.monotonic()
                try:
                    with permit:
                        await self._writer.write(taken.events, batch, working)
                except HistoryError as error:
                    self._note(f"the database does not take events: {error}")
                else:
                    self._note("")
                    if self._written is not None:
                        self._written(taken.events, time.monotonic() - began_s)
                    return True
            if stop.is_set():
                return False
            await _pause(stop, min(max(self._breaker.retry_after_s, 0.1), _AWAY_S))

    def _note(self, trouble: str) -> None:
        """Say what changed, once."""
        if trouble and not self._trouble:
            log.warning("%s", trouble)
        elif self._trouble and not trouble:
            log.info("events are written again")
        self._trouble = trouble

    async def lag_s(self) -> float:
        """Seconds since the oldest event that is not written, whoever is to write it.

        Raises:
            BrokerError: the bus does not answer.
        """
        oldest_s = await self._consumer.oldest_s()
        self._lag_s = 0.0 if oldest_s is None else max(0.0, time.time() - oldest_s)
        return self._lag_s

    async def keep_reporting(self) -> None:
        """Report the state until cancelled."""
        while True:
            with suppress(BrokerError):
                await self.lag_s()
                await report(self._client, self._keys, self.name, self.state)
            await asyncio.sleep(REPORT_S)

    async def leave(self) -> None:
        """Leave the group, and withdraw the report."""
        with suppress(BrokerError):
            await self._consumer.leave()
            await withdraw(self._client, self._keys, self.name)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


@asynccontextmanager
async def open_historian(
    url: str,
    event_bus_url: str,
    keys: Keys,
    *,
    count: int,
    policy: BreakerPolicy,
    written: Written | None = None,
) -> AsyncIterator[Historian]:
    """A historian that reports its state while the context is open.

    A database that does not answer is waited for by ``Historian.run``.

    Args:
        url: the database.
        event_bus_url: the event bus.
        keys: key names.
        count: events of one transaction, at most.
        policy: when the database's circuit opens.
        written: called with each batch that was written, and the seconds that took.

    Raises:
        RequirementError: the schema is not this code's, or a driver is missing.
    """
    async with open_database(url) as engine, open_client(event_bus_url, name="historian") as client:
        historian = Historian(client, keys, HistoryWriter(engine), count, policy, written)
        await historian.check_schema()
        reporting = asyncio.create_task(historian.keep_reporting(), name="crucible-historian")
        try:
            yield historian
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)
            await historian.leave()
