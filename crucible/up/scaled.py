"""Worker processes of one machine, as many as the autoscale policy wants."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crucible.errors import BrokerError
from crucible.scaling.policy import Load

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from crucible.scaling.policy import Autoscaler
    from crucible.up.service import Service

log = logging.getLogger(__name__)

#: Seconds between two looks, and those that one may take.
LOOK_S = 1.0
_MEASURE_S = 3.0
#: Gauges of a heartbeat (``broker.claiming.liveness``).
_SLOTS, _CLAIMED, _SERVICE_MS = "worker slots", "worker claimed", "worker service_ms"
_RAN, _MEMORY_MB = "worker ran", "worker memory_mb"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What waits, and what the workers say.

    Attributes:
        waiting: messages in the queues they serve.
        oldest_s: seconds the next of them waits; None where that is not known.
        gauges: those of each worker's heartbeat, by node name.
    """

    waiting: int
    oldest_s: float | None
    gauges: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recycling:
    """When a process is replaced by a new one; a new one is there before it goes.

    Attributes:
        max_tasks: tasks it has run; 0 for any number.
        max_memory_mb: MiB of its resident memory; 0 for any.
    """

    max_tasks: int = 0
    max_memory_mb: int = 0

    def why(self, gauges: Mapping[str, int]) -> str:
        """Why a process is to be replaced; empty where it is not."""
        ran, memory_mb = gauges.get(_RAN, 0), gauges.get(_MEMORY_MB, 0)
        if self.max_tasks and ran >= self.max_tasks:
            return f"it has run {ran} tasks"
        if self.max_memory_mb and memory_mb >= self.max_memory_mb:
            return f"it has {memory_mb} MiB of memory"
        return ""


class _Worker:
    """One process, and the task that keeps it running."""

    def __init__(self, node: str, service: Service) -> None:
        self.node = node
        self.service = service
        self.ending = asyncio.Event()
        self.kept = asyncio.create_task(self._keep(), name=f"crucible-{node}")

    async def _keep(self) -> None:
        # In a task of its own, since it drains for as long as its tasks run.
        async with self.service:
            await self.ending.wait()


class ScaledWorkers:
    """Starts and stops worker processes.

    A process is stopped with SIGTERM, so that what it runs ends first; of several the one that
    holds the fewest messages.

    Args:
        scaler: decides.
        service: makes a worker process with the node name given.
        base: node name, ``name@host``, that those of the processes are made from.
        measure: what there is to do; may raise BrokerError.
        recycling: when processes are replaced.
    """

    def __init__(
        self,
        scaler: Autoscaler,
        service: Callable[[str], Service],
        base: str,
        measure: Callable[[], Awaitable[Measured]],
        recycling: Recycling = Recycling(),
    ) -> None:
        self._scaler = scaler
        self._service = service
        self._base = base
        self._measure = measure
        self._workers: list[_Worker] = []
        self._leaving: set[_Worker] = set()
        self._recycling = recycling
        #: By the process it is to replace, the one that starts.
        self._successors: dict[_Worker, _Worker] = {}

    async def run(self, stop: asyncio.Event, hurry: asyncio.Event) -> None:
        """Supervise until ``stop``; return when all processes have exited.

        Args:
            stop: lets running tasks finish.
            hurry: does not.
        """
        try:
            self._scale({}, self._scaler.desired)
            while not await _is_set(stop, LOOK_S):
                await self._look()
        finally:
            await self._end(hurry)

    async def _look(self) -> None:
        self._forget_failed()
        try:
            async with asyncio.timeout(_MEASURE_S):
                measured = await self._measure()
        except (BrokerError, TimeoutError) as error:
            log.warning("what waits cannot be read, %d workers stay: %s", len(self._workers), error)
            return
        own = {
            worker.node: measured.gauges[worker.node]
            for worker in self._workers
            if worker.node in measured.gauges
        }
        self._recycle(measured.gauges, own)
        load = load_of(measured, own)
        self._scale(own, self._scaler.decide(load, time.monotonic()))

    def _recycle(
        self, gauges: Mapping[str, Mapping[str, int]], own: Mapping[str, Mapping[str, int]]
    ) -> None:
        """Start successors of what has run for long enough, and let those go that have one."""
        for worker, successor in list(self._successors.items()):
            if worker not in self._workers or successor.kept.done():
                # Scaled away meanwhile, or the successor cannot be started: then the old one stays.
                del self._successors[worker]
                self._leave(successor)
            elif successor.node in gauges:
                del self._successors[worker]
                self._workers[self._workers.index(worker)] = successor
                self._leave(worker)
        for worker in self._workers:
            why = self._recycling.why(own.get(worker.node, {}))
            if why and worker not in self._successors:
                node = self._free_node()
                log.info("%s takes the place of %s: %s", node, worker.node, why)
                self._successors[worker] = _Worker(node, self._service(node))

    def _scale(self, own: Mapping[str, Mapping[str, int]], desired: int) -> None:
        if desired != len(self._workers):
            log.info("%d workers instead of %d", desired, len(self._workers))
        while len(self._workers) < desired:
            node = self._free_node()
            self._workers.append(_Worker(node, self._service(node)))
        while len(self._workers) > desired:
            # Of equals the newest: it is the one that may not have begun yet.
            idle = min(
                reversed(self._workers), key=lambda one: own.get(one.node, {}).get(_CLAIMED, 0)
            )
            self._workers.remove(idle)
            self._leave(idle)

    def _forget_failed(self) -> None:
        """Drop workers whose process could not be started; the next look tries again."""
        for worker in [one for one in self._workers if one.kept.done()]:
            self._workers.remove(worker)
            log.error("%s cannot be started", worker.node, exc_info=worker.kept.exception())

    def _leave(self, worker: _Worker) -> None:
        self._leaving.add(worker)
        worker.kept.add_done_callback(lambda _: self._leaving.discard(worker))
        worker.ending.set()

    def _free_node(self) -> str:
        name, _, host = self._base.partition("@")
        known = (*self._workers, *self._leaving, *self._successors.values())
        taken = {worker.node for worker in known}
        number = 1
        while f"{name}-{number}@{host}" in taken:
            number += 1
        return f"{name}-{number}@{host}"

    async def _end(self, hurry: asyncio.Event) -> None:
        for worker in (*self._workers, *self._successors.values()):
            self._leave(worker)
        self._workers.clear()
        self._successors.clear()
        hurrying = asyncio.create_task(self._hurry(hurry))
        try:
            while self._leaving:
                await asyncio.wait([worker.kept for worker in self._leaving])
        finally:
            hurrying.cancel()

    async def _hurry(self, hurry: asyncio.Event) -> None:
        await hurry.wait()
        for worker in self._leaving:
            worker.service.hurry()


def load_of(measured: Measured, own: Mapping[str, Mapping[str, int]]) -> Load:
    """The load of this machine's workers; ``own`` are the gauges of those that live."""
    times = [gauges[_SERVICE_MS] / 1000 for gauges in own.values() if _SERVICE_MS in gauges]
    return Load(
        waiting=measured.waiting,
        claimed=sum(gauges.get(_CLAIMED, 0) for gauges in own.values()),
        slots=max([1, *(gauges.get(_SLOTS, 1) for gauges in own.values())]),
        oldest_s=measured.oldest_s,
        service_s=sum(times) / len(times) if times else None,
    )


async def _is_set(event: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            return await event.wait()
    except TimeoutError:
        return False
