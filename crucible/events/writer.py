"""Writes events to the bus beside the work they are about.

``add`` appends to a buffer in memory. One task takes what piled up and appends it to the stream
with script calls: at once while whole batches wait, else after a pause in which some tens come.
While the bus is away the buffer is bounded: the oldest events are dropped and counted. A
batch whose reply was lost is sent again under its number, and the script appends no number twice.

What a process that is killed had in its buffer is lost. Consumers that need every row repair them
from the results (docs/events.md).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.resources import files
from typing import TYPE_CHECKING, Protocol

from crucible.broker.redis.link import KeptConnection, open_link
from crucible.broker.redis.scripts import Script
from crucible.broker.redis.translation import translated
from crucible.errors import BrokerError, BrokerUnavailable
from crucible.events.event import FORMAT, encode_event
from crucible.redis_keys import EVENT_LIMIT, EVENT_WRITER_TTL_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from crucible.events.event import Event
    from crucible.redis_keys import Keys

log = logging.getLogger(__name__)

#: Events that may wait: some 20 MB, and two seconds of a saturated api.
MAX_WAITING = 50_000
#: Events and bytes of one batch, unless one alone has more. Bus and process are blocked meanwhile,
#: a quarter of a millisecond each: with 500 in a batch, that was the P99 of submissions.
_BATCH, _BATCH_BYTES = 100, 1024 * 1024
#: Events that are to come during a pause, so that they share the cost of a call, and the bounds of
#: the pause, seconds. With less of one a call costs more than what is in it.
_SHARED, _LEAST_PAUSE_S, _PAUSE_S = 50, 0.003, 0.05
#: Seconds one call may take, and between attempts while the bus is away.
_CALL_S, _AWAY_PAUSES_S = 2.0, (0.1, 0.2, 0.5, 1.0)
#: Seconds to write what waits when the process stops.
_CLOSE_S = 2.0


def next_pause_s(before_s: float, came: int) -> float:
    """Seconds to the next batch, in which ``_SHARED`` events come at the rate of before.

    Args:
        before_s: the pause before, seconds.
        came: events that came in it.
    """
    return min(_PAUSE_S, max(_LEAST_PAUSE_S, before_s * _SHARED / max(came, 1)))


class EventSink(Protocol):
    """Takes events."""

    def add(self, event: Event) -> None:
        """Write an event soon; cheap, never blocks, never raises, from any thread."""


class NoEvents:
    """Takes events where there is no event bus."""

    def add(self, event: Event) -> None:
        """Drop it."""


class LateSink:
    """Takes events for a writer that is opened later, as in a worker's lifespan; drops others."""

    def __init__(self) -> None:
        self._writer: EventSink = NoEvents()

    def add(self, event: Event) -> None:
        """See ``EventSink``."""
        self._writer.add(event)

    @contextmanager
    def writing_to(self, writer: EventSink) -> Iterator[None]:
        """Give events to ``writer`` while the context is open."""
        self._writer = writer
        try:
            yield
        finally:
            self._writer = NoEvents()


class EventWriter:
    """Writes events; opened with ``open_writer``.

    Args:
        connection: to the bus.
        keys: key names.
        limit: events that may wait.
        stream_limit: entries the stream keeps, about.

    Attributes:
        written: events the bus has.
        dropped: events that were lost: too many waited, or the bus refused them.
    """

    def __init__(
        self,
        connection: KeptConnection,
        keys: Keys,
        *,
        limit: int = MAX_WAITING,
        stream_limit: int = EVENT_LIMIT,
    ) -> None:
        self.written = 0
        self.dropped = 0
        self._connection = connection
        self._limit = limit
        self._names = [keys.events, keys.event_writer(secrets.token_hex(8))]
        self._stream_limit = stream_limit
        self._script = Script(files("crucible.events").joinpath("write.lua").read_text("utf-8"))
        self._waiting: deque[Event] = deque(maxlen=limit)
        self._batch: list[bytes] = []
        self._oldest_ms = 0
        self._number = 0
        self._idle = False
        self._wanted = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        self._failures = 0
        self._pause_s = _PAUSE_S

    def add(self, event: Event) -> None:
        """See ``EventSink``."""
        waiting = self._waiting
        if len(waiting) == self._limit:
            self.dropped += 1
        waiting.append(event)
        if self._idle:
            self._idle = False
            # In stock workers events come from another thread.
            self._loop.call_soon_threadsafe(self._wanted.set)

    @property
    def waiting(self) -> int:
        """Events that are not written yet."""
        return len(self._waiting) + len(self._batch)

    @property
    def lag_s(self) -> float:
        """Seconds the oldest of them has waited."""
        if self._batch:
            oldest_ms = self._oldest_ms
        elif self._waiting:
            oldest_ms = self._waiting[0].at
        else:
            return 0.0
        return max(0.0, time.time() - oldest_ms / 1000)

    @property
    def away(self) -> bool:
        """The bus did not take the last batch."""
        return self._failures > 0

    async def run(self) -> None:
        """Write until ``close`` was called and nothing waits."""
        while True:
            if not self._batch:
                if not self._waiting and not await self._wait():
                    return
                self._take()
            self._pause_s = pause_s = next_pause_s(self._pause_s, len(self._batch))
            try:
                await self._write()
            except BrokerUnavailable as error:
                pause_s = self._note_away(error)
            except BrokerError as error:
                log.error("the event bus refuses %d events: %s", len(self._batch), error)
                self.dropped += len(self._batch)
                self._batch.clear()
            else:
                if len(self._waiting) >= _BATCH:
                    # With a pause after each batch, a busy api would add more than it may write.
                    continue
            await self._pause(pause_s)

    async def _wait(self) -> bool:
        """Wait for an event; False where none will come."""
        self._wanted.clear()
        self._idle = True
        # Another thread may have added one before it could see that nothing runs here.
        while not self._waiting:
            if self._closing.is_set():
                return False
            await self._wanted.wait()
            self._wanted.clear()
        self._idle = False
        return True

    async def _pause(self, seconds: float) -> None:
        """Pause, less where the process stops and the bus takes what it is sent."""
        if self._closing.is_set() and self._failures:
            await asyncio.sleep(seconds)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    def _take(self) -> None:
        waiting, size = self._waiting, 0
        self._oldest_ms = waiting[0].at
        self._number += 1
        while waiting and len(self._batch) < _BATCH and size < _BATCH_BYTES:
            encoded = encode_event(waiting.popleft())
            size += len(encoded)
            self._batch.append(encoded)

    async def _write(self) -> None:
        arguments: list[bytes | int] = [
            self._number,
            self._stream_limit,
            EVENT_WRITER_TTL_S,
            FORMAT,
        ]
        arguments += self._batch
        with translated():
            async with asyncio.timeout(_CALL_S):
                await self._script.run(self._connection.call, self._names, arguments)
        self.written += len(self._batch)
        self._batch.clear()
        if self._failures:
            self._failures = 0
            log.info("the event bus answers again; %d events were dropped so far", self.dropped)

    def _note_away(self, error: BrokerUnavailable) -> float:
        """Say it once; seconds until the next attempt."""
        if not self._failures:
            log.warning(
                "the event bus does not take events, up to %d are kept: %s", self._limit, error
            )
        self._failures += 1
        return _AWAY_PAUSES_S[min(self._failures, len(_AWAY_PAUSES_S)) - 1]

    def close(self) -> None:
        """Have ``run`` end once nothing waits."""
        self._closing.set()
        self._wanted.set()


@asynccontextmanager
async def open_writer(
    url: str, keys: Keys, *, limit: int = MAX_WAITING, stream_limit: int = EVENT_LIMIT
) -> AsyncIterator[EventWriter]:
    """A writer that writes while the context is open, and for at most two seconds more.

    Args:
        url: the event bus.
        keys: key names.
        limit: events that may wait.
        stream_limit: entries the stream keeps, about.

    Raises:
        ValueError: the URL cannot be used.
    """
    async with open_link(url) as link:
        connection = KeptConnection(link)
        writer = EventWriter(connection, keys, limit=limit, stream_limit=stream_limit)
        task = asyncio.create_task(writer.run(), name="crucible-events")
        try:
            yield writer
        finally:
            writer.close()
            await asyncio.wait({task}, timeout=_CLOSE_S)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if writer.waiting:
                log.warning("%d events are lost: the event bus did not take them", writer.waiting)
            await connection.drop()


@asynccontextmanager
async def open_events(url: str | None, keys: Keys, stream_limit: int) -> AsyncIterator[EventSink]:
    """``open_writer``, or a sink that drops everything where there is no event bus (None)."""
    if url is None:
        yield NoEvents()
        return
    async with open_writer(url, keys, stream_limit=stream_limit) as writer:
        yield writer
