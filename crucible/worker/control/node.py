"""A worker among others: its events, remote control, revoked tasks, and meeting its peers."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from crucible.broker.control.client import ControlClient
from crucible.broker.control.event_stream import EventStream
from crucible.broker.control.lamport import LamportClock
from crucible.broker.control.pidbox import Mailbox
from crucible.broker.control.revoked import RevokedKey, RevokedTasks, store_revoked
from crucible.broker.redis.connection import read_url
from crucible.broker.redis.link import Link
from crucible.errors import BrokerError
from crucible.worker.control.handler import RequestHandler
from crucible.worker.control.mingle import Mingle
from crucible.worker.control.stamps import is_stamped
from crucible.worker.control.task_events import TaskEvents
from crucible.worker.control.worker_events import WorkerEvents
from crucible.worker.many_hooks import ManyHooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from redis.asyncio import Redis

    from crucible.broker.redis.store import RedisStore
    from crucible.broker.wire.decode import Message
    from crucible.redis_keys import Keys
    from crucible.worker.hooks import TaskHooks
    from crucible.worker.supervisor import Supervisor
    from crucible.worker.worker import Worker

logger = logging.getLogger(__name__)

#: Seconds that events may take to leave when the worker stops.
_LEAVE_S = 5.0


class Node:
    """What makes a worker visible and steerable.

    Args:
        worker: the worker.
        client: of the queue server.
        steps: atomic steps on the same.
        results: atomic steps on the result server.
        keys: key names.
        broker_url: of the queue server; its database number is part of channel names.
        events: send task events from the start, as ``celery worker -E``.

    Attributes:
        worker: the worker.
        steps: on the queue server.
        keys: key names.
        broker_url: where the queue server is.
        clock: the logical clock.
        events: makes task events; a task hook.
        revoked: ids of revoked tasks.
        revoked_stamps: revoked stamps by header.
        stop_asked: set when a ``shutdown`` command came.
        started_at: seconds since the epoch.
    """

    def __init__(
        self,
        worker: Worker,
        client: Redis,
        steps: RedisStore,
        results: RedisStore,
        keys: Keys,
        broker_url: str,
        *,
        events: bool = False,
    ) -> None:
        self.worker = worker
        self.steps = steps
        self.keys = keys
        self._results = results
        self.broker_url = broker_url
        self.clock = LamportClock()
        self.revoked = RevokedTasks()
        self.revoked_stamps: dict[str, list[Any]] = {}
        self.stop_asked = asyncio.Event()
        self.started_at = time.time()
        node, db, link = worker.hostname, read_url(broker_url).options["db"], Link(client)
        self._stream = EventStream(link, keys, db, node, self.clock)
        self.events = TaskEvents(self._stream, enabled=events)
        self._kept = RevokedKey(steps, keys)
        self.heart = WorkerEvents(
            self._stream, lambda: len(worker.running), self.events.totals.total
        )
        self._mailbox = Mailbox(link, keys, db, node, self.clock, self._connected)
        self._panel = RequestHandler(self, self._mailbox)
        control = ControlClient(steps, keys, db, self.clock)
        self._mingle = Mingle(control, node, self.clock, self.revoked)
        self._supervisor: Supervisor | None = None
        self._reload = asyncio.Event()

    def hooks(self, *others: TaskHooks | None) -> TaskHooks:
        """What the worker's trace tells: events, and whoever else listens."""
        listening = [hooks for hooks in others if hooks is not None]
        return ManyHooks(self.events, *listening) if listening else self.events

    async def start(self, supervisor: Supervisor) -> None:
        """Learn what is revoked, then start the loops."""
        try:
            await self.learn()
        except BrokerError as error:
            # Loaded again with the first subscription.
            logger.warning("revoked tasks are not known yet: %s", error)
        self._supervisor = supervisor
        supervisor.start("events", self._stream.run, stall_s=None)
        supervisor.start("heartbeat", self.heart.run, stall_s=30.0)
        supervisor.start("revoked", self._keep_learning, stall_s=None)
        supervisor.start("mingle", self._mingle.run, stall_s=None)
        supervisor.start("control", self._panel.run, stall_s=None)
        supervisor.start("mailbox", self._mailbox.run, stall_s=20.0)

    def _connected(self) -> None:
        """The subscription is new: what was said before went unheard."""
        self._reload.set()
        self.heart.connected()
        self._mingle.connected()

    async def _keep_learning(self, beat: Callable[[], None]) -> None:
        while True:
            beat()
            await self._reload.wait()
            await self.learn()
            self._reload.clear()

    async def learn(self) -> None:
        """Take over the revoked ids kept on the server.

        Raises:
            BrokerError: the server did not tell.
        """
        known = await self._kept.load()
        self.revoked.update(task_id for task_id in known if task_id not in self.revoked)

    async def revoke(self, task_ids: Iterable[str]) -> None:
        """Remember ids here and on the server.

        Raises:
            BrokerError: they are remembered here only.
        """
        ids = list(task_ids)
        self.revoked.update(ids)
        await self._kept.add(ids)

    async def store_revoked(self, task_ids: Sequence[str]) -> None:
        """Store REVOKED for those of the tasks that nobody has started.

        Raises:
            BrokerError: it is not known for which it happened.
        """
        await store_revoked(self._results, self.keys, self.worker.result_ttl_s, task_ids)

    def is_revoked(self, message: Message) -> bool:
        """Whether a message was revoked by its id or by one of its stamps."""
        if message.id in self.revoked:
            return True
        return bool(self.revoked_stamps) and is_stamped(message, self.revoked_stamps)

    async def leave(self) -> None:
        """Send what events are left, then say goodbye; the results are stored by now."""
        try:
            async with asyncio.timeout(_LEAVE_S):
                await self._stream.flushed()
                if self._supervisor is not None:
                    await self._supervisor.stop("heartbeat")
                await self.heart.tell("worker-offline")
        except (TimeoutError, BrokerError) as error:
            logger.warning("stopping with events unsent: %s", error)
