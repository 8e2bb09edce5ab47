"""A worker: claims messages from some queues and runs their tasks."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self, Unpack

from crucible.broker.redis.requirements import require_usable
from crucible.errors import BrokerUnavailable
from crucible.worker.config import WorkerConfig
from crucible.worker.control.controlled import ControlledWorker
from crucible.worker.control.handler import RequestHandler
from crucible.worker.execution.cancellation import stop_run
from crucible.worker.parts import open_parts
from crucible.worker.run import Stop
from crucible.worker.shutdown import Shutdown
from crucible.worker.supervisor import Supervisor

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection, Iterable, Sequence
    from types import TracebackType

    from crucible.worker.config import WorkerOptions
    from crucible.worker.control.node import Node
    from crucible.worker.hooks import TaskHooks
    from crucible.worker.parts import TimeLimits
    from crucible.worker.rate_limits import RateLimits
    from crucible.worker.registry import TaskRegistry
    from crucible.worker.run import Run

logger = logging.getLogger(__name__)

#: Seconds without a sign of progress after which the wake-up connection is made anew.
_WAKE_UP_STALL_S = 20.0


class Worker:
    """Serves the tasks of a registry from some queues.

    An async context manager: entering opens the registry's lifespans, connects and starts to
    serve; leaving stops claiming messages, lets running tasks end, gives back the rest.

    Args:
        registry: the tasks.
        hooks: notified of what happens to each task.
        options: the fields of ``crucible.worker.config.WorkerConfig``, of which only
            ``broker_url`` must be given.

    Attributes:
        registry: as given.
        config: the settings it was started with.
    """

    def __init__(
        self,
        registry: TaskRegistry,
        *,
        hooks: TaskHooks | None = None,
        **options: Unpack[WorkerOptions],
    ) -> None:
        self.registry = registry
        self.config = WorkerConfig(**options)
        self._hooks = () if hooks is None else (hooks,)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._parts = await open_parts(stack, self.config, self.registry, self._hooks)
            self._supervisor = await stack.enter_async_context(Supervisor(self._parts.outage))
            self._shutdown = Shutdown(self._supervisor, self._parts)
            slots, processor = self._parts.slots, self._parts.processor
            await stack.enter_async_context(slots.serving(processor.process))
            await self._start_loops()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.drain(self.config.drain_s)
        finally:
            await self._stack.aclose()

    async def _start_loops(self) -> None:
        parts, start, config = self._parts, self._supervisor.start, self.config
        logger.info(
            "%s serves the queues %s: %d tasks, concurrency %d",
            *(config.hostname, ", ".join(config.queues), len(self.registry), config.concurrency),
        )
        scripting = config.claim == "atomic"
        await require_usable(parts.connections.client, parts.claims.keys, scripting=scripting)
        # The heartbeat comes before the first claim: a sweep must never find a claim without one.
        try:
            await parts.lease.renew()
            connected = True
        except BrokerUnavailable as error:
            connected = False
            parts.outage.failed(error)
        if parts.wake_up is not None:
            start("wake-up", parts.wake_up.run, stall_s=_WAKE_UP_STALL_S)
        # Revoked tasks are known before the first message is claimed.
        await parts.node.start(self._supervisor)
        handler = RequestHandler(self._controlled(), parts.node.mailbox)
        start("control", handler.run, stall_s=None)
        start("settlements", parts.writer.run, stall_s=None)
        start("refused", parts.refused.run, stall_s=None)
        start("lease", parts.lease.run, stall_s=15.0)
        start("delayed", parts.delayed.run, stall_s=30.0)
        start("recovery", parts.recovery.run, stall_s=60.0)
        start("consumer", parts.consumer.run, stall_s=60.0)  # large messages take their time
        if connected:
            logger.info("%s is ready", config.hostname)

    def _controlled(self) -> ControlledWorker:
        parts = self._parts
        return ControlledWorker(
            worker_id=self.worker_id,
            config=self.config,
            registry=self.registry,
            rates=parts.rates,
            time_limits=parts.time_limits,
            node=parts.node,
            steps=parts.connections.steps,
            runs=self,
            consumer=self,
        )

    async def run(self, until: asyncio.Event, force: asyncio.Event | None = None) -> None:
        """Serve until ``until`` is set, then drain; ``force`` cuts the draining short.

        Raises:
            WorkerFailed: a loop could not be kept alive.
        """
        await self._shutdown.wait(until, force, self.config.drain_s)

    async def drain(self, deadline_s: float) -> None:
        """Stop claiming messages, give back what was not started, let the rest end.

        What still runs after ``deadline_s`` seconds is cancelled and requeued.
        """
        await self._shutdown.drain(deadline_s)

    def terminate(self, task_id: str) -> bool:
        """Stop a running task by id; it is stored as REVOKED. False when it does not run here."""
        for run in self._parts.slots.running:
            if run.message is not None and run.message.id == task_id:
                return stop_run(run, Stop.TERMINATED)
        return False

    def resize(self, concurrency: int) -> None:
        """Run this many tasks at once from now on."""
        self._parts.slots.resize(concurrency)

    async def serve(self, queues: Sequence[str]) -> None:
        """Take from these queues from now on, in this order."""
        claims, wake_up = self._parts.claims, self._parts.wake_up
        claims.serve(queues)
        if wake_up is not None:
            # The lists to watch are named to the server only once, when the connection is made.
            await self._supervisor.stop("wake-up")
            wake_up.watch(claims.list_keys)
            self._supervisor.start("wake-up", wake_up.run, stall_s=_WAKE_UP_STALL_S)

    @property
    def hostname(self) -> str:
        """The node name."""
        return self.config.hostname

    @property
    def worker_id(self) -> str:
        """The id in claims and heartbeats; a new one each time the worker is entered."""
        return self._parts.claims.worker_id

    @property
    def node(self) -> Node:
        """The worker as remote control and Flower see it."""
        return self._parts.node

    @property
    def rates(self) -> RateLimits:
        """Rate limits of tasks."""
        return self._parts.rates

    @property
    def time_limits(self) -> TimeLimits:
        """Overrides of tasks' time limits in seconds by name: hard, soft."""
        return self._parts.time_limits

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues served, in order."""
        return self._parts.claims.queues

    @property
    def running(self) -> Collection[Run]:
        """What runs now."""
        return self._parts.slots.running

    @property
    def concurrency(self) -> int:
        """Tasks run at once."""
        return self._parts.slots.size

    @property
    def unsettled(self) -> Iterable[Run]:
        """Everything claimed and not settled yet."""
        return self._parts.unsettled

    @property
    def settled(self) -> int:
        """Settlements written since the worker started."""
        return self._parts.writer.settled
