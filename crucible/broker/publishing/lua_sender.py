"""Sends one flush as one script call."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.exceptions import ResponseError

from crucible.broker.publishing.group_commit import PublishResult
from crucible.broker.publishing.quota_arguments import QuotaArguments, exceeded
from crucible.broker.publishing.replication import Replication
from crucible.broker.redis.link import KeptConnection
from crucible.broker.redis.scripts import script
from crucible.broker.redis.translation import state_of, translate, translated
from crucible.broker.wire.priority import STEPS
from crucible.errors import BrokerUnavailable, QueueFull

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from crucible.broker.publishing.group_commit import Write
    from crucible.broker.publishing.quota import Quota, QuotaState
    from crucible.broker.redis.link import Argument, Link
    from crucible.redis_keys import Keys

#: States in which another server is the master by now: connections to this one are of no use.
_DEMOTED = frozenset({"READONLY", "MASTERDOWN"})


class _ListBatch:
    """Writes for one list, in their order: all plain, or all with records of one TTL and quota.

    Attributes:
        queue: the list's queue.
        list_key: the list.
        ttl_s: of the idempotency records; None without any.
        quota: bounds them; None where none does.
        writes: its writes.
    """

    __slots__ = ("list_key", "queue", "quota", "ttl_s", "writes")

    def __init__(self, write: Write, ttl_s: float | None) -> None:
        self.queue = write.queue
        self.list_key = write.list_key
        self.ttl_s = ttl_s
        self.quota = write.quota
        self.writes: list[Write] = []


def _by_list(writes: Sequence[Write]) -> list[_ListBatch]:
    """Group writes by list and kind. Order inside each list stays as it was."""
    batches: list[_ListBatch] = []
    current: dict[str, _ListBatch] = {}
    for write in writes:
        ttl_s = None if write.idempotency is None else write.idempotency.ttl_s
        batch = current.get(write.list_key)
        if batch is None or batch.ttl_s != ttl_s or batch.quota is not write.quota:
            batch = current[write.list_key] = _ListBatch(write, ttl_s)
            batches.append(batch)
        batch.writes.append(write)
    return batches


class _Call(NamedTuple):
    """One call of the script: KEYS, ARGV, the limited queues and the quotas in their order."""

    keys: list[Argument]
    args: list[Argument]
    queues: Sequence[str]
    quotas: QuotaArguments


class LuaSender:
    """Sends a flush as one call of ``publish.lua``."""

    def __init__(self, link: Link, keys: Keys, queue_limit: int, replicas: int = 0) -> None:
        self._link = link
        self._replication = Replication(replicas) if replicas else None
        # The group commit has one flush under way at a time.
        self._connection = KeptConnection(link)
        self._keys = keys
        self._limit = queue_limit
        self._script = script("publish")

    @property
    def reached(self) -> bool:
        """See ``group_commit.Sender``."""
        return self._connection.reached

    async def send(self, writes: Sequence[Write]) -> Sequence[PublishResult]:
        """One result a write.

        Raises:
            BrokerUnavailable: whether it was stored is not known.
            NothingStored: it was not.
            BrokerError: the server refused the whole flush.
        """
        batches = _by_list(writes)
        call = self._arguments(batches)
        try:
            with translated():
                answer = await self._script.run(self._connection.call, call.keys, call.args)
                _raise_demotion(answer[0])
                sent = self._results(writes, batches, call, answer)
                if self._replication is not None:
                    sent = await self._replication.confirm(self._connection.follow, writes, sent)
                return sent
        except BrokerUnavailable:
            # redis-py goes on using connections to a server that is a replica by now.
            await self._connection.drop()
            await self._link.forget_idle()
            raise

    def _results(
        self, writes: Sequence[Write], batches: Sequence[_ListBatch], call: _Call, answer: Any
    ) -> Sequence[PublishResult]:
        results, depths, levels, counts = answer
        depth_of = dict(zip(call.queues, depths, strict=True))
        return _by_write(writes, batches, results, depth_of, call.quotas.states(levels, counts))

    def _arguments(self, batches: Sequence[_ListBatch]) -> _Call:
        """KEYS and ARGV of the script, and what its answer is about."""
        named: dict[str, int] = {}

        def position(key: str) -> int:
            return named.setdefault(key, len(named) + 1)

        args: list[Argument] = []
        queues: dict[str, int] = {}
        if self._limit:
            for batch in batches:
                if batch.queue not in queues:
                    queues[batch.queue] = len(queues) + 1
                    args.append(self._limit)
                    args += [position(self._keys.step_list(batch.queue, step)) for step in STEPS]
        quotas = QuotaArguments([batch.quota for batch in batches if batch.quota is not None])
        args += quotas.arguments(position)
        record_keys: list[Argument] = []
        for batch in batches:
            head = (position(batch.list_key), queues.get(batch.queue, 0))
            records = [write.idempotency for write in batch.writes if write.idempotency]
            if records:
                ttl_ms, count = records[0].ttl_ms, len(batch.writes)
                args += (*head, ttl_ms, count, quotas.number_of(batch.quota))
                record_keys += [one.key for one in records]
                args += [one.value for one in records]
                args += [write.messages[0] for write in batch.writes]
            else:
                messages = [raw for write in batch.writes for raw in write.messages]
                args += (*head, 0, len(messages), 0, *messages)
        header = (len(named), len(queues), *quotas.counts)
        return _Call([*named, *record_keys], [*header, *args], list(queues), quotas)


def _raise_demotion(results: Iterable[Any]) -> None:
    """Raise what a replica says inside the script, where nothing was written at all."""
    for result in results:
        if type(result) is bytes and result[:1] == b"!":
            error = ResponseError(result[1:].decode())
            if state_of(error) in _DEMOTED:
                raise error


#: The result of nearly every write with an idempotency record.
_PUSHED = PublishResult(1)


def _by_write(
    writes: Sequence[Write],
    batches: Sequence[_ListBatch],
    results: Iterable[Any],
    depths: dict[str, int],
    states: Mapping[Quota, QuotaState],
) -> list[PublishResult]:
    """The script's results in the order of the writes."""
    rest = iter(results)
    if len(batches) == 1 and batches[0].ttl_s is not None:  # as most; they are in its order
        return _of_records(batches[0], rest, depths, states)
    by_write: dict[Write, PublishResult] = {}
    for batch in batches:
        if batch.ttl_s is None:
            by_write.update(_shared_out(batch, next(rest), depths.get(batch.queue, 0)))
        else:
            of_records = _of_records(batch, rest, depths, states)
            by_write.update(zip(batch.writes, of_records, strict=True))
    return [by_write[write] for write in writes]


def _of_records(
    batch: _ListBatch,
    rest: Iterator[Any],
    depths: Mapping[str, int],
    states: Mapping[Quota, QuotaState],
) -> list[PublishResult]:
    """The script's next results, one for each write of a batch with records."""
    depth = depths.get(batch.queue, 0)
    state = None if batch.quota is None else states[batch.quota]
    pushed = _PUSHED if state is None else PublishResult(1, quota=state)
    return [
        pushed if result == 1 else _result(batch, result, 1, depth, state)
        for result in islice(rest, len(batch.writes))
    ]


def _shared_out(
    batch: _ListBatch, result: Any, depth: int
) -> Iterator[tuple[Write, PublishResult]]:
    """What each plain write got of what its batch got."""
    for write in batch.writes:
        wanted = len(write.messages)
        if isinstance(result, int):
            yield write, _result(batch, min(result, wanted), wanted, depth)
            result -= min(result, wanted)
        else:
            yield write, _result(batch, result, wanted, depth)


def _result(
    batch: _ListBatch, result: Any, wanted: int, depth: int, state: QuotaState | None = None
) -> PublishResult:
    """One result of the script; ``wanted`` messages were to be pushed."""
    if isinstance(result, int):
        full = QueueFull(batch.queue, depth) if result < wanted else None
        return PublishResult(result, error=full, quota=state)
    mark, text = result[:1], result[1:]
    if mark == b"=":
        return PublishResult(existing=text, quota=state)
    if mark == b"~":
        assert state is not None
        return PublishResult(error=exceeded(state, in_flight=text == b"in flight"), quota=state)
    # One message, and its record: neither is there.
    return PublishResult(error=translate(ResponseError(text.decode())))
