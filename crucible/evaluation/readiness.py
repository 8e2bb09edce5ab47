"""Whether evaluations would be accepted and run now, dependency by dependency."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.breaker import worst
from crucible.broker.claiming.liveness import Heartbeat, read_heartbeats
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.requirements import check_writable
from crucible.broker.redis.translation import translated
from crucible.errors import BrokerError, MemoryFull
from crucible.evaluation.announcements import read_announcements
from crucible.evaluation.completion_store import read_completions
from crucible.evaluation.fleet_load import AppendOnly, append_only_of, read_ages
from crucible.evaluation.isolations import read_isolations
from crucible.evaluation.pool_gauges import lanes_of, sandboxes_of
from crucible.history.state import HISTORY, HistorianState, read_states
from crucible.models import Isolation  # noqa: TC001 - msgspec reads the annotation
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from redis.asyncio import Redis

    from crucible.breaker import Circuit
    from crucible.broker.control.client import ControlClient
    from crucible.environments import EnvironmentState
    from crucible.evaluation.completion_store import CompletionCounts
    from crucible.settings import Settings

#: Seconds a dependency may take to answer.
PROBE_S = 1.0
#: A node name that no worker has.
_NO_NODE = "nobody@nowhere"
_NO_BUS = "off (CRUCIBLE_EVENT_BUS_URL): no events are written, and none can be followed"
_NO_HISTORIAN = "no historian runs: nothing is written to the history"
_NOBODY = "no worker is connected: what is accepted waits for one"


class Dependency(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing the service depends on.

    Attributes:
        ok: it answers as it should.
        detail: why not, or a remark.
    """

    ok: bool
    detail: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``/ready``.

    Attributes:
        ready: evaluations are accepted, and nothing known keeps them from being run, though it
            may be that they have to wait for a worker.
        status: ``ready``, ``degraded`` (accepted, but no worker is there to run them) or
            ``unavailable``.
        celery: whether new evaluations may go to Celery queues.
        legacy: whether new evaluations may go to the legacy queue.
        workers_connected: async workers with a recent heartbeat.
        workers: workers that listen on the task queue server, async and stock.
        dependencies: by name.
        mode: where a migration stands; empty where there is no legacy queue.
        circuits: state of each circuit breaker, by downstream: this process's, and the worst of the
            workers' for each executor service they call.
        isolations: the hosts whose workers can give programs each isolation, by isolation; empty
            while no worker has said, and any is accepted then.
        sandboxes: containers of one program of all async workers that start them, by state;
            ``waiting`` are programs without one.
        lanes: the same of lanes.
    """

    ready: bool
    status: str
    celery: str
    legacy: str
    workers_connected: int
    workers: int
    dependencies: dict[str, Dependency]
    mode: str = ""
    circuits: dict[str, str] = {}
    isolations: dict[Isolation, tuple[str, ...]] = {}
    sandboxes: dict[str, int] = {}
    lanes: dict[str, int] = {}


class Readiness:
    """Asks the dependencies; opened with ``connect``."""

    def __init__(
        self, settings: Settings, queue: Redis, event_bus: Redis | None, control: ControlClient
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._event_bus = event_bus
        self._control = control
        self._keys = Keys(settings.global_keyprefix, settings.result_prefix)

    @classmethod
    @asynccontextmanager
    async def connect(cls, settings: Settings, control: ControlClient) -> AsyncIterator[Readiness]:
        """Clients of its own, so that a probe never waits behind submissions.

        Args:
            settings: name the servers.
            control: reaches the workers.
        """
        async with AsyncExitStack() as stack:
            enter, url = stack.enter_async_context, settings.event_bus
            queue = await enter(open_client(settings.celery_broker_url, command_timeout_s=PROBE_S))
            event_bus = None
            if url is not None:
                event_bus = await enter(open_client(url, command_timeout_s=PROBE_S))
            yield cls(settings, queue, event_bus, control)

    async def report(self, own: Mapping[str, Circuit]) -> Report:
        """Ask all of them at once.

        Args:
            own: circuits of this process, by downstream.
        """
        queue, event_bus, heartbeats, listening, isolations, historians = await asyncio.gather(
            self._check_queue(),
            _check_bus(self._event_bus),
            self.heartbeats(),
            self.listening(),
            self.isolations(),
            self.historians(),
        )
        workers = max(listening or 0, len(heartbeats))
        executor = _executor_of(heartbeats)
        # Evaluations are accepted and run without the event bus, and without the history.
        ready = queue.ok and executor.ok
        settings = self._settings
        return Report(
            ready=ready,
            status=status_of(ready=ready, served=bool(workers)),
            celery="enabled" if settings.celery_enabled else "disabled",
            legacy="enabled" if settings.queue_service_url else "not configured",
            workers_connected=len(heartbeats),
            workers=workers,
            dependencies={
                "queue": queue,
                "event_bus": event_bus,
                "executor": executor,
                **({"history": _history_of(historians)} if settings.history else {}),
                "workers": Dependency(ok=True) if workers else Dependency(ok=False, detail=_NOBODY),
            },
            circuits=states_of(
                worst([*(beat.circuits for beat in heartbeats), *map(circuits_of, historians), own])
            ),
            isolations=isolations,
            sandboxes=sandboxes_of(heartbeats),
            lanes=lanes_of(heartbeats),
        )

    async def historians(self) -> list[HistorianState]:
        """The historians that live; none while the event bus does not answer, or without one."""
        if self._event_bus is None or self._settings.history is None:
            return []
        try:
            return await read_states(self._event_bus, self._keys)
        except BrokerError:
            return []

    async def _check_queue(self) -> Dependency:
        """Whether the queue server would take a message now."""
        try:
            await check_writable(self._queue, self._keys)
        except BrokerError as error:
            return Dependency(ok=False, detail=str(error))
        return Dependency(ok=True)

    async def memory_full(self) -> bool | None:
        """Whether the queue server refuses messages for want of memory; None: it does not say."""
        try:
            await check_writable(self._queue, self._keys)
        except MemoryFull:
            return True
        except BrokerError:
            return None
        return False

    async def append_only(self) -> AppendOnly | None:
        """The append-only file of the queue server; None: there is none, or it does not say."""
        try:
            async with asyncio.timeout(PROBE_S):
                with translated():
                    info: dict[str, Any] = await self._queue.info("persistence")
        except (BrokerError, TimeoutError):
            return None
        return append_only_of(info)

    async def completions(self) -> dict[str, CompletionCounts]:
        """Completions by queue system; none while the server does not answer."""
        try:
            return await read_completions(self._queue, self._keys)
        except BrokerError:
            return {}

    async def environments(self, names: Sequence[str]) -> dict[str, EnvironmentState]:
        """What workers announced of environments; nothing while the server does not answer."""
        try:
            return await read_announcements(names, self._queue, self._keys)
        except BrokerError:
            return {}

    async def isolations(self) -> dict[Isolation, tuple[str, ...]]:
        """Hosts by what they can give programs; nothing while the server does not answer."""
        try:
            return await read_isolations(self._queue, self._keys)
        except BrokerError:
            return {}

    async def listening(self) -> int | None:
        """How many workers listen for remote control; None while the server does not answer.

        Stock workers leave no sign of life on the server, but every worker hears a request. This
        one is meant for nobody, so nobody answers; the server tells how many got it.
        """
        try:
            async with asyncio.timeout(PROBE_S):
                return await self._control.tell("ping", destination=[_NO_NODE])
        except (BrokerError, TimeoutError):
            return None

    async def ages(self, queues: Sequence[str]) -> dict[str, float]:
        """Seconds the next message of each queue waits; none while the server does not answer."""
        try:
            async with asyncio.timeout(PROBE_S):
                return await read_ages(self._queue, self._keys, queues)
        except (BrokerError, TimeoutError):
            return {}

    async def heartbeats(self) -> list[Heartbeat]:
        """Heartbeats of the async workers that live; none while the server does not answer."""
        try:
            with translated():
                found = await read_heartbeats(self._queue, self._keys)
        except BrokerError:
            return []
        return found


def workers_of(heartbeats: Sequence[Heartbeat], listening: int | None) -> dict[str, int]:
    """Workers that live, ``async`` and ``stock``; none where it is not known how many listen."""
    if listening is None:
        return {}
    return {"async": len(heartbeats), "stock": max(0, listening - len(heartbeats))}


def status_of(*, ready: bool, served: bool) -> str:
    """``status`` of a report.

    Args:
        ready: evaluations are accepted.
        served: there is a worker to run them.
    """
    if not ready:
        return "unavailable"
    return "ready" if served else "degraded"


def states_of(circuits: Mapping[str, Circuit]) -> dict[str, str]:
    """The state of each, as clients read it."""
    return {name: circuit.state.value for name, circuit in circuits.items()}


def circuits_of(historian: HistorianState) -> dict[str, Circuit]:
    """The circuits of a historian by downstream."""
    return {HISTORY: historian.circuit}


def _history_of(historians: Sequence[HistorianState]) -> Dependency:
    """Whether the history is written, as far as its historians say."""
    if not historians:
        return Dependency(ok=False, detail=_NO_HISTORIAN)
    troubles = [one.trouble for one in historians if one.trouble]
    return Dependency(ok=len(troubles) < len(historians), detail="; ".join(troubles))


async def _check_bus(client: Redis | None) -> Dependency:
    if client is None:
        return Dependency(ok=True, detail=_NO_BUS)
    try:
        with translated():
            await client.ping()
    except BrokerError as error:
        return Dependency(ok=False, detail=str(error))
    return Dependency(ok=True)


def _executor_of(heartbeats: list[Heartbeat]) -> Dependency:
    """Whether programs can be run, as far as the async workers say.

    Stock workers report nothing of their executor, so it counts as working unless every async
    worker reports trouble.
    """
    troubles = [beat.trouble for beat in heartbeats if beat.trouble]
    if heartbeats and len(troubles) == len(heartbeats):
        return Dependency(ok=False, detail=troubles[0])
    return Dependency(ok=True, detail="; ".join(troubles))
