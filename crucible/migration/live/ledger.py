"""What is remembered of evaluations that went to the legacy queue, on the task queue server.

The legacy queue forgets everything when it ends, so what it accepted is written down here: the
record (the same that a Celery evaluation has, saying ``legacy``), the program until its end, and
the end. The record decides which side an id belongs to, in every process and after any restart.

The server is the Celery side's. It may be away while the legacy queue works, so nothing here
lasts longer than the patience of the mode, and what could not be written is written later.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec

from crucible.breaker import BreakerState
from crucible.broker.redis.connection import translated
from crucible.errors import BrokerError, BrokerUnavailable
from crucible.evaluation.record import decode_record, encode_record, once_name
from crucible.evaluation.request import EvalRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from crucible.breaker import CircuitBreaker
    from crucible.evaluation.record import Record
    from crucible.redis_keys import Keys

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds the legacy path waits for this server at most: where Celery has no say yet, and where
#: it has a share, so that it matters to every process which side took an id.
PATIENCE_S, SPLIT_PATIENCE_S = 0.25, 1.0
#: Seconds one write of what waits may take, and entries in it.
LATE_S, LATE_BATCH = 2.0, 100
#: Entries that wait for a server that is away; beyond that the oldest are given up.
LATER_LIMIT = 10_000
#: Memory their programs may take; entries beyond are written without.
LATER_BYTES = 64 * 1024 * 1024
#: Seconds between attempts to write what waits.
RETRY_S = 0.25

_asked_decoder = msgspec.json.Decoder(EvalRequest)


@dataclass(frozen=True, slots=True)
class Entry:
    """One evaluation the legacy queue accepted.

    Attributes:
        record: as a Celery evaluation has one.
        program: the request, encoded.
    """

    record: Record
    program: bytes


def encode_asked(asked: EvalRequest) -> bytes:
    """A request as it is kept until its evaluation has ended."""
    return msgspec.json.encode(asked)


def decode_asked(data: bytes) -> EvalRequest:
    """The inverse of ``encode_asked``."""
    return _asked_decoder.decode(data)


class Ledger:
    """Writes and reads entries. Open it with ``async with``.

    Args:
        client: of the task queue server.
        keys: key names.
        ttl_s: seconds an entry is kept.
        result_ttl_s: seconds an end is kept.
        breaker: of the task queue server, for this use of it alone: what is too slow for the
            legacy path may be quick enough for others.
    """

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        ttl_s: int,
        result_ttl_s: int,
        breaker: CircuitBreaker,
    ) -> None:
        self._client = client
        self._keys = keys
        self._ttl_s = ttl_s
        self._result_ttl_s = result_ttl_s
        self._breaker = breaker
        self._later: OrderedDict[str, Entry] = OrderedDict()
        self._later_bytes = 0
        self._waiting = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.given_up_total = 0

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._keep_writing(), name="crucible-ledger"),
            asyncio.create_task(self._keep_trying(), name="crucible-ledger-trial"),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._flush_at_end()
        if self._later:
            log.warning("%d evaluations of the legacy queue stay unrecorded", len(self._later))

    @property
    def waiting(self) -> int:
        """Entries that wait for the server."""
        return len(self._later)

    async def enter(
        self, eval_id: str, entry: Entry, patience_s: float = PATIENCE_S
    ) -> Record | None:
        """Write an entry unless its id has one.

        Args:
            eval_id: its id.
            entry: what to write.
            patience_s: seconds to wait for the server.

        Returns:
            None, or the record that was there.

        Raises:
            BrokerUnavailable: the server is let alone or did not answer in time.
        """
        async with self._client.pipeline(transaction=True) as pipe:
            self._add(pipe, eval_id, entry)
            fresh, held, _ = await self._guarded(pipe.execute, patience_s)
        # Another process may have let the key expire between the two; then nothing was there.
        return None if fresh or held is None else decode_record(held)

    def _add(self, pipe: Any, eval_id: str, entry: Entry) -> None:
        once = self._keys.idempotency(once_name(eval_id))
        pipe.set(once, encode_record(entry.record), nx=True, ex=self._ttl_s)
        pipe.get(once)
        pipe.set(self._keys.legacy_program(eval_id), entry.program, nx=True, ex=self._ttl_s)

    def enter_later(self, eval_id: str, entry: Entry) -> None:
        """Write an entry once the server is back."""
        self._forget(eval_id)
        if self._later_bytes + len(entry.program) > LATER_BYTES:
            entry = Entry(entry.record, b"")
        self._later[eval_id] = entry
        self._later_bytes += len(entry.program)
        self._waiting.set()
        while len(self._later) > LATER_LIMIT:
            lost = next(iter(self._later))
            self._forget(lost)
            self.given_up_total += 1
            log.error("evaluation %s of the legacy queue stays unrecorded", lost)

    async def withdraw(self, eval_id: str) -> None:
        """Remove an entry that came to nothing: the legacy queue did not take it."""
        self._forget(eval_id)
        try:
            keys = (self._keys.idempotency(once_name(eval_id)), self._keys.legacy_program(eval_id))
            await self._guarded(lambda: self._client.delete(*keys))
        except BrokerError as error:
            log.info("the entry of %s could not be withdrawn: %s", eval_id, error)

    async def record(self, eval_id: str) -> Record | None:
        """The record of an id, None where there is none.

        Raises:
            BrokerUnavailable: the server is let alone or did not answer in time.
        """
        if (waiting := self._later.get(eval_id)) is not None:
            return waiting.record
        held = await self._get(self._keys.idempotency(once_name(eval_id)))
        return decode_record(held) if held else None

    async def keep_end(self, eval_id: str, meta: bytes) -> None:
        """Keep how an evaluation ended, for the day the legacy queue forgets it.

        Raises:
            BrokerUnavailable: the server is let alone or did not answer in time.
        """
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.set(self._keys.legacy_result(eval_id), meta, nx=True, ex=self._result_ttl_s)
            pipe.delete(self._keys.legacy_program(eval_id))
            await self._guarded(pipe.execute)

    async def end(self, eval_id: str) -> bytes | None:
        """The kept end of an evaluation; raises what ``record`` raises."""
        return await self._get(self._keys.legacy_result(eval_id))

    async def _get(self, key: str) -> bytes | None:
        async def get() -> Any:
            return await self._client.get(key)

        held: bytes | None = await self._guarded(get)
        return held

    async def _guarded(self, call: Callable[[], Awaitable[T]], patience_s: float = PATIENCE_S) -> T:
        # Trials are made in the background: no client waits for a server that is away.
        closed = self._breaker.state is BreakerState.CLOSED
        permit = self._breaker.permit() if closed else None
        if permit is None:
            raise BrokerUnavailable("the queue server is let alone for a while")
        with permit:
            return await self._within(patience_s, call)

    async def _within(self, seconds: float, call: Callable[[], Awaitable[T]]) -> T:
        with translated():
            async with asyncio.timeout(seconds):
                return await call()

    async def _keep_trying(self) -> None:
        """Close the circuit again once the server answers."""
        while True:
            await asyncio.sleep(RETRY_S)
            if self._breaker.state is not BreakerState.HALF_OPEN:
                continue
            permit = self._breaker.permit()
            if permit is None:
                continue
            try:
                with permit:
                    await self._within(PATIENCE_S, self._ping)
            except BrokerError as error:
                log.debug("the queue server is still away: %s", error)

    async def _ping(self) -> None:
        await self._client.ping()

    async def _keep_writing(self) -> None:
        while True:
            await self._waiting.wait()
            try:
                while self._later:
                    await self._write_batch()
            except BrokerError as error:
                log.debug("%d entries wait for the queue server: %s", len(self._later), error)
                await asyncio.sleep(RETRY_S)
                continue
            self._waiting.clear()

    async def _flush_at_end(self) -> None:
        try:
            async with asyncio.timeout(LATE_S):
                while self._later:
                    await self._write_batch()
        except (BrokerError, TimeoutError) as error:
            log.warning("the queue server takes no entries: %s", error)

    async def _write_batch(self) -> None:
        """Write the first of what waits; not subject to the breaker, since nobody waits here."""
        batch = list(islice(self._later.items(), LATE_BATCH))
        async with self._client.pipeline(transaction=False) as pipe:
            for eval_id, entry in batch:
                self._add(pipe, eval_id, entry)
            answers: list[Any] = await self._within(LATE_S, pipe.execute)
        held = answers[1::3]
        for (eval_id, entry), stored in zip(batch, held, strict=True):
            if stored is not None and _is_own_doubt(decode_record(stored), entry.record):
                await self._overwrite(eval_id, entry)
            if self._later.get(eval_id) is entry:
                self._forget(eval_id)

    def _forget(self, eval_id: str) -> None:
        found = self._later.pop(eval_id, None)
        if found is not None:
            self._later_bytes -= len(found.program)

    async def _overwrite(self, eval_id: str, entry: Entry) -> None:
        name, value = self._keys.idempotency(once_name(eval_id)), encode_record(entry.record)

        async def write() -> None:
            await self._client.set(name, value, ex=self._ttl_s)

        await self._within(LATE_S, write)


def _is_own_doubt(stored: Record, ours: Record) -> bool:
    """Whether what is stored is our own message to Celery, of which no confirmation came.

    The evaluation went to the legacy queue then and the client was told so: what Celery makes of
    the message is a copy. An earlier submission of the id, by whomever, stands.
    """
    return stored.queue_system != ours.queue_system and stored.created_ms == ours.created_ms
