"""Sends one flush as one script call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from crucible.broker.publishing.group_commit import PublishResult
from crucible.broker.redis.connection import translate, translated
from crucible.broker.redis.link import KeptConnection
from crucible.broker.redis.scripts import script
from crucible.broker.wire.priority import STEPS
from crucible.errors import BrokerUnavailable, NothingStored, QueueFull

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from crucible.broker.publishing.group_commit import Write
    from crucible.broker.redis.link import Argument, Link
    from crucible.redis_keys import Keys

#: How the script marks the reply of a server that has become a replica since it was connected to.
_DEMOTED = b"!READONLY"


class _ListBatch:
    """Writes for one list, in their order: all plain, or all with idempotency records of one TTL.

    Attributes:
        queue: the list's queue.
        list_key: the list.
        ttl_ms: of the idempotency records; 0 without any.
        writes: its writes.
    """

    __slots__ = ("list_key", "queue", "ttl_ms", "writes")

    def __init__(self, write: Write, ttl_ms: int) -> None:
        self.queue = write.queue
        self.list_key = write.list_key
        self.ttl_ms = ttl_ms
        self.writes: list[Write] = []


def _by_list(writes: Sequence[Write]) -> list[_ListBatch]:
    """Group writes by list and kind. Order inside each list stays as it was."""
    batches: list[_ListBatch] = []
    current: dict[str, _ListBatch] = {}
    for write in writes:
        ttl_ms = 0 if write.idempotency is None else write.idempotency.ttl_ms
        batch = current.get(write.list_key)
        if batch is None or batch.ttl_ms != ttl_ms:
            batch = current[write.list_key] = _ListBatch(write, ttl_ms)
            batches.append(batch)
        batch.writes.append(write)
    return batches


class LuaSender:
    """Sends a flush as one call of ``publish.lua``."""

    def __init__(self, link: Link, keys: Keys, queue_limit: int) -> None:
        self._link = link
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
        keys, args, queues = self._arguments(batches)
        with translated():
            results, depths = await self._script.run(self._connection.call, keys, args)
        if any(type(result) is bytes and result.startswith(_DEMOTED) for result in results):
            # Inside a script redis-py does not see it, so we drop the stale connections ourselves.
            await self._connection.drop()
            await self._link.forget_idle()
            raise NothingStored("the queue server is a replica now")
        return _by_write(writes, batches, results, dict(zip(queues, depths, strict=True)))

    def _arguments(
        self, batches: Sequence[_ListBatch]
    ) -> tuple[list[Argument], list[Argument], Sequence[str]]:
        """KEYS and ARGV of the script, and the limited queues in their order."""
        lists: dict[str, int] = {}

        def position(key: str) -> int:
            return lists.setdefault(key, len(lists) + 1)

        args: list[Argument] = []
        queues: dict[str, int] = {}
        if self._limit:
            for batch in batches:
                if batch.queue not in queues:
                    queues[batch.queue] = len(queues) + 1
                    args.append(self._limit)
                    args += [position(self._keys.step_list(batch.queue, step)) for step in STEPS]
        record_keys: list[Argument] = []
        for batch in batches:
            head = (position(batch.list_key), queues.get(batch.queue, 0), batch.ttl_ms)
            if batch.ttl_ms:
                args += (*head, len(batch.writes))
                for write in batch.writes:
                    assert write.idempotency is not None
                    record_keys.append(write.idempotency.key)
                    args += (write.idempotency.value, write.messages[0])
            else:
                messages = [raw for write in batch.writes for raw in write.messages]
                args += (*head, len(messages), *messages)
        return [*lists, *record_keys], [len(lists), len(queues), *args], list(queues)


#: The result of nearly every write with an idempotency record.
_PUSHED = PublishResult(1)


def _by_write(
    writes: Sequence[Write],
    batches: Sequence[_ListBatch],
    results: Iterable[Any],
    depths: dict[str, int],
) -> list[PublishResult]:
    """The script's results in the order of the writes."""
    by_write: dict[Write, PublishResult] = {}
    rest = iter(results)
    for batch in batches:
        depth = depths.get(batch.queue, 0)
        if not batch.ttl_ms:
            by_write.update(_shared_out(batch, next(rest), depth))
            continue
        for write in batch.writes:
            result = next(rest)
            by_write[write] = _PUSHED if result == 1 else _result(batch, result, 1, depth)
    return [by_write[write] for write in writes]


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


def _result(batch: _ListBatch, result: Any, wanted: int, depth: int) -> PublishResult:
    """One result of the script; ``wanted`` messages were to be pushed."""
    if isinstance(result, int):
        full = QueueFull(batch.queue, depth) if result < wanted else None
        return PublishResult(result, error=full)
    mark, text = result[:1], result[1:]
    if mark == b"=":
        return PublishResult(existing=text)
    error = translate(ResponseError(text.decode()))
    if batch.ttl_ms and isinstance(error, BrokerUnavailable):
        # One message and its key: neither is there.
        error = NothingStored(str(error))
    return PublishResult(error=error)
