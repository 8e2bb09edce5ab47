"""``crucible worker --autoscale MIN,MAX``: as many processes as there is work for."""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import TYPE_CHECKING

import msgspec

from crucible.cli.running import StopSignals, run
from crucible.settings import child_environ
from crucible.settings.fields import QUEUES

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from crucible.broker.admin.operator import Admin
    from crucible.settings import Settings
    from crucible.up.scaled import Measured

log = logging.getLogger(__name__)

#: Seconds a worker has beyond its drain time to exit.
_EXIT_S = 10.0


def command(
    settings: Settings, tasks: str | None, name: str | None, bounds: tuple[int, int]
) -> None:
    """Supervise worker processes until SIGTERM; their running tasks finish first.

    Args:
        settings: of each of them.
        tasks: as ``crucible worker`` takes it.
        name: node name; each process adds its number to the part before the ``@``.
        bounds: processes at least and at most.
    """
    least, most = bounds
    if tasks is not None and settings.queues is QUEUES:
        settings = msgspec.structs.replace(settings, queues=("celery",))
    settings = msgspec.structs.replace(settings, autoscale_min=least, autoscale_max=most)
    base = name or f"crucible{os.getpid()}@{socket.gethostname()}"
    run(_supervise(settings, tasks, base), settings)


async def _supervise(settings: Settings, tasks: str | None, base: str) -> None:
    from crucible.api.autoscale import policy_of
    from crucible.broker.redis.connection import open_client
    from crucible.cli.queues import connected
    from crucible.scaling.policy import Autoscaler
    from crucible.up.scaled import Recycling, ScaledWorkers
    from crucible.up.service import Service

    signals = StopSignals()
    # The settings were read here, and are passed on in full.
    # What replaces processes is here, not in each of them.
    environ = child_environ(
        msgspec.structs.replace(settings, worker_max_tasks=0, worker_max_memory_mb=0)
    )
    recycling = Recycling(
        max_tasks=settings.worker_max_tasks, max_memory_mb=settings.worker_max_memory_mb
    )

    def worker(node: str) -> Service:
        arguments = ["worker", "--name", node, *(["--tasks", tasks] if tasks else [])]
        return Service(
            node.partition("@")[0], arguments, environ, _write, stop_s=settings.drain_s + _EXIT_S
        )

    async with (
        connected(settings) as admin,
        open_client(settings.celery_broker_url, name="autoscale") as client,
    ):
        workers = ScaledWorkers(
            Autoscaler(policy_of(settings)),
            worker,
            base,
            lambda: _measure(settings, admin, client),
            recycling,
        )
        await workers.run(signals.stop, signals.hurry)


async def _measure(settings: Settings, admin: Admin, client: Redis) -> Measured:
    from crucible.broker.claiming.liveness import read_heartbeats
    from crucible.broker.redis.translation import translated
    from crucible.evaluation.fleet_load import read_ages
    from crucible.redis_keys import Keys
    from crucible.up.scaled import Measured

    keys = Keys(settings.global_keyprefix, settings.result_prefix)
    census = await admin.census(settings.queues)
    ages = await read_ages(client, keys, settings.queues)
    with translated():
        heartbeats = await read_heartbeats(client, keys)
    return Measured(
        waiting=sum(queue.waiting for queue in census.queues),
        oldest_s=max(ages.values(), default=None),
        gauges={beat.node: beat.gauges for beat in heartbeats},
    )


def _write(name: str, line: str) -> None:
    # What is JSON stays JSON; it has the names of process and task in it.
    sys.stderr.write(f"{line}\n" if line.startswith("{") else f"{name} | {line}\n")
    sys.stderr.flush()
