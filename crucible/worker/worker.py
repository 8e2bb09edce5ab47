"""A worker: takes messages from some queues and runs them."""

from __future__ import annotations

import logging
import os
import socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

from crucible.broker.canvas.chord_parts import ChordParts
from crucible.broker.claiming.claims import (
    RESULT_TTL_S,
    VISIBILITY_TIMEOUT_S,
    Claims,
    new_worker_id,
)
from crucible.broker.claiming.delayed import DueMessages
from crucible.broker.claiming.liveness import Heartbeat, encode_heartbeat
from crucible.broker.claiming.recovery.restorer import MAX_DELIVERIES, Restorer
from crucible.broker.claiming.recovery.sweeper import Sweeper
from crucible.broker.redis.requirements import require_usable
from crucible.errors import BrokerUnavailable
from crucible.redis_keys import Keys
from crucible.worker.canvas.duties import serve_canvas
from crucible.worker.connections import ClaimMode, open_servers
from crucible.worker.consumer import Consumer, Holdings
from crucible.worker.control.node import Node
from crucible.worker.execution.cancellation import stop_run
from crucible.worker.execution.execute import Trace
from crucible.worker.execution.threads import Threads
from crucible.worker.hooks import Run, Stop
from crucible.worker.processor import Processor
from crucible.worker.rate_limits import RateLimits
from crucible.worker.result_encoder import ResultEncoder
from crucible.worker.shutdown import Shutdown
from crucible.worker.slots import Slots
from crucible.worker.supervisor import Supervisor
from crucible.worker.upkeep import Upkeep
from crucible.worker.wakeup import WakeUp

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection, Iterable, Sequence
    from types import TracebackType

    from redis.asyncio import Redis

    from crucible.broker.redis.store import RedisStore
    from crucible.worker.hooks import TaskHooks
    from crucible.worker.registry import TaskRegistry

logger = logging.getLogger(__name__)

#: Threads for plain functions, made as they are needed; some may never return.
_THREADS = 1000


class Worker:
    """Serves the tasks of a registry from some queues.

    An async context manager: entering opens the registry's lifespans, connects and starts to
    serve; leaving stops taking messages, lets running tasks end, hands back the rest.

    Args:
        registry: the tasks.
        broker_url: the queue server.
        result_url: the result server; None is the queue server and its database.
        queues: in the order of service.
        concurrency: tasks run at once.
        name: node name, ``name@host``; None makes one.
        claim: ``atomic`` loses nothing; ``brpop`` takes as stock does, for servers without
            scripting, and has stock's gap between taking and recording.
        key_prefix: ``global_keyprefix`` of the broker.
        result_prefix: the same of the result backend.
        visibility_timeout_s: as stock workers on the same server have it.
        result_ttl_s: seconds results are kept, 0 for ever.
        result_extended: keep name, arguments, worker, retries and queue with each result.
        max_deliveries: deliveries of a message that ended with their worker before it becomes a
            dead letter and its task a failure.
        drain_s: seconds that running tasks are given when the worker stops.
        events: send task events from the start; ``enable_events`` does it later.
        hooks: told what happens to each task.
        default_queue: where a task goes that is sent from a task and names no queue.
    """

    def __init__(
        self,
        registry: TaskRegistry,
        *,
        broker_url: str,
        result_url: str | None = None,
        queues: Sequence[str] = ("celery",),
        concurrency: int = 10,
        name: str | None = None,
        claim: ClaimMode = "atomic",
        key_prefix: str = "",
        result_prefix: str = "",
        visibility_timeout_s: float = VISIBILITY_TIMEOUT_S,
        result_ttl_s: int = RESULT_TTL_S,
        result_extended: bool = False,
        max_deliveries: int = MAX_DELIVERIES,
        drain_s: float = 30.0,
        events: bool = False,
        hooks: TaskHooks | None = None,
        default_queue: str = "celery",
    ) -> None:
        self.registry = registry
        self.worker_id = new_worker_id()
        self.hostname = name or f"crucible{os.getpid()}@{socket.gethostname()}"
        self.result_url = result_url or broker_url
        self.visibility_timeout_s = visibility_timeout_s
        self.result_ttl_s = result_ttl_s
        self.time_limits: dict[str, tuple[float | None, float | None]] = {}
        self._broker_url = broker_url
        self._result_url = result_url
        self._queues = tuple(queues)
        self._concurrency = concurrency
        self._claim = claim
        self._keys = Keys(key_prefix, result_prefix)
        self._max_deliveries = max_deliveries
        self._drain_s = drain_s
        self._events = events
        self._metas = ResultEncoder(self.hostname, extended=result_extended)
        self._hooks = hooks
        self._default_queue = default_queue
        self._result_extended = result_extended
        self._stack = AsyncExitStack()
        self._held = Holdings()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            states = await self.registry.open(stack)
            servers = await open_servers(stack, self._broker_url, self._result_url, self._claim)
            client, steps = servers.client, servers.steps
            self._open_claims(steps, servers.results)
            self.fleet = Node(
                self,
                client,
                steps,
                self._results,
                self._keys,
                self._broker_url,
                events=self._events,
            )
            self._open_trace(stack, states)
            self._supervisor = await stack.enter_async_context(Supervisor())
            self._slots = await stack.enter_async_context(
                Slots(self._passage.perform, self._concurrency)
            )
            self.rates = RateLimits(self.registry, self._slots.offer, self._slots.withhold)
            self._passage.trace, self._passage.offer = self.trace, self._slots.offer
            self._passage.told = self.fleet.events.ended
            await self._start_loops(client)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.drain(self._drain_s)
        finally:
            await self._stack.aclose()

    def _open_claims(self, steps: RedisStore, results: RedisStore | None) -> None:
        self._claims = Claims(
            steps,
            self.worker_id,
            self._queues,
            keys=self._keys,
            results=results,
            visibility_timeout_s=self.visibility_timeout_s,
            result_ttl_s=self.result_ttl_s,
        )
        self._results = results or steps
        self._parts = ChordParts(
            self._results, self._keys, self.result_ttl_s, steps if results else None
        )
        due = DueMessages(steps, self._keys, self.visibility_timeout_s, self._claims.clock)
        restorer = Restorer(
            steps, self._keys, results=results, max_deliveries=self._max_deliveries,
            result_ttl_s=self.result_ttl_s,
        )  # fmt: skip
        sweeper = Sweeper(steps, self._keys, restorer)
        self._upkeep = Upkeep(self._claims, self._held, due, sweeper, self._sign)
        self._passage = Processor(self._claims, self._held, self._upkeep, self._max_deliveries)
        self._finisher = self._passage.finisher

    def _open_trace(self, stack: AsyncExitStack, states: dict[TaskRegistry, Any]) -> None:
        threads = Threads(max(_THREADS, 2 * self._concurrency))
        stack.callback(threads.close)
        self.trace = Trace(
            self.registry,
            self.hostname,
            keys=self._keys,
            clock=self._claims.clock,
            metas=self._metas,
            states=states,
            store=self._finisher.write,
            threads=threads,
            revoked=self.fleet.is_revoked,
            limits=self.time_limits,
            hooks=self.fleet.hooks(self._hooks, *self.registry.all_hooks()),
            admit=self._admit,
        )
        serve_canvas(
            self.trace,
            self.registry,
            self._claims.effects,
            self._parts,
            self._keys,
            default_queue=self._default_queue,
            extended=self._result_extended,
        )

    def _sign(self) -> str:
        registry = self.registry
        sign = Heartbeat(self.hostname, registry.troubles(), registry.all_circuits())
        return encode_heartbeat(sign)

    async def _start_loops(self, client: Redis) -> None:
        await require_usable(client, self._keys, scripting=self._claim == "atomic")
        # The sign of life comes before the first claim: a sweep must never find one without.
        try:
            await self._upkeep.show_life()
        except BrokerUnavailable as error:
            logger.warning("the queue server is not there yet: %s", error)
        start = self._supervisor.start
        wake_up = None
        if self._claim == "atomic":
            wake_up = WakeUp(client, self._claims.list_keys)
            start("wake-up", wake_up.run, stall_s=20.0)
        # Revoked tasks are known before the first message is claimed.
        await self.fleet.start(self._supervisor)
        self._wake_up = wake_up
        self._intake = Consumer(
            self._claims,
            self._slots,
            self._held,
            self._finisher,
            wake_up,
            lambda: bool(self.registry.troubles()),
        )
        start("finish", self._finisher.run, stall_s=None)
        start("lease", self._upkeep.lease, stall_s=15.0)
        start("due", self._upkeep.hand_out_due, stall_s=30.0)
        start("sweep", self._upkeep.sweep, stall_s=60.0)
        start("intake", self._intake.run, stall_s=60.0)  # large messages take their time
        self._draining = Shutdown(
            self._supervisor, self._intake, self._slots, self.rates, self._finisher,
            self._claims, self._held, self.fleet,
        )  # fmt: skip

    async def run(self, until: asyncio.Event, hurry: asyncio.Event | None = None) -> None:
        """Serve until ``until`` is set, then drain; ``hurry`` cuts the draining short.

        Raises:
            WorkerFailed: a loop could not be kept alive.
        """
        await self._draining.until(until, hurry, self._drain_s)

    async def drain(self, deadline_s: float) -> None:
        """Stop taking messages, hand back what was not started, let the rest end.

        What still runs after ``deadline_s`` is cancelled and handed back.
        """
        await self._draining.drain(deadline_s)

    def terminate(self, task_id: str) -> bool:
        """Stop a running task by id; it is stored as REVOKED. False when it does not run here."""
        for run in self._slots.running:
            if run.message is not None and run.message.id == task_id:
                return stop_run(run, Stop.TERMINATED)
        return False

    def resize(self, concurrency: int) -> None:
        """Run this many tasks at once from now on."""
        self._slots.resize(concurrency)

    async def serve(self, queues: Sequence[str]) -> None:
        """Take from these queues from now on, in this order."""
        self._claims.serve(queues)
        if self._wake_up is not None:
            await self._supervisor.stop("wake-up")
            self._wake_up.watch(self._claims.list_keys)
            self._supervisor.start("wake-up", self._wake_up.run, stall_s=20.0)

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues served, in order."""
        return self._claims.queues

    @property
    def running(self) -> Collection[Run]:
        """What runs now."""
        return self._slots.running

    @property
    def concurrency(self) -> int:
        """Tasks run at once."""
        return self._slots.size

    @property
    def runs(self) -> Iterable[Run]:
        """Everything claimed and not ended yet."""
        return self._held

    @property
    def finished(self) -> int:
        """Claims ended since the worker started."""
        return self._finisher.finished

    def _admit(self, run: Run, name: str) -> bool:
        return not self.rates or self.rates.admit(run, name)
