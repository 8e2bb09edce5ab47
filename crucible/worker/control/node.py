"""A worker among others: its events, its logical clock, revoked tasks, and meeting its peers."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from crucible.broker.control.client import ControlClient
from crucible.broker.control.event_stream import EventStream
from crucible.broker.control.lamport import LamportClock
from crucible.broker.control.pidbox import Mailbox
from crucible.broker.redis.connection import read_url
from crucible.broker.redis.link import Link
from crucible.errors import BrokerError
from crucible.worker.control.mingle import Mingle
from crucible.worker.control.revocations import Revocations
from crucible.worker.control.task_events import TaskEvents
from crucible.worker.control.worker_events import WorkerEvents

if TYPE_CHECKING:
    from collections.abc import Callable

    from crucible.worker.config import WorkerConfig
    from crucible.worker.connections import Connections
    from crucible.worker.supervisor import Supervisor

logger = logging.getLogger(__name__)

#: Seconds that events may take to be sent when the worker stops.
_LEAVE_S = 5.0


class Node:
    """What makes a worker visible to Flower, remote control and its peers.

    Args:
        config: settings of the worker.
        connections: its connections.
        active: how many tasks run.

    Attributes:
        clock: the logical clock.
        task_events: sends task events; a task hook.
        worker_events: sends worker events.
        revocations: what was revoked.
        mailbox: brings requests of remote control and takes replies.
        stop_asked: set when a ``shutdown`` command came.
        started_at: seconds since the epoch.
    """

    def __init__(
        self, config: WorkerConfig, connections: Connections, active: Callable[[], int]
    ) -> None:
        hostname, keys = config.hostname, config.keys
        # The database number is part of the names of channels.
        db, link = read_url(config.broker_url).options["db"], Link(connections.client)
        self.clock = LamportClock()
        self.revocations = Revocations(config, connections)
        self.stop_asked = asyncio.Event()
        self.started_at = time.time()
        self._stream = EventStream(link, keys, db, hostname, self.clock)
        self.task_events = TaskEvents(self._stream, enabled=config.events)
        self.worker_events = WorkerEvents(self._stream, active, self.task_events.totals.total)
        self.mailbox = Mailbox(link, keys, db, hostname, self.clock, self._connected)
        control = ControlClient(connections.steps, keys, db, self.clock)
        self._mingle = Mingle(control, hostname, self.clock, self.revocations.ids)
        self._supervisor: Supervisor | None = None

    async def start(self, supervisor: Supervisor) -> None:
        """Load what is revoked, then start the loops."""
        await self.revocations.load()
        self._supervisor = supervisor
        supervisor.start("events", self._stream.run, stall_s=None)
        supervisor.start("heartbeat", self.worker_events.run, stall_s=30.0)
        supervisor.start("revoked", self.revocations.run, stall_s=None)
        supervisor.start("mingle", self._mingle.run, stall_s=None)
        supervisor.start("mailbox", self.mailbox.run, stall_s=20.0)

    def _connected(self) -> None:
        """The subscription is new: what was published before it was not received."""
        self.revocations.connected()
        self.worker_events.connected()
        self._mingle.connected()

    async def leave(self) -> None:
        """Send what events are left, then worker-offline; results are stored by now."""
        try:
            async with asyncio.timeout(_LEAVE_S):
                await self._stream.flushed()
                if self._supervisor is not None:
                    # No heartbeat after worker-offline, or the worker would count as online again.
                    await self._supervisor.stop("heartbeat")
                await self.worker_events.send("worker-offline")
        except (TimeoutError, BrokerError) as error:
            reason = str(error) or f"they were not taken within {_LEAVE_S:g} s"
            logger.warning("stopping with events unsent: %s", reason)
