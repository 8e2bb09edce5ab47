"""What workers announce of environments and isolations, for api processes without an engine.

A worker writes what its executor has of each environment served, and which isolations its machine
can give programs, once it starts and every ``PERIOD_S`` from then on. What no worker repeats is
gone after ``ENVIRONMENT_TTL_S``.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.broker.redis.connection import open_client
from crucible.broker.redis.translation import translated
from crucible.environments import EnvironmentState
from crucible.errors import BrokerError, ExecutorError
from crucible.evaluation.isolations import announce_isolations, withdraw_isolations
from crucible.executor.config import own_name
from crucible.redis_keys import ENVIRONMENT_TTL_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence

    from redis.asyncio import Redis

    from crucible.executor import Executor
    from crucible.models import Isolation
    from crucible.redis_keys import Keys

log = logging.getLogger(__name__)

PERIOD_S = 30.0
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(EnvironmentState).decode


@asynccontextmanager
async def announcing(
    executor: Executor, allowed: Collection[Isolation], broker_url: str, keys: Keys
) -> AsyncIterator[None]:
    """Announce while the context is open what ``executor`` has and can do.

    Args:
        executor: runs the programs.
        allowed: isolations that this worker's settings let programs have.
        broker_url: the task queue server.
        keys: key names.
    """
    owner = own_name()
    async with open_client(broker_url, name="environments") as client:
        task = asyncio.create_task(
            _keep(executor, allowed, owner, client, keys), name="crucible-environments"
        )
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            with suppress(BrokerError):  # it expires
                await withdraw_isolations(owner, client, keys)


async def _keep(
    executor: Executor, allowed: Collection[Isolation], owner: str, client: Redis, keys: Keys
) -> None:
    while True:
        try:
            await announce(await executor.environments(), client, keys)
            able = await isolations_of(executor, allowed)
            await announce_isolations(able, owner, client, keys)
        except (ExecutorError, BrokerError) as error:
            log.debug("environments and isolations are not announced: %s", error)
        await asyncio.sleep(PERIOD_S)


async def isolations_of(
    executor: Executor, allowed: Collection[Isolation]
) -> tuple[Isolation, ...]:
    """Those of the allowed isolations that programs can have.

    Raises:
        ExecutorError: it is not known now.
    """
    if "nested" not in allowed:  # a lane would be started to find out
        return tuple(allowed)
    return tuple(name for name in await executor.isolations() if name in allowed)


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
