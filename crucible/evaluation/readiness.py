"""Whether evaluations would be accepted and run now, dependency by dependency."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from crucible.breaker import worst
from crucible.broker.claiming.liveness import Heartbeat, read_heartbeats
from crucible.broker.redis.connection import open_client, translated
from crucible.errors import BrokerError
from crucible.evaluation.announcements import read_announcements
from crucible.evaluation.completions import read_completions
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from redis.asyncio import Redis

    from crucible.breaker import Circuit
    from crucible.environments import EnvironmentState
    from crucible.evaluation.completions import CompletionCounts
    from crucible.settings import Settings

#: Seconds a dependency may take to answer.
PROBE_S = 1.0


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
        ready: evaluations are accepted, and nothing known keeps them from being run.
        status: ``ready`` or ``unavailable``.
        celery: whether new evaluations may go to Celery queues.
        legacy: whether new evaluations may go to the legacy queue.
        workers_connected: async workers with a recent heartbeat.
        dependencies: by name.
        mode: where a migration stands; empty where there is no legacy queue.
        circuits: state of each circuit breaker, by downstream: this process's, and the worst of the
            workers' for each executor service they call.
    """

    ready: bool
    status: str
    celery: str
    legacy: str
    workers_connected: int
    dependencies: dict[str, Dependency]
    mode: str = ""
    circuits: dict[str, str] = {}


class Readiness:
    """Asks the dependencies; opened with ``connect``."""

    def __init__(self, settings: Settings, queue: Redis, event_bus: Redis) -> None:
        self._settings = settings
        self._queue = queue
        self._event_bus = event_bus
        self._keys = Keys(prefix=settings.global_keyprefix)

    @classmethod
    @asynccontextmanager
    async def connect(cls, settings: Settings) -> AsyncIterator[Readiness]:
        """Clients of its own, so that a probe never waits behind submissions."""
        async with (
            open_client(settings.celery_broker_url, command_timeout_s=PROBE_S) as queue,
            open_client(settings.event_bus_url, command_timeout_s=PROBE_S) as event_bus,
        ):
            yield cls(settings, queue, event_bus)

    async def report(self) -> Report:
        """Ask all of them at once."""
        queue, event_bus, heartbeats = await asyncio.gather(
            _ping(self._queue), _ping(self._event_bus), self.heartbeats()
        )
        executor = _executor_of(heartbeats)
        # Evaluations are accepted and run without the event bus.
        ready = queue.ok and executor.ok
        settings = self._settings
        return Report(
            ready=ready,
            status="ready" if ready else "unavailable",
            celery="enabled" if settings.celery_enabled else "disabled",
            legacy="enabled" if settings.queue_service_url else "not configured",
            workers_connected=len(heartbeats),
            dependencies={"queue": queue, "event_bus": event_bus, "executor": executor},
            circuits=states_of(worst(beat.circuits for beat in heartbeats)),
        )

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

    async def heartbeats(self) -> list[Heartbeat]:
        """Heartbeats of the async workers that live; none while the server does not answer."""
        try:
            with translated():
                found = await read_heartbeats(self._queue, self._keys)
        except BrokerError:
            return []
        return found


def states_of(circuits: Mapping[str, Circuit]) -> dict[str, str]:
    """The state of each, as clients read it."""
    return {name: circuit.state.value for name, circuit in circuits.items()}


async def _ping(client: Redis) -> Dependency:
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
