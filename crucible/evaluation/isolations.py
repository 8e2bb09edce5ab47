"""Which isolations the workers' machines can give programs, for api processes to refuse by.

Each worker announces in a field of one hash what its executor can do, once it starts and then every
``announcements.PERIOD_S``; a field that was not repeated for ``ISOLATIONS_TTL_S`` counts no more.
Times are the server's, so clocks of hosts may differ.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.broker.redis.connection import open_client
from crucible.broker.redis.translation import translated
from crucible.errors import BrokerError, InputError
from crucible.models import ISOLATIONS, Isolation
from crucible.redis_keys import ISOLATIONS_TTL_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping

    from redis.asyncio import Redis

    from crucible.redis_keys import Keys

#: Seconds between two looks of an api process at what is announced.
LOOK_S = 2.0


class Announced(msgspec.Struct, frozen=True):
    """What one worker announced.

    Attributes:
        at_s: when, seconds since the epoch by the server's clock.
        isolations: what it can give programs.
    """

    at_s: int
    isolations: tuple[Isolation, ...]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Announced).decode


async def announce_isolations(
    isolations: Collection[Isolation], owner: str, client: Redis, keys: Keys
) -> None:
    """Write what a worker's machine can do, and remove what others have not repeated.

    Args:
        isolations: what it can give programs.
        owner: the worker's process, ``host:pid:start time``.
        client: of the task queue server.
        keys: key names.

    Raises:
        BrokerError: the server does not answer.
    """
    announced, now_s = await _read(client, keys)
    late = [name for name, one in announced.items() if _is_late(one, now_s)]
    with translated():
        async with client.pipeline(transaction=False) as pipe:
            if late:
                pipe.hdel(keys.isolations, *late)
            pipe.hset(keys.isolations, owner, _encode(Announced(now_s, tuple(isolations))))
            pipe.expire(keys.isolations, ISOLATIONS_TTL_S)
            await pipe.execute()


async def withdraw_isolations(owner: str, client: Redis, keys: Keys) -> None:
    """Remove what a worker that stops has announced.

    Raises:
        BrokerError: the server does not answer.
    """
    with translated():
        await client.hdel(keys.isolations, owner)


async def read_isolations(client: Redis, keys: Keys) -> dict[Isolation, tuple[str, ...]]:
    """The hosts that can give each isolation; empty where no worker has announced anything.

    Raises:
        BrokerError: the server does not answer.
    """
    announced, now_s = await _read(client, keys)
    fresh = {name: one for name, one in announced.items() if not _is_late(one, now_s)}
    if not fresh:
        return {}
    return {isolation: _hosts_with(isolation, fresh) for isolation in ISOLATIONS}


async def _read(client: Redis, keys: Keys) -> tuple[dict[str, Announced | None], int]:
    """What is stored of each worker, None where it cannot be read, and the server's time."""
    with translated():
        async with client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hgetall(keys.isolations)
            (now_s, _), stored = await pipe.execute()
    return {name.decode(errors="replace"): _decoded(value) for name, value in stored.items()}, now_s


def _decoded(value: Any) -> Announced | None:
    try:
        return _decode(value)
    except msgspec.DecodeError:
        return None  # of another version


def _is_late(announced: Announced | None, now_s: int) -> bool:
    return announced is None or announced.at_s < now_s - ISOLATIONS_TTL_S


def _hosts_with(isolation: Isolation, announced: Mapping[str, Announced | None]) -> tuple[str, ...]:
    able = [owner for owner, one in announced.items() if one and isolation in one.isolations]
    return tuple(sorted({owner.split(":")[0] for owner in able}))


class OfferedIsolations:
    """What workers announced, as of the last look.

    Attributes:
        hosts: the hosts that can give each isolation; empty where nothing is known.
    """

    def __init__(self, hosts: Mapping[Isolation, Collection[str]] | None = None) -> None:
        self.hosts = hosts or {}

    @classmethod
    @asynccontextmanager
    async def watching(cls, broker_url: str, keys: Keys) -> AsyncIterator[OfferedIsolations]:
        """Keep looking while the context is open."""
        offered = cls()
        async with open_client(broker_url, name="isolations") as client:
            await offered._look(client, keys)
            looking = asyncio.create_task(
                offered._keep_looking(client, keys), name="crucible-isolations"
            )
            try:
                yield offered
            finally:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)

    async def _keep_looking(self, client: Redis, keys: Keys) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look(client, keys)

    async def _look(self, client: Redis, keys: Keys) -> None:
        try:
            self.hosts = await read_isolations(client, keys)
        except BrokerError:
            return  # what was known is likelier than nothing

    def check(self, isolation: Isolation) -> None:
        """Refuse an isolation that no worker's machine can give.

        While no worker has announced anything every isolation passes: the evaluation waits for a
        worker, as all others do then, and one that cannot run it refuses it by the same field.

        Raises:
            InputError: naming ``isolation``.
        """
        if self.hosts and not self.hosts.get(isolation):
            able = [name for name, hosts in self.hosts.items() if hosts]
            offered = f"offered: {' and '.join(able)}" if able else "none is offered"
            raise InputError("isolation", f"no worker can give {isolation}; {offered}")
