"""How one flush reaches the server: as one script call, or without scripts as one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from crucible.broker.producing.outbox import Outcome
from crucible.broker.servers.connection import translate, translated
from crucible.broker.servers.scripts import script
from crucible.broker.wire.priority import STEPS
from crucible.errors import BrokerUnavailable, QueueFull

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.keys import Keys
    from crucible.broker.producing.outbox import Write
    from crucible.broker.servers.link import Argument, Link


#: How the script marks what a server says that was the master when it was connected to.
_DEMOTED = b"!READONLY"


class _Operation:
    """Neighbouring writes for one list, or one write with a once key."""

    __slots__ = ("list_key", "messages", "queue", "writes")

    def __init__(self, write: Write) -> None:
        self.queue = write.queue
        self.list_key = write.list_key
        self.messages: list[bytes] = list(write.messages)
        self.writes = [write]


def _operations(writes: Sequence[Write]) -> list[_Operation]:
    """Group plain writes by list. Order inside each list stays as it was."""
    operations: list[_Operation] = []
    open_: dict[str, _Operation] = {}
    for write in writes:
        if write.once is None:
            operation = open_.get(write.list_key)
            if operation is not None:
                operation.messages += write.messages
                operation.writes.append(write)
                continue
            operation = open_[write.list_key] = _Operation(write)
        else:
            # Later plain writes to this list must come after it.
            open_.pop(write.list_key, None)
            operation = _Operation(write)
        operations.append(operation)
    return operations


class ScriptSender:
    """Sends a flush as one call of ``publish.lua``."""

    def __init__(self, link: Link, keys: Keys, queue_limit: int) -> None:
        self._link = link
        self._keys = keys
        self._limit = queue_limit
        self._script = script("publish")

    async def send(self, writes: Sequence[Write]) -> Sequence[Outcome]:
        """One outcome a write.

        Raises:
            BrokerUnavailable: nothing is known to be stored.
            BrokerError: the server refused the whole flush.
        """
        operations = _operations(writes)
        keys, args, queues = self._arguments(operations)
        with translated():
            outcomes, depths = await self._script.run(self._link.call, keys, args)
        if any(type(outcome) is bytes and outcome.startswith(_DEMOTED) for outcome in outcomes):
            # Inside a script redis-py does not see it, so the stale connection is ours to drop.
            await self._link.forget_idle()
            raise BrokerUnavailable("the queue server is a replica now")
        waiting = dict(zip(queues, depths, strict=True))
        by_write: dict[Write, Outcome] = {}
        for operation, outcome in zip(operations, outcomes, strict=True):
            if type(outcome) is int and outcome == len(operation.messages):
                for write in operation.writes:
                    by_write[write] = Outcome(len(write.messages))
            else:
                _share_out(operation, outcome, waiting.get(operation.queue, 0), by_write)
        return [by_write[write] for write in writes]

    def _arguments(
        self, operations: Sequence[_Operation]
    ) -> tuple[list[Argument], list[Argument], list[str]]:
        """KEYS and ARGV of the script, and the limited queues in their order."""
        positions: dict[str, int] = {}

        def position(key: str) -> int:
            return positions.setdefault(key, len(positions) + 1)

        queues: dict[str, int] = {}
        args: list[Argument] = [0]
        if self._limit:
            for operation in operations:
                if operation.queue not in queues:
                    queues[operation.queue] = len(queues) + 1
                    args.append(self._limit)
                    args += [position(self._keys.step_list(operation.queue, s)) for s in STEPS]
            args[0] = len(queues)
        for operation in operations:
            args += (position(operation.list_key), queues.get(operation.queue, 0))
            once = operation.writes[0].once
            if once is None:
                args += (0, 0, b"")
            else:
                args += (position(once.key), max(1, int(once.ttl_s * 1000)), once.value)
            args.append(len(operation.messages))
            args += operation.messages
        return list(positions), args, list(queues)


def _share_out(
    operation: _Operation, outcome: Any, depth: int, by_write: dict[Write, Outcome]
) -> None:
    """Tell each write its part of an operation that did not simply succeed."""
    if isinstance(outcome, int):
        room = outcome
        for write in operation.writes:
            pushed = min(room, len(write.messages))
            room -= pushed
            left_out = pushed < len(write.messages)
            error = QueueFull(operation.queue, depth) if left_out else None
            by_write[write] = Outcome(pushed, error=error)
        return
    mark, text = outcome[:1], outcome[1:]
    for write in operation.writes:
        if mark == b"=":
            by_write[write] = Outcome(existing=text)
        else:
            by_write[write] = Outcome(error=translate(ResponseError(text.decode())))


class PipelineSender:
    """Sends a flush without scripts: look first, then push in one transaction.

    WATCH on the once keys makes the look and the push one step; another publisher in between
    fails the transaction, and the look is repeated. Depths are not watched, so several publishers
    at once may overshoot a limit by what they push in the same instant.
    """

    def __init__(self, link: Link, keys: Keys, queue_limit: int) -> None:
        self._link = link
        self._keys = keys
        self._limit = queue_limit

    async def send(self, writes: Sequence[Write]) -> Sequence[Outcome]:
        """One outcome a write.

        Raises:
            BrokerUnavailable: nothing is known to be stored.
            BrokerError: the server refused the whole flush.
        """
        with translated():
            async with self._link.connection() as held:
                while True:
                    plan = _Plan(await self._look(held, writes), self._limit)
                    outcomes = [plan.admit(write) for write in writes]
                    if not plan.commands:
                        # The connection goes back to the pool without its watch.
                        await self._link.calls(held, [("UNWATCH",)])
                        return outcomes
                    if await self._commit(held, plan):
                        return outcomes

    async def _look(self, held: Any, writes: Sequence[Write]) -> _Look:
        once_keys = list(dict.fromkeys(write.once.key for write in writes if write.once))
        queues = list(dict.fromkeys(w.queue for w in writes)) if self._limit else []
        commands: list[Sequence[Argument]] = []
        if once_keys:
            commands += [("WATCH", *once_keys), ("MGET", *once_keys)]
        commands += [("LLEN", self._keys.step_list(q, step)) for q in queues for step in STEPS]
        if not commands:
            return _Look({}, {})
        answers = await self._link.calls(held, commands)
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise answer
        held_values = dict(zip(once_keys, answers[1] if once_keys else (), strict=True))
        lengths = answers[2:] if once_keys else answers
        per_queue = len(STEPS)
        depths = {
            queue: sum(lengths[at * per_queue : (at + 1) * per_queue])
            for at, queue in enumerate(queues)
        }
        return _Look(held_values, depths)

    async def _commit(self, held: Any, plan: _Plan) -> bool:
        """Run the transaction; False when somebody else wrote a once key meanwhile."""
        answers = await self._link.calls(held, [("MULTI",), *plan.commands, ("EXEC",)])
        # A command refused while it was queued says why; EXEC only that it did nothing.
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise translate(answer)
        if answers[-1] is None:
            return False
        for answer in answers[-1]:
            if isinstance(answer, Exception):
                raise translate(answer)
        return True


class _Look:
    """What the server held before: values of once keys, depths of queues."""

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

    def admit(self, write: Write) -> Outcome:
        """Add what may be pushed of ``write``; its outcome if the transaction succeeds."""
        once = write.once
        if once is not None:
            existing = self._look.values.get(once.key)
            if existing is not None:
                return Outcome(existing=existing)
        count = len(write.messages)
        taken = count
        if self._limit:
            taken = max(0, min(count, self._limit - self._depths[write.queue]))
            self._depths[write.queue] += taken
        if taken:
            if once is not None:
                ttl_ms = max(1, int(once.ttl_s * 1000))
                self.commands.append(("SET", once.key, once.value, "PX", ttl_ms))
                self._look.values[once.key] = once.value
            self.commands.append(("LPUSH", write.list_key, *write.messages[:taken]))
        if taken < count:
            return Outcome(taken, error=QueueFull(write.queue, self._look.depths[write.queue]))
        return Outcome(taken)
