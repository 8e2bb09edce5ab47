"""The producer: sends tasks that stock Celery workers run, and waits for their results.

::

    async with Publisher.connect("redis://127.0.0.1:6380/0") as publisher:
        result = await publisher.send_task("proj.tasks.add", args=[1, 2])
        assert await result.get(timeout=10) == 3

A publication returns once the server confirmed it. When the server does not answer within the
deadline it raises ``BrokerUnavailable``; whether the message arrived is then unknown, and sending
it again may run it twice, unless it carries an ``IdempotencyRecord``: then a repetition finds the
first one. ``NothingStored`` is a ``BrokerUnavailable`` that is sure: the message did not arrive;
``NotReplicated`` is one where it did, and might not survive the server.

Messages go through the group commit (``group_commit.py``), one round trip for all that wait.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Unpack

from crucible.broker.canvas.chord_keys import ChordKeys
from crucible.broker.publishing.batch import Chunk
from crucible.broker.publishing.canvas import SendsCanvases
from crucible.broker.publishing.group_commit import GroupCommit, IdempotencyRecord
from crucible.broker.publishing.lua_sender import LuaSender
from crucible.broker.publishing.sent_events import SentEvents
from crucible.broker.publishing.transaction_sender import TransactionSender
from crucible.broker.redis.connection import read_url
from crucible.broker.redis.link import open_link
from crucible.broker.redis.translation import translated
from crucible.broker.results.lookup import Lookup
from crucible.broker.results.task_result import Results, TaskResult
from crucible.broker.results.waiter import Waiter
from crucible.broker.wire.call import check_options
from crucible.broker.wire.encode import TaskCall, TaskOptions, encode_call
from crucible.broker.wire.ids import default_origin, default_reply_to, new_id
from crucible.broker.wire.priority import step_of
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from crucible.broker.publishing.group_commit import (
        PublishCallback,
        PublishHook,
        PublishResult,
        Sender,
    )
    from crucible.broker.publishing.quota import Quota
    from crucible.broker.redis.link import Link
    from crucible.errors import BrokerError


__all__ = ["IdempotencyRecord", "Publisher", "TaskCall", "TaskResult"]

#: Messages of a batch encoded before the loop gets a turn.
_CHUNK = 250
#: Seconds that an idempotency key of ``send_task`` is remembered.
_IDEMPOTENCY_TTL_S = 86_400


class Publisher(SendsCanvases):
    """Sends tasks. Made by ``Publisher.connect``.

    Attributes:
        keys: how keys are spelt here.
        results: stored results, and waiting for them.
    """

    def __init__(
        self,
        group_commit: GroupCommit,
        results: Results,
        keys: Keys,
        origin: str,
        *,
        link: Link,
        chords: ChordKeys,
        deadline_s: float,
    ) -> None:
        super().__init__(results, chords, default_reply_to())
        self.keys = keys
        self._group_commit = group_commit
        self._link = link
        self._deadline_s = deadline_s
        self._origin = origin
        self._lists: dict[tuple[str, int | None], str] = {}

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        url: str,
        *,
        result_url: str | None = None,
        global_keyprefix: str = "",
        result_keyprefix: str = "",
        queue_limit: int = 0,
        replicas: int = 0,
        deadline_s: float = 1.5,
        result_expires_s: float = 86400,
        scripting: bool = True,
        hook: PublishHook | None = None,
        events: bool = False,
        origin: str | None = None,
    ) -> AsyncIterator[Publisher]:
        """A publisher for one task queue server; nothing is connected before it is needed.

        Args:
            url: the task queue server, see ``broker.redis.connection`` for the forms.
            result_url: where results are stored; None is the same server.
            global_keyprefix: Celery's broker transport option of that name.
            result_keyprefix: the same for the result backend, as it stands in front of keys.
            queue_limit: messages a queue may hold; 0 is no limit.
            replicas: that must have a message before its publication returns, else it raises
                ``NotReplicated``.
            deadline_s: seconds until a publication that got no answer fails.
            result_expires_s: seconds that the keys of a chord are kept, 0 for ever.
            scripting: False for servers without Lua.
            hook: observes flushes.
            events: send a ``task-sent`` event for each message, for Flower.
            origin: written into messages; None is ``gen<pid>@<host>``.

        Raises:
            ValueError: a URL cannot be used.
        """
        keys = Keys(global_keyprefix, result_keyprefix)
        async with AsyncExitStack() as stack:
            link = await stack.enter_async_context(open_link(url))
            result_link = link
            if result_url and result_url != url:
                result_link = await stack.enter_async_context(open_link(result_url))
            lookup = await stack.enter_async_context(Lookup(result_link, keys, deadline_s))
            waiter = await stack.enter_async_context(Waiter(result_link, lookup, keys))
            kind = LuaSender if scripting else TransactionSender
            sender: Sender = kind(link, keys, queue_limit, replicas)
            origin = origin or default_origin()
            if events:
                events_sender = SentEvents(sender, link, keys, read_url(url).options["db"], origin)
                sender = await stack.enter_async_context(events_sender)
            group_commit = await stack.enter_async_context(GroupCommit(sender, deadline_s, hook))
            results = Results(result_link, lookup, waiter, keys, deadline_s)
            chords = ChordKeys(result_link, keys, deadline_s, result_expires_s)
            yield cls(
                group_commit, results, keys, origin, link=link, chords=chords, deadline_s=deadline_s
            )

    async def publish(
        self,
        raw: bytes,
        *,
        queue: str,
        priority: int | None = None,
        idempotency: IdempotencyRecord | None = None,
    ) -> bytes | None:
        """Push one encoded message.

        Args:
            raw: the message, as ``encode_task`` or ``TaskTemplate.render`` make it.
            queue: its queue.
            priority: picks the queue's list; must be the one written in the message.
            idempotency: push only if this record is not there yet.

        Returns:
            None, or the value of the record that an earlier publication left.

        Raises:
            QueueFull: the queue holds as many as it may; nothing was pushed.
            BrokerUnavailable: no answer within the deadline. The message may have arrived; with
                ``idempotency`` it is safe to try again.
            BrokerError: the server refused.
        """
        result = await self.add(raw, queue, priority, idempotency)
        if result.error is not None:
            raise result.error
        return result.existing

    async def add(
        self,
        raw: bytes,
        queue: str,
        priority: int | None,
        idempotency: IdempotencyRecord | None,
        quota: Quota | None = None,
    ) -> PublishResult:
        """The same as ``publish``, with all that is known of it; for what a quota bounds.

        Args:
            raw: the message.
            queue: its queue.
            priority: as in ``publish``.
            idempotency: as in ``publish``.
            quota: push only if it allows to; only with ``idempotency``, and with scripting.

        Raises:
            BrokerUnavailable: no answer within the deadline.
            BrokerError: the server refused the whole flush.
        """
        list_key = self._list(queue, priority)
        return await self._group_commit.add(queue, list_key, (raw,), idempotency, quota)

    def begin(
        self,
        raw: bytes,
        queue: str,
        priority: int | None,
        idempotency: IdempotencyRecord | None,
        callback: PublishCallback,
        quota: Quota | None = None,
    ) -> None:
        """The same as ``add`` for callers outside of a coroutine.

        Args:
            raw: the message.
            queue: its queue.
            priority: as in ``publish``.
            idempotency: as in ``publish``.
            callback: receives the result, or an exception where the whole flush failed.
            quota: as in ``add``.

        Raises:
            BrokerUnavailable: closed.
        """
        list_key = self._list(queue, priority)
        self._group_commit.put(queue, list_key, (raw,), idempotency, callback, quota)

    async def recall(self, key: str) -> bytes | None:
        """The value of an idempotency record, None when nothing was published under it.

        Raises:
            BrokerUnavailable: no answer within the deadline.
            BrokerError: the server refused.
        """
        with translated():
            async with asyncio.timeout(self._deadline_s):
                value: bytes | None = await self._link.call("GET", key)
                return value

    async def send_task(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        task_id: str | None = None,
        queue: str = "celery",
        priority: int | None = None,
        ignore_result: bool | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> TaskResult:
        """Send one task; see ``TaskCall`` and ``TaskOptions`` for most of the arguments.

        Args:
            name: of the task.
            args: positional arguments.
            kwargs: keyword arguments.
            task_id: its id; None makes a new one.
            queue: where to.
            priority: 0 to 9, on Redis 0 goes first.
            ignore_result: store no result.
            idempotency_key: send it only if nothing was sent under this key within a day; the
                handle is that of the task that was. Makes it safe to call again when it is not
                known whether the message arrived.
            options: everything else.

        Raises:
            TypeError: an unknown option, or arguments the serializer cannot carry.
            ValueError: an unknown serializer, or a circular argument.
            QueueFull: the queue holds as many as it may.
            BrokerUnavailable: no answer within the deadline; it may have been sent nevertheless.
        """
        if options:
            check_options(options)
        call = TaskCall(name, args, kwargs, task_id, queue, priority, ignore_result, options)
        return await self.send(call, idempotency_key)

    async def send(self, call: TaskCall, idempotency_key: str | None = None) -> TaskResult:
        """Send one call; raises what ``send_task`` raises."""
        task_id = call.task_id or new_id()
        raw = encode_call(call, task_id, self._origin, self._reply_to)
        record = None
        if idempotency_key is not None:
            # Beside the names of evaluations, which are published under their ids.
            key = self.keys.idempotency(f"task:{idempotency_key}")
            record = IdempotencyRecord(key, task_id.encode(), _IDEMPOTENCY_TTL_S)
        earlier = await self.publish(
            raw, queue=call.queue, priority=call.priority, idempotency=record
        )
        return TaskResult(task_id if earlier is None else earlier.decode(), self.results)

    async def send_batch(self, calls: Sequence[TaskCall]) -> list[TaskResult]:
        """Send many calls, each queue in the given order.

        Raises:
            BrokerError: the first failure, once all results are known; those before and
                beside it may have been sent.
            TypeError: arguments the serializer cannot carry; what came before was sent.
        """
        sent = await self.try_batch(calls)
        for result in sent:
            if not isinstance(result, TaskResult):
                raise result
        return [result for result in sent if isinstance(result, TaskResult)]

    async def try_batch(self, calls: Sequence[TaskCall]) -> list[TaskResult | BrokerError]:
        """Send many calls, each queue in the given order; for each its handle or its error.

        Raises:
            TypeError: arguments the serializer cannot carry; what came before was sent.
        """
        sent: list[TaskResult | BrokerError] = []
        under_way: list[Chunk] = []
        for start in range(0, len(calls), _CHUNK):
            under_way.append(self._begin_chunk(calls[start : start + _CHUNK]))
            # One chunk is encoded while the one before travels.
            if len(under_way) > 1:
                sent += await under_way.pop(0).finish(self.results)
        for chunk in under_way:
            sent += await chunk.finish(self.results)
        return sent

    def _begin_chunk(self, calls: Sequence[TaskCall]) -> Chunk:
        chunk = Chunk()
        origin, reply_to = self._origin, self._reply_to
        for position, call in enumerate(calls):
            task_id = call.task_id or new_id()
            raw = encode_call(call, task_id, origin, reply_to)
            part = chunk.part(call.queue, self._list(call.queue, call.priority))
            part.messages.append(raw)
            part.positions.append(position)
            chunk.ids.append(task_id)
        chunk.begin(self._group_commit)
        return chunk

    def _list(self, queue: str, priority: int | None) -> str:
        name = self._lists.get((queue, priority))
        if name is None:
            name = self._lists[queue, priority] = self.keys.step_list(queue, step_of(priority))
        return name
