"""Sends one flush without scripts: look first, then push in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.broker.publishing.group_commit import PublishResult
from crucible.broker.publishing.replication import Replication
from crucible.broker.redis.translation import translate, translated
from crucible.broker.wire.priority import STEPS
from crucible.errors import NothingStored, QueueFull

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.publishing.group_commit import Write
    from crucible.broker.redis.link import Argument, Link
    from crucible.redis_keys import Keys


class TransactionSender:
    """Sends a flush with WATCH and MULTI.

    WATCH on the idempotency records makes the look and the push one step; another publisher in
    between fails the transaction, and the look is repeated. Depths are not watched, so several
    publishers at once may overshoot a limit by what they push in the same instant. Quotas are
    refused: rates that are not kept in one step with the push would be those of each process.

    Attributes:
        reached: see ``group_commit.Sender``.
    """

    reached = False

    def __init__(self, link: Link, keys: Keys, queue_limit: int, replicas: int = 0) -> None:
        self._link = link
        self._replication = Replication(replicas) if replicas else None
        self._keys = keys
        self._limit = queue_limit

    async def send(self, writes: Sequence[Write]) -> Sequence[PublishResult]:
        """One result a write.

        Raises:
            BrokerUnavailable: whether it was stored is not known.
            BrokerError: the server refused the whole flush.
        """
        self.reached = False
        if any(write.quota is not None for write in writes):
            raise NothingStored("quotas need a server with scripts")
        with translated():
            async with self._link.connection() as held:
                while True:
                    plan = _Plan(await self._look(held, writes), self._limit)
                    results = [plan.admit(write) for write in writes]
                    if not plan.commands:
                        # The connection goes back to the pool without its watch.
                        await self._link.calls(held, [("UNWATCH",)])
                    elif not await self._commit(held, plan):
                        continue
                    return await self._confirmed(held, writes, results)

    async def _confirmed(
        self, held: Any, writes: Sequence[Write], results: Sequence[PublishResult]
    ) -> Sequence[PublishResult]:
        if self._replication is None:
            return results

        async def call(*command: Argument) -> Any:
            return (await self._link.calls(held, [command]))[0]

        return await self._replication.confirm(call, writes, results)

    async def _look(self, held: Any, writes: Sequence[Write]) -> _Look:
        record_keys = list(
            dict.fromkeys(write.idempotency.key for write in writes if write.idempotency)
        )
        queues = list(dict.fromkeys(w.queue for w in writes)) if self._limit else []
        commands: list[Sequence[Argument]] = []
        if record_keys:
            commands += [("WATCH", *record_keys), ("MGET", *record_keys)]
        commands += [("LLEN", self._keys.step_list(q, step)) for q in queues for step in STEPS]
        if not commands:
            return _Look({}, {})
        replies = await self._link.calls(held, commands)
        held_values = dict(zip(record_keys, replies[1] if record_keys else (), strict=True))
        lengths = replies[2:] if record_keys else replies
        per_queue = len(STEPS)
        depths = {
            queue: sum(lengths[at * per_queue : (at + 1) * per_queue])
            for at, queue in enumerate(queues)
        }
        return _Look(held_values, depths)

    async def _commit(self, held: Any, plan: _Plan) -> bool:
        """Run the transaction; False when an idempotency record was written meanwhile."""
        self.reached = True
        # A command refused while it was queued says why, and is raised before EXEC's, which says
        # only that it did nothing.
        executed = (await self._link.calls(held, [("MULTI",), *plan.commands, ("EXEC",)]))[-1]
        if executed is None:
            return False
        for reply in executed:
            if isinstance(reply, Exception):
                raise translate(reply)
        return True


class _Look:
    """What the server held before: values of idempotency records, depths of queues."""

    __slots__ = ("depths", "values")

    def __init__(self, values: dict[str, bytes | None], depths: dict[str, int]) -> None:
        self.values = values
        self.depths = depths


class _Plan:
    """The commands of one transaction."""

    def __init__(self, look: _Look, limit: int) -> None:
        self._look = look
        self._limit = limit
        self._depths = dict(look.depths)
        self.commands: list[Sequence[Argument]] = []

    def admit(self, write: Write) -> PublishResult:
        """Add what may be pushed of ``write``; its result if the transaction succeeds."""
        record = write.idempotency
        if record is not None:
            existing = self._look.values.get(record.key)
            if existing is not None:
                return PublishResult(existing=existing)
        count = len(write.messages)
        taken = count
        if self._limit:
            taken = max(0, min(count, self._limit - self._depths[write.queue]))
            self._depths[write.queue] += taken
        if taken:
            if record is not None:
                self.commands.append(("SET", record.key, record.value, "PX", record.ttl_ms))
                self._look.values[record.key] = record.value
            self.commands.append(("LPUSH", write.list_key, *write.messages[:taken]))
        if taken < count:
            return PublishResult(
                taken, error=QueueFull(write.queue, self._look.depths[write.queue])
            )
        return PublishResult(taken)
