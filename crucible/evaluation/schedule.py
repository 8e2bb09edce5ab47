"""The shipped schedule: sent by ``celery beat``, or by async workers without it.

Async workers agree by a lease for each task. Whoever sets the key has sent the task and nobody
sends it again before the key expires, which is when it is due again.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from crucible.broker import Publisher
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.translation import translated
from crucible.errors import BrokerError
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from redis.asyncio import Redis

    from crucible.settings import Settings

log = logging.getLogger(__name__)

#: Seconds between two runs of each task, by the names of the contract; and the queue they go to.
TASKS: Mapping[str, float] = {
    "tasks.health_check": 60.0,
    "tasks.process_dlq": 300.0,
    "tasks.cleanup": 3600.0,
    "tasks.cleanup_old_tasks": 86_400.0,
}
QUEUE = "maintenance"
#: Seconds between two looks at what is due.
_LOOK_S = 5.0


async def send_due(
    client: Redis, publisher: Publisher, node: str, tasks: Mapping[str, float] = TASKS
) -> list[str]:
    """Send what is due and nobody else has sent; the names of those tasks.

    Args:
        client: of the task queue server.
        publisher: of the same.
        node: who sends it, for people that look at the lease.
        tasks: seconds between two runs, by name.

    Raises:
        BrokerError: the server does not answer.
    """
    sent = []
    for task, interval_s in tasks.items():
        lease = publisher.keys.schedule(task)
        with translated():
            ours = await client.set(lease, node, nx=True, px=round(interval_s * 1000))
        if not ours:
            continue
        try:
            # Where no worker takes it in time the next one is due.
            await publisher.send_task(task, queue=QUEUE, ignore_result=True, expires=interval_s)
        except BrokerError:
            with translated():
                await client.delete(lease)
            raise
        sent.append(task)
    return sent


@asynccontextmanager
async def scheduling(settings: Settings, node: str) -> AsyncIterator[None]:
    """Send what is due while the context is open.

    Args:
        settings: name the task queue server.
        node: of this worker.
    """
    keys = Keys(settings.global_keyprefix, settings.result_prefix)
    async with (
        open_client(settings.celery_broker_url, name="schedule") as client,
        Publisher.connect(
            settings.celery_broker_url,
            result_url=settings.result_url,
            global_keyprefix=keys.prefix,
            result_keyprefix=keys.result_prefix,
            scripting=settings.claim == "atomic",
        ) as publisher,
    ):
        task = asyncio.create_task(_keep_sending(client, publisher, node), name="crucible-schedule")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _keep_sending(client: Redis, publisher: Publisher, node: str) -> None:
    while True:
        try:
            await send_due(client, publisher, node)
        except BrokerError as error:
            log.debug("the schedule waits for the queue server: %s", error)
        await asyncio.sleep(_LOOK_S)
