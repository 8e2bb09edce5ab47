"""What workers announce of environments, for api processes, which have no container engine.

A worker writes what its executor has of each environment served, once it starts and every
``PERIOD_S`` from then on. What no worker repeats is gone after ``ENVIRONMENT_TTL_S``.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.broker.redis.connection import open_client
from crucible.broker.redis.translation import translated
from crucible.environments import EnvironmentState
from crucible.errors import BrokerError, ExecutorError
from crucible.redis_keys import ENVIRONMENT_TTL_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

    from crucible.executor import Executor
    from crucible.redis_keys import Keys

log = logging.getLogger(__name__)

PERIOD_S = 30.0
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(EnvironmentState).decode


@asynccontextmanager
async def announcing(executor: Executor, broker_url: str, keys: Keys) -> AsyncIterator[None]:
    """Announce while the context is open what ``executor`` has."""
    async with open_client(broker_url, name="environments") as client:
        task = asyncio.create_task(_keep(executor, client, keys), name="crucible-environments")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _keep(executor: Executor, client: Redis, keys: Keys) -> None:
    while True:
        try:
            await announce(await executor.environments(), client, keys)
        except (ExecutorError, BrokerError) as error:
            log.debug("environments are not announced: %s", error)
        await asyncio.sleep(PERIOD_S)


async def announce(states: Sequence[EnvironmentState], client: Redis, keys: Keys) -> None:
    """Write the states of environments that are built; other workers may have the rest.

    Raises:
        BrokerError: the server does not answer.
    """
    with translated():
        async with client.pipeline(transaction=False) as pipe:
            for state in states:
                if state.image_id:
                    pipe.set(keys.environment(state.name), _encode(state), ex=ENVIRONMENT_TTL_S)
            await pipe.execute()


async def read_announcements(
    names: Sequence[str], client: Redis, keys: Keys
) -> dict[str, EnvironmentState]:
    """The announcements that have not expired, by environment.

    Raises:
        BrokerError: the server does not answer.
    """
    with translated():
        stored: Any = await client.mget([keys.environment(name) for name in names])
    found = {}
    for name, value in zip(names, stored, strict=True):
        try:
            if value is not None:
                found[name] = _decode(value)
        except msgspec.DecodeError:
            continue  # of another version
    return found
