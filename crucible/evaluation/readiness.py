"""Whether evaluations would be accepted and run now, dependency by dependency."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from crucible.breaker import worst
from crucible.broker.claiming.liveness import Heartbeat, read_signs
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
    """One thing the service stands on.

    Attributes:
        ok: it answers as it should.
        detail: why not, or what there is to know.
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
        workers_connected: async workers that gave a sign of life lately.
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
        queue, event_bus, signs = await asyncio.gather(
            _ping(self._queue), _ping(self._event_bus), self.signs_of_life()
        )
        executor = _executor_of(signs)
        # The event bus carries news, not work: evaluations are accepted and run without it.
        ready = queue.ok and executor.ok
        settings = self._settings
        return Report(
            ready=ready,
            status="ready" if ready else "unavailable",
            celery="enabled" if settings.celery_enabled else "disabled",
            legacy="enabled" if settings.queue_service_url else "not configured",
            workers_connected=len(signs),
            dependencies={"queue": queue, "event_bus": event_bus, "executor": executor},
            circuits=states_of(worst(sign.circuits for sign in signs)),
        )

    async def ends(self) -> dict[str, CompletionCounts]:
        """How evaluations ended, by side; nothing while the server cannot be asked."""
        try:
            return await read_completions(self._queue, self._keys)
        except BrokerError:
            return {}

    async def environments(self, names: Sequence[str]) -> dict[str, EnvironmentState]:
        """What workers said lately about environments; nothing while the server cannot be asked."""
        try:
            return await read_announcements(names, self._queue, self._keys)
        except BrokerError:
            return {}

    async def signs_of_life(self) -> list[Heartbeat]:
        """The async workers that live; none while the server cannot be asked."""
        try:
            with translated():
                found = await read_signs(self._queue, self._keys)
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


def _executor_of(signs: list[Heartbeat]) -> Dependency:
    """Whether programs can be run, as far as the async workers say.

    Stock workers say nothing about their executor, so silence is not held against anybody.
    """
    troubles = [sign.trouble for sign in signs if sign.trouble]
    if signs and len(troubles) == len(signs):
        return Dependency(ok=False, detail=troubles[0])
    return Dependency(ok=True, detail="; ".join(troubles))
