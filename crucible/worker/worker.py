"""A worker: takes messages from some queues and runs them."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from crucible.broker.claims import (
    RESULT_TTL_S,
    VISIBILITY_TIMEOUT_S,
    Claims,
    Move,
    new_worker_id,
)
from crucible.broker.connection import open_client, read_url
from crucible.broker.delayed import DueMessages
from crucible.broker.keys import WORKER_TTL_S, Keys
from crucible.broker.signs import SignOfLife, encode_sign
from crucible.errors import BrokerError, BrokerUnavailable
from crucible.worker.finisher import Finisher
from crucible.worker.hooks import Run, Stop
from crucible.worker.metas import MetaWriter
from crucible.worker.slots import Slots
from crucible.worker.supervisor import Supervisor
from crucible.worker.trace import Delayed, Trace
from crucible.worker.wakeup import WakeUp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from crucible.broker.claims import Claim, Ending
    from crucible.worker.hooks import TaskHooks
    from crucible.worker.registry import TaskRegistry

logger = logging.getLogger(__name__)

#: Seconds between looks into the lists while nothing is announced: the net below the wake-up.
_RECHECK_S = 5.0
#: The same where the server cannot announce anything.
_POLL_S = 0.1
#: Seconds a message may wait in this worker for a slot before it is given back to others.
_PATIENCE_S = 1.0


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
        key_prefix: ``global_keyprefix`` of the broker.
        result_prefix: the same of the result backend.
        visibility_timeout_s: as stock workers on the same server have it.
        result_ttl_s: seconds results are kept, 0 for ever.
        result_extended: keep name, arguments, worker, retries and queue with each result.
        drain_s: seconds that running tasks are given when the worker stops.
        hooks: told what happens to each task.
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
        key_prefix: str = "",
        result_prefix: str = "",
        visibility_timeout_s: float = VISIBILITY_TIMEOUT_S,
        result_ttl_s: int = RESULT_TTL_S,
        result_extended: bool = False,
        drain_s: float = 30.0,
        hooks: TaskHooks | None = None,
    ) -> None:
        self.registry = registry
        self.worker_id = new_worker_id()
        self.hostname = name or f"crucible{os.getpid()}@{socket.gethostname()}"
        self.revoked: set[str] = set()
        self._broker_url = broker_url
        self._result_url = result_url
        self._queues = tuple(queues)
        self._concurrency = concurrency
        self._keys = Keys(key_prefix, result_prefix)
        self._visibility_timeout_s = visibility_timeout_s
        self._result_ttl_s = result_ttl_s
        self._result_extended = result_extended
        self._drain_s = drain_s
        self._hooks = hooks
        self._stack = AsyncExitStack()
        self._held: dict[str, Run] = {}
        self._due_sooner = asyncio.Event()
        self._next_due: float | None = None
        self._taking = True

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._open(stack)
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

    async def _open(self, stack: AsyncExitStack) -> None:
        """Open what is used last first: leaving closes in the reverse order."""
        states = {
            home: await stack.enter_async_context(home.lifespan()) if home.lifespan else None
            for home in self.registry.homes
        }
        client = await stack.enter_async_context(open_client(self._broker_url, name="worker"))
        results = None
        if self._result_url and read_url(self._result_url) != read_url(self._broker_url):
            results = await stack.enter_async_context(open_client(self._result_url))
        self._claims = Claims(
            client,
            self.worker_id,
            self._queues,
            keys=self._keys,
            results=results,
            visibility_timeout_s=self._visibility_timeout_s,
            result_ttl_s=self._result_ttl_s,
        )
        self._finisher = Finisher(self._claims, self._ended)
        self._wake_up = WakeUp(client, self._claims.list_keys)
        self._due = DueMessages(client, self._keys, self._visibility_timeout_s, self._claims.clock)
        threads = ThreadPoolExecutor(max(1, self._concurrency), "crucible-task")
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)
        self.trace = Trace(
            self.registry,
            self.hostname,
            keys=self._keys,
            clock=self._claims.clock,
            metas=MetaWriter(self.hostname, extended=self._result_extended),
            states=states,
            store=self._finisher.write,
            threads=threads,
            revoked=self.revoked,
            hooks=self._hooks,
        )
        self._supervisor = await stack.enter_async_context(Supervisor())
        self._slots = await stack.enter_async_context(Slots(self._perform, self._concurrency))
        await self._start_loops()

    def _sign(self) -> str:
        troubles = [home.trouble() for home in self.registry.homes if home.trouble]
        return encode_sign(SignOfLife(self.hostname, "; ".join(filter(None, troubles))))

    async def _start_loops(self) -> None:
        # The sign of life comes before the first claim: a sweep must never find one without.
        try:
            await self._claims.renew([], self._sign())
        except BrokerUnavailable as error:
            logger.warning("the queue server is not there yet: %s", error)
        start = self._supervisor.start
        start("finish", self._finisher.run, stall_s=30.0)
        start("lease", self._lease, stall_s=15.0)
        start("wake-up", self._wake_up.run, stall_s=20.0)
        start("due", self._move_due, stall_s=30.0)
        start("intake", self._intake, stall_s=30.0)

    async def run(self, until: asyncio.Event) -> None:
        """Serve until ``until`` is set, then drain.

        Raises:
            WorkerFailed: a loop could not be kept alive.
        """
        waiting = asyncio.ensure_future(until.wait())
        failing = asyncio.ensure_future(self._supervisor.failed())
        try:
            await asyncio.wait([waiting, failing], return_when=asyncio.FIRST_COMPLETED)
            if failing.done():
                failing.result()
        finally:
            waiting.cancel()
            failing.cancel()
            await asyncio.wait([waiting, failing])
        await self.drain(self._drain_s)

    async def drain(self, deadline_s: float) -> None:
        """Stop taking messages, hand back what was not started, let the rest end.

        What still runs after ``deadline_s`` is cancelled and handed back.
        """
        if not self._taking:
            return
        self._taking = False
        await self._supervisor.stop("intake")
        await self._give_back(self._slots.take_waiting())
        try:
            async with asyncio.timeout(deadline_s):
                await self._slots.wait_until_idle()
        except TimeoutError:
            await self._hand_back_running()
        await self._flush(deadline_s)

    async def _hand_back_running(self) -> None:
        for run in list(self._slots.running):
            self._stop(run, Stop.GIVEN_BACK)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._slots.wait_until_idle()
        except TimeoutError:
            logger.warning("%d tasks do not react to being stopped", len(self._slots.running))

    async def _flush(self, deadline_s: float) -> None:
        try:
            async with asyncio.timeout(max(1.0, deadline_s)):
                await self._finisher.flushed()
                await self._claims.leave()
        except (TimeoutError, BrokerError) as error:
            # Claims that stay are restored by others once our sign of life has run out.
            logger.warning("stopping with results unwritten: %s", error)

    def terminate(self, task_id: str) -> bool:
        """Stop a running task by id; it is stored as REVOKED. False when it does not run here."""
        for run in self._slots.running:
            if run.message is not None and run.message.id == task_id:
                self._stop(run, Stop.TERMINATED)
                return True
        return False

    def resize(self, concurrency: int) -> None:
        """Run this many tasks at once from now on."""
        self._slots.resize(concurrency)

    @property
    def runs(self) -> Iterable[Run]:
        """Everything claimed and not ended yet."""
        return self._held.values()

    @staticmethod
    def _stop(run: Run, why: Stop) -> None:
        if run.stop is None:
            run.stop = why
            if run.runner is not None:
                run.runner.cancel()

    async def _intake(self, beat: Callable[[], None]) -> None:
        slots, wake_up = self._slots, self._wake_up
        while True:
            beat()
            room = slots.room
            if room == 0:
                try:
                    async with asyncio.timeout(_PATIENCE_S):
                        await slots.wait_for_room()
                except TimeoutError:
                    await self._return_the_patient()
                continue
            wake_up.clear()
            claims = await self._claims.take(room)
            if claims:
                self._admit(claims)
            else:
                await wake_up.wait(_RECHECK_S if wake_up.armed else _POLL_S)

    def _admit(self, claims: Sequence[Claim]) -> None:
        now = time.monotonic()
        runs = [Run(claim, now) for claim in claims]
        for run in runs:
            self._held[run.claim.field] = run
        self._slots.offer(runs)

    async def _return_the_patient(self) -> None:
        """Give back what was claimed ahead and cannot start: other workers may be free."""
        since = self._slots.waiting_since()
        if since is not None and time.monotonic() - since > _PATIENCE_S:
            await self._give_back(self._slots.take_waiting())

    async def _give_back(self, runs: Sequence[Run]) -> None:
        claims = [run.claim for run in runs]
        if not claims:
            return
        try:
            await self._claims.give_back(claims)
        except BrokerUnavailable as error:
            logger.warning("%d claims are left to a sweep: %s", len(claims), error)
        self._dropped(claims)

    def _ended(self, endings: Sequence[Ending]) -> None:
        for ending in endings:
            if ending.claim is not None:
                self._held.pop(ending.claim.field, None)
            if ending.onward is not None and ending.onward.move is Move.PARK:
                self._expect_due(ending.onward.eta)

    def _dropped(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            self._held.pop(claim.field, None)

    async def _perform(self, run: Run) -> None:
        try:
            ending = await self.trace.perform(run)
        except Delayed as delayed:
            await self._park(run, delayed.eta)
            return
        if ending is None:
            self._held.pop(run.claim.field, None)
        else:
            self._finisher.put(ending)

    async def _park(self, run: Run, eta: float) -> None:
        while True:
            try:
                due = await self._claims.park([(run.claim, eta)])
                break
            except BrokerUnavailable:
                await asyncio.sleep(_POLL_S)
        if due:
            self._slots.offer([run])
            return
        self._held.pop(run.claim.field, None)
        self._expect_due(eta)

    def _expect_due(self, eta: float) -> None:
        if self._next_due is None or eta < self._next_due:
            self._next_due = eta
            self._due_sooner.set()

    async def _lease(self, beat: Callable[[], None]) -> None:
        while True:
            held = [run.claim for run in self._held.values()]
            lost = await self._claims.renew(held, self._sign())
            beat()
            for claim in lost:
                run = self._held.pop(claim.field, None)
                if run is not None:
                    logger.warning("the claim on a task was taken away: %s", claim.field)
                    self._stop(run, Stop.LOST)
            await asyncio.sleep(min(WORKER_TTL_S / 3, self._visibility_timeout_s / 3))

    async def _move_due(self, beat: Callable[[], None]) -> None:
        while True:
            self._due_sooner.clear()
            self._next_due, _stale = await self._due.move()
            beat()
            wait_s = _RECHECK_S
            if self._next_due is not None:
                wait_s = min(wait_s, self._next_due - self._claims.clock.now())
            try:
                async with asyncio.timeout(max(0.001, wait_s)):
                    await self._due_sooner.wait()
            except TimeoutError:
                pass
