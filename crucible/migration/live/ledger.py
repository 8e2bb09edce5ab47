"""What the task queue server keeps of evaluations that went to the legacy queue.

The legacy queue loses everything when its process ends, so what it accepted is recorded here: the
record (as a Celery evaluation has one, with ``legacy`` in it), the program until it has ended, and
the result. The record decides which queue system an id belongs to, in every process and after any
restart.

The server may be away while the legacy queue works, so no call here waits longer than the patience
of the mode, and what could not be written is written later.
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
from crucible.broker.publishing.charging import charge
from crucible.broker.publishing.group_commit import IdempotencyRecord
from crucible.broker.redis.translation import translated
from crucible.errors import BrokerError, BrokerUnavailable, QuotaExceeded
from crucible.evaluation.in_flight import release
from crucible.evaluation.record import decode_record, encode_record, once_name
from crucible.evaluation.request import EvalRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from crucible.breaker import CircuitBreaker
    from crucible.broker.publishing.group_commit import PublishResult
    from crucible.broker.publishing.quota import Quota
    from crucible.evaluation.record import Record
    from crucible.redis_keys import Keys

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds a submission to the legacy queue waits for this server at most: while Celery has no share
#: yet, and once it has one, so that every process has to know which queue system took an id.
PATIENCE_S, SPLIT_PATIENCE_S = 0.25, 1.0
#: Seconds that one write of delayed entries may take, and entries in it.
LATE_S, LATE_BATCH = 2.0, 100
#: Entries that wait for a server that is away; beyond that the oldest are dropped.
LATER_LIMIT = 10_000
#: Memory their programs may take; further entries are written without their program.
LATER_BYTES = 64 * 1024 * 1024
#: Seconds between attempts to write what waits.
RETRY_S = 0.25

_asked_decoder = msgspec.json.Decoder(EvalRequest)


@dataclass(frozen=True, slots=True)
class Entry:
    """One evaluation the legacy queue accepted.

    Attributes:
        record: as a Celery evaluation has one.
        program: the encoded request.
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
        result_ttl_s: seconds a result is kept, 0 for ever.
        breaker: of the task queue server, for this use of it alone: a server too slow for
            submissions to the legacy queue may be fast enough for others.
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
            log.warning("%d evaluations of the legacy queue were not recorded", len(self._later))

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
            BrokerUnavailable: the circuit is open, or the server did not answer in time.
        """
        async with self._client.pipeline(transaction=True) as pipe:
            self._add(pipe, eval_id, entry)
            fresh, held, _ = await self._guarded(pipe.execute, patience_s)
        # The key may have expired between SET and GET; then no record was there.
        return None if fresh or held is None else decode_record(held)

    async def enter_charged(
        self, eval_id: str, entry: Entry, quota: Quota, patience_s: float = PATIENCE_S
    ) -> PublishResult:
        """The same, where a quota has to allow it and is charged for it.

        Returns:
            ``existing`` is the record that was there; ``error`` a ``QuotaExceeded``.

        Raises:
            BrokerUnavailable: the circuit is open, or the server did not answer in time.
            BrokerError: the server refused.
        """
        name = self._keys.idempotency(once_name(eval_id))
        record = IdempotencyRecord(name, encode_record(entry.record), self._ttl_s)

        async def enter() -> PublishResult:
            result = await charge(self._client.execute_command, record, quota)
            if result.pushed:
                program = self._keys.legacy_program(eval_id)
                await self._client.set(program, entry.program, nx=True, ex=self._ttl_s)
            return result

        result = await self._guarded(enter, patience_s)
        if result.error is not None and not isinstance(result.error, QuotaExceeded):
            raise result.error
        return result

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
            log.error("evaluation %s of the legacy queue is not recorded: too many wait", lost)

    async def withdraw(self, eval_id: str) -> None:
        """Remove the entry of a submission that the legacy queue did not accept."""
        self._forget(eval_id)
        try:
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.delete(
                    self._keys.idempotency(once_name(eval_id)), self._keys.legacy_program(eval_id)
                )
                release(pipe, self._keys, [eval_id])
                await self._guarded(pipe.execute)
        except BrokerError as error:
            log.info("the entry of %s could not be withdrawn: %s", eval_id, error)

    async def record(self, eval_id: str) -> Record | None:
        """The record of an id, None where there is none.

        Raises:
            BrokerUnavailable: the circuit is open, or the server did not answer in time.
        """
        if (waiting := self._later.get(eval_id)) is not None:
            return waiting.record
        held = await self._get(self._keys.idempotency(once_name(eval_id)))
        return decode_record(held) if held else None

    async def keep_result(self, eval_id: str, meta: bytes) -> None:
        """Keep a result, since the legacy queue will drop it.

        Raises:
            BrokerUnavailable: the circuit is open, or the server did not answer in time.
        """
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.set(
                self._keys.legacy_result(eval_id), meta, nx=True, ex=self._result_ttl_s or None
            )
            pipe.delete(self._keys.legacy_program(eval_id))
            await self._guarded(pipe.execute)

    async def kept_result(self, eval_id: str) -> bytes | None:
        """The kept result of an evaluation; raises what ``record`` raises."""
        return await self._get(self._keys.legacy_result(eval_id))

    async def _get(self, key: str) -> bytes | None:
        async def get() -> Any:
            return await self._client.get(key)

        held: bytes | None = await self._guarded(get)
        return held

    async def _guarded(self, call: Callable[[], Awaitable[T]], patience_s: float = PATIENCE_S) -> T:
        # Half open: the trial is made in the background, so that no client waits for it.
        closed = self._breaker.state is BreakerState.CLOSED
        permit = self._breaker.permit() if closed else None
        if permit is None:
            raise BrokerUnavailable("the queue server failed repeatedly and is not called for now")
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
            log.warning("entries could not be written before the end: %s", error)

    async def _write_batch(self) -> None:
        """Write the oldest entries; the breaker does not apply, since no client waits for this."""
        batch = list(islice(self._later.items(), LATE_BATCH))
        async with self._client.pipeline(transaction=False) as pipe:
            for eval_id, entry in batch:
                self._add(pipe, eval_id, entry)
            answers: list[Any] = await self._within(LATE_S, pipe.execute)
        held = answers[1::3]
        for (eval_id, entry), stored in zip(batch, held, strict=True):
            if stored is not None and _is_unconfirmed(decode_record(stored), entry.record):
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


def _is_unconfirmed(stored: Record, ours: Record) -> bool:
    """Whether the stored record is of our own publication to Celery that was never confirmed.

    The evaluation failed over to the legacy queue and the client knows it there: what Celery runs
    is a copy. A record of an earlier submission of the id stays.
    """
    return stored.queue_system != ours.queue_system and stored.created_ms == ours.created_ms
