"""The counts of completions on the task queue server: one hash for all processes."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from crucible.broker.redis.connection import open_client
from crucible.broker.redis.transactions import executed
from crucible.broker.redis.translation import translated
from crucible.evaluation.in_flight import release
from crucible.evaluation.record import TASK_ID_PREFIX, decode_record, once_name, task_id_of
from crucible.models import Status

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Iterable,
        Mapping,
        Sequence,
    )

    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

    from crucible.broker.canvas.effects import Push
    from crucible.evaluation.record import Record
    from crucible.redis_keys import Keys

QueueSystem = Literal["celery", "legacy"]
#: Upper bounds of the counted durations, seconds; programs take milliseconds to minutes.
BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_LABELS = (*map(str, BOUNDS_S), "+Inf")
#: Records or dead letters read at once.
PAGE = 500


class Completion(NamedTuple):
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
        lanes: of ``sandboxes`` those that were lanes.
        retired: sandboxes that serve nobody any more as they are, by isolation and reason.
        compiles: programs that the compile cache had (``hit``), and that were compiled (``miss``).
        webhooks: attempts of webhook deliveries by what became of them.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    durations: Counter[str] = field(default_factory=Counter)
    total_s: float = 0.0
    sandboxes: Counter[str] = field(default_factory=Counter)
    sandbox_wait_s: float = 0.0
    lanes: Counter[str] = field(default_factory=Counter)
    retired: Counter[tuple[str, str]] = field(default_factory=Counter)
    compiles: Counter[str] = field(default_factory=Counter)
    webhooks: Counter[str] = field(default_factory=Counter)

    def read(self, kind: str, label: str, number: int) -> None:
        """Add one field as it is stored; fields of a later version are ignored."""
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
        elif kind == "lane":
            self.lanes[label] = number
        elif kind == "retired":
            isolation, _, reason = label.partition(" ")
            self.retired[isolation, reason] = number
        elif kind == "compile":
            self.compiles[label] = number
        elif kind == "webhook":
            self.webhooks[label] = number

    def cumulative(self) -> list[tuple[str, int]]:
        """For each upper bound, how many took no longer (the form of a Prometheus histogram)."""
        found, so_far = [], 0
        for label in _LABELS:
            so_far += self.durations[label]
            found.append((label, so_far))
        return found


class CompletionStore:
    """Completions on the task queue server.

    Args:
        client: of the task queue server.
        keys: key names.
        result_ttl_s: seconds a result is kept, and the record with it; 0 for ever.
        results: of the result server; None where that is the same.
        pushes: the messages that a completion causes which no worker saw, by its record; sent in
            the step that counts it.
    """

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        result_ttl_s: int,
        results: Redis | None = None,
        pushes: Callable[[Completion, Record], Sequence[Push]] = lambda completion, record: (),
    ) -> None:
        self._pushes = pushes
        self._client = client
        self._keys = keys
        self._result_ttl_s = result_ttl_s
        self._results = results or client

    async def shorten(self, completions: Sequence[Completion]) -> dict[str, float]:
        """Have the records of what completed expire together with the results.

        From then on it is no longer in flight.

        Returns:
            When those without a duration were accepted, seconds since the epoch, as far as they
            have a record.
        """
        eval_ids = [one.eval_id for one in completions]
        with translated():
            async with self._client.pipeline(transaction=False) as pipe:
                for one in completions:
                    self._shorten(pipe, self._record(one.eval_id))
                release(pipe, self._keys, eval_ids)
                pipe.mget(list(map(self._record, eval_ids)))
                answers = await pipe.execute()
        records = _records(eval_ids, answers[-1])
        await self._keep_as_asked(records)
        return {eval_id: record.created_ms / 1000 for eval_id, record in records.items()}

    async def _keep_as_asked(self, records: Mapping[str, Record]) -> None:
        """Give results and records the lifetime that submissions asked for; few do.

        An async worker stores the result with it at once. This is for results stored by others: by
        stock workers, by the api that cancels, and of the legacy queue.
        """
        asked = {
            eval_id: record.result_ttl_s
            for eval_id, record in records.items()
            if record.result_ttl_s is not None
        }
        if not asked:
            return
        with translated():
            async with self._client.pipeline(transaction=False) as pipe:
                for eval_id, ttl_s in asked.items():
                    pipe.expire(self._record(eval_id), ttl_s)
                    pipe.expire(self._keys.legacy_result(eval_id), ttl_s)
                await pipe.execute()
            async with self._results.pipeline(transaction=False) as pipe:
                for eval_id, ttl_s in asked.items():
                    pipe.expire(self._keys.result(task_id_of(eval_id)), ttl_s)
                await pipe.execute()

    def _shorten(self, pipe: Pipeline, record: str) -> None:
        if self._result_ttl_s:
            pipe.expire(record, self._result_ttl_s)
        else:
            pipe.persist(record)  # EXPIRE with 0 deletes

    def _record(self, eval_id: str) -> str:
        return self._keys.idempotency(once_name(eval_id))

    async def count_letters(self) -> list[tuple[Completion, str]]:
        """Count evaluations as failed that became dead letters because their workers died.

        Whoever gave them up has no hooks: any worker's sweep does, for tasks of anybody. Each
        letter is looked at by one process, whose count and new position are one transaction.

        Returns:
            Those that this call has counted, with what their letters say.
        """
        keys = self._keys
        with translated():
            async with self._client.pipeline(transaction=True) as pipe:
                await pipe.watch(keys.completions_letter)
                position: Any = await pipe.get(keys.completions_letter)
                start = f"({position.decode()}" if position else "-"
                rows: Any = await pipe.xrange(keys.dlq, min=start, count=PAGE)
                if not rows:
                    return []
                letters = [(one, _detail(row[1])) for row in rows if (one := _lost(*row))]
                lost = [one for one, _ in letters]
                increments = increments_of(lost, await self.shorten(lost)) if lost else Counter()
                pushes = await self._pushes_of(lost)
                pipe.multi()  # type: ignore[no-untyped-call]  # redis-py left it unannotated
                self._add(pipe, increments)
                pipe.set(keys.completions_letter, rows[-1][0])
                for push in pushes:
                    pipe.lpush(push.list_key, push.raw)
                return [] if await executed(pipe) is None else letters

    async def _pushes_of(self, completions: Sequence[Completion]) -> list[Push]:
        """What these completions cause; raises BrokerError where the server does not answer."""
        if not completions:
            return []
        with translated():
            stored: Any = await self._client.mget(
                [self._record(one.eval_id) for one in completions]
            )
        found: list[Push] = []
        for one, value in zip(completions, stored, strict=True):
            record = _record_in(value)
            if record is not None:
                found += self._pushes(one, record)
        return found

    async def check(self) -> None:
        """Ping the server; raises BrokerError while it does not answer."""
        with translated():
            await self._client.ping()

    async def add(self, increments: Counter[str], dropped: Sequence[Completion] = ()) -> None:
        """Add to what was counted.

        Args:
            increments: by field.
            dropped: completions among them that no worker saw.
        """
        pushes = await self._pushes_of(dropped)
        with translated():
            async with self._client.pipeline(transaction=True) as pipe:
                self._add(pipe, increments)
                for push in pushes:
                    pipe.lpush(push.list_key, push.raw)
                await pipe.execute()

    def _add(self, pipe: Pipeline, increments: Counter[str]) -> None:
        for name, more in increments.items():
            pipe.hincrby(self._keys.completions, name, more)


def increments_of(
    completions: Iterable[Completion], accepted_s: Mapping[str, float]
) -> Counter[str]:
    """What completions add to the counts; those without a record are no evaluations of clients."""
    found: Counter[str] = Counter()
    for one in completions:
        duration_s = one.duration_s
        if duration_s is None and one.eval_id in accepted_s:
            duration_s = max(0.0, one.at_s - accepted_s[one.eval_id])
        if duration_s is not None:
            label = _LABELS[bisect_left(BOUNDS_S, duration_s)]
            found[f"{one.queue_system} status {one.status}"] += 1
            found[f"{one.queue_system} le {label}"] += 1
            found[f"{one.queue_system} ms"] += round(duration_s * 1000)
    return found


def _lost(letter_id: bytes, fields: Mapping[bytes, bytes]) -> Completion | None:
    """The completion that a dead letter means, where no worker noted it.

    Workers put their name into the letters they write, and note those completions themselves.
    """
    task_id = fields.get(b"task_id", b"").decode(errors="replace")
    if b"worker" in fields or not task_id.startswith(TASK_ID_PREFIX):
        return None
    at_s = int(letter_id.partition(b"-")[0]) / 1000
    eval_id = task_id.removeprefix(TASK_ID_PREFIX)
    return Completion("celery", Status.FAILED.value, eval_id, at_s, None)


def _detail(fields: Mapping[bytes, bytes]) -> str:
    return fields.get(b"detail", b"").decode(errors="replace")


@asynccontextmanager
async def open_servers(broker_url: str, result_url: str) -> AsyncIterator[tuple[Redis, Redis]]:
    """Clients of the queue server and of the result server, which may be one.

    Args:
        broker_url: the task queue server.
        result_url: the result server; empty where that is the same.
    """
    async with AsyncExitStack() as stack:
        client = results = await stack.enter_async_context(
            open_client(broker_url, name="completions")
        )
        if result_url not in ("", broker_url):
            results = await stack.enter_async_context(open_client(result_url, name="completions"))
        yield client, results


@asynccontextmanager
async def counting_cancelled(
    broker_url: str,
    keys: Keys,
    result_ttl_s: int,
    result_url: str = "",
    pushes: Callable[[Completion, Record], Sequence[Push]] = lambda completion, record: (),
) -> AsyncIterator[Callable[[Sequence[str]], Awaitable[None]]]:
    """Count evaluations as cancelled that are taken out of their queues.

    Args:
        broker_url: the task queue server.
        keys: key names.
        result_ttl_s: seconds a result is kept, and the record with it; 0 for ever.
        result_url: the result server; empty where that is the same.
        pushes: as of ``CompletionStore``.

    Yields:
        Called with ids of tasks.

    Raises:
        BrokerError: from what is yielded, where the server does not answer.
    """
    async with open_servers(broker_url, result_url) as (client, results):
        store = CompletionStore(client, keys, result_ttl_s, results, pushes)

        async def count(task_ids: Sequence[str]) -> None:
            now_s = time.time()
            ended = [
                Completion(
                    "celery",
                    Status.CANCELLED.value,
                    task_id.removeprefix(TASK_ID_PREFIX),
                    now_s,
                    None,
                )
                for task_id in task_ids
                if task_id.startswith(TASK_ID_PREFIX)
            ]
            if ended:
                await store.add(increments_of(ended, await store.shorten(ended)), ended)

        yield count


def _records(eval_ids: Sequence[str], stored: Sequence[bytes | None]) -> dict[str, Record]:
    found = {}
    for eval_id, value in zip(eval_ids, stored, strict=True):
        record = _record_in(value)
        if record is not None:
            found[eval_id] = record
    return found


def _record_in(value: bytes | None) -> Record | None:
    """A stored record; None where there is none, or one of another version."""
    try:
        return None if value is None else decode_record(value)
    except msgspec.DecodeError:
        return None


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
