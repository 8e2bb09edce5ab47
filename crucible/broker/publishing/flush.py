"""How one flush reaches the server: as one script call, or without scripts as one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from crucible.broker.publishing.group_commit import Outcome
from crucible.broker.redis.connection import translate, translated
from crucible.broker.redis.link import Line
from crucible.broker.redis.scripts import script
from crucible.broker.wire.priority import STEPS
from crucible.errors import BrokerUnavailable, NothingStored, QueueFull

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from crucible.broker.publishing.group_commit import Write
    from crucible.broker.redis.link import Argument, Link
    from crucible.redis_keys import Keys


#: How the script marks what a server says that was the master when it was connected to.
_DEMOTED = b"!READONLY"


class _Run:
    """Writes for one list, in their order: all of them plain, or all with a once key and one ttl.

    Attributes:
        queue: the list's queue.
        list_key: the list.
        ttl_ms: of the once keys; 0 without any.
        writes: what is in it.
    """

    __slots__ = ("list_key", "queue", "ttl_ms", "writes")

    def __init__(self, write: Write, ttl_ms: int) -> None:
        self.queue = write.queue
        self.list_key = write.list_key
        self.ttl_ms = ttl_ms
        self.writes: list[Write] = []


def _runs(writes: Sequence[Write]) -> list[_Run]:
    """Group writes by list and kind. Order inside each list stays as it was."""
    runs: list[_Run] = []
    open_: dict[str, _Run] = {}
    for write in writes:
        once = write.once
        ttl_ms = 0 if once is None else max(1, int(once.ttl_s * 1000))
        run = open_.get(write.list_key)
        if run is None or run.ttl_ms != ttl_ms:
            run = open_[write.list_key] = _Run(write, ttl_ms)
            runs.append(run)
        run.writes.append(write)
    return runs


class ScriptSender:
    """Sends a flush as one call of ``publish.lua``."""

    def __init__(self, link: Link, keys: Keys, queue_limit: int) -> None:
        self._link = link
        # The outbox has one flush under way at a time.
        self._line = Line(link)
        self._keys = keys
        self._limit = queue_limit
        self._script = script("publish")

    @property
    def reached(self) -> bool:
        """See ``outbox.Sender``."""
        return self._line.reached

    async def send(self, writes: Sequence[Write]) -> Sequence[Outcome]:
        """One outcome a write.

        Raises:
            BrokerUnavailable: whether it was stored is not known.
            NothingStored: it was not.
            BrokerError: the server refused the whole flush.
        """
        runs = _runs(writes)
        keys, args, queues = self._arguments(runs)
        with translated():
            outcomes, depths = await self._script.run(self._line.call, keys, args)
        if any(type(outcome) is bytes and outcome.startswith(_DEMOTED) for outcome in outcomes):
            # Inside a script redis-py does not see it, so the stale connection is ours to drop.
            await self._line.drop()
            await self._link.forget_idle()
            raise NothingStored("the queue server is a replica now")
        return _by_write(writes, runs, outcomes, dict(zip(queues, depths, strict=True)))

    def _arguments(
        self, runs: Sequence[_Run]
    ) -> tuple[list[Argument], list[Argument], Sequence[str]]:
        """KEYS and ARGV of the script, and the limited queues in their order."""
        lists: dict[str, int] = {}

        def position(key: str) -> int:
            return lists.setdefault(key, len(lists) + 1)

        args: list[Argument] = []
        queues: dict[str, int] = {}
        if self._limit:
            for run in runs:
                if run.queue not in queues:
                    queues[run.queue] = len(queues) + 1
                    args.append(self._limit)
                    args += [position(self._keys.step_list(run.queue, step)) for step in STEPS]
        once_keys: list[Argument] = []
        for run in runs:
            head = (position(run.list_key), queues.get(run.queue, 0), run.ttl_ms)
            if run.ttl_ms:
                args += (*head, len(run.writes))
                for write in run.writes:
                    assert write.once is not None
                    once_keys.append(write.once.key)
                    args += (write.once.value, write.messages[0])
            else:
                messages = [raw for write in run.writes for raw in write.messages]
                args += (*head, len(messages), *messages)
        return [*lists, *once_keys], [len(lists), len(queues), *args], list(queues)


#: What nearly every write with a once key comes to.
_PUSHED = Outcome(1)


def _by_write(
    writes: Sequence[Write], runs: Sequence[_Run], outcomes: Iterable[Any], depths: dict[str, int]
) -> list[Outcome]:
    """The script's outcomes in the order of the writes."""
    by_write: dict[Write, Outcome] = {}
    rest = iter(outcomes)
    for run in runs:
        depth = depths.get(run.queue, 0)
        if not run.ttl_ms:
            by_write.update(_shared_out(run, next(rest), depth))
            continue
        for write in run.writes:
            outcome = next(rest)
            by_write[write] = _PUSHED if outcome == 1 else _outcome(run, outcome, 1, depth)
    return [by_write[write] for write in writes]


def _shared_out(run: _Run, outcome: Any, depth: int) -> Iterator[tuple[Write, Outcome]]:
    """What each plain write got of what its run got."""
    for write in run.writes:
        wanted = len(write.messages)
        if isinstance(outcome, int):
            yield write, _outcome(run, min(outcome, wanted), wanted, depth)
            outcome -= min(outcome, wanted)
        else:
            yield write, _outcome(run, outcome, wanted, depth)


def _outcome(run: _Run, outcome: Any, wanted: int, depth: int) -> Outcome:
    """One outcome of the script; ``wanted`` messages were to be pushed."""
    if isinstance(outcome, int):
        full = QueueFull(run.queue, depth) if outcome < wanted else None
        return Outcome(outcome, error=full)
    mark, text = outcome[:1], outcome[1:]
    if mark == b"=":
        return Outcome(existing=text)
    error = translate(ResponseError(text.decode()))
    if run.ttl_ms and isinstance(error, BrokerUnavailable):
        # One message and its key: neither is there.
        error = NothingStored(str(error))
    return Outcome(error=error)


class PipelineSender:
    """Sends a flush without scripts: look first, then push in one transaction.

    WATCH on the once keys makes the look and the push one step; another publisher in between
    fails the transaction, and the look is repeated. Depths are not watched, so several publishers
    at once may overshoot a limit by what they push in the same instant.

    Attributes:
        reached: see ``outbox.Sender``.
    """

    reached = False

    def __init__(self, link: Link, keys: Keys, queue_limit: int) -> None:
        self._link = link
        self._keys = keys
        self._limit = queue_limit

    async def send(self, writes: Sequence[Write]) -> Sequence[Outcome]:
        """One outcome a write.

        Raises:
            BrokerUnavailable: whether it was stored is not known.
            BrokerError: the server refused the whole flush.
        """
        self.reached = False
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
        self.reached = True
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
