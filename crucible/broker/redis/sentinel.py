"""Clients that follow the master of sentinels, whoever it is by now."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from redis import exceptions as redis_errors
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from crucible.broker.redis.deadlined import DeadlinedConnection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from redis.asyncio import Redis

log = logging.getLogger(__name__)

#: Seconds between questions who the master is.
ASK_S = 1.0


class _MasterConnection(DeadlinedConnection, SentinelManagedConnection):
    """A connection to the master that a sentinel names, and to no server that only was the master.

    For a moment after a failover a sentinel may still name the server that died. If that one is
    back as a replica it answers reads, and while it copies the new master's data it has none: what
    was accepted would seem unknown. So the server is asked before the connection is used.
    """

    async def connect_to(self, address: tuple[str, int]) -> None:
        """Connect; raises ConnectionError where a replica answers."""
        await super().connect_to(address)  # type: ignore[no-untyped-call]  # redis-py left it so
        await self.send_command("INFO", "replication")
        state = await self.read_response()
        text = state.decode() if isinstance(state, bytes) else str(state)
        if "role:master" not in text:
            await self.disconnect()
            raise redis_errors.ConnectionError(f"{address[0]}:{address[1]} is no master any more")


class _MasterSSLConnection(_MasterConnection, SentinelManagedSSLConnection):
    """The same over TLS."""


@asynccontextmanager
async def open_master(
    sentinels: Sequence[tuple[str, int]],
    name: str,
    options: Mapping[str, Any],
    sentinel_options: Mapping[str, Any],
) -> AsyncIterator[Redis]:
    """A client of the master; see ``connection.open_client``.

    Args:
        sentinels: addresses to ask.
        name: the master's name there.
        options: keyword arguments of a connection to it.
        sentinel_options: the same to the sentinels.
    """
    sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py left it unannotated
        list(sentinels), sentinel_kwargs=dict(sentinel_options), **options
    )
    kind = _MasterSSLConnection if options.get("ssl") else _MasterConnection
    async with sentinel, sentinel.master_for(name, connection_class=kind) as client:
        following = asyncio.create_task(_follow(sentinel, name, client), name="crucible-sentinel")
        try:
            yield client
        finally:
            following.cancel()
            await asyncio.wait([following])


async def _follow(sentinel: Any, name: str, client: Any) -> None:
    """Close connections to a server that is no longer the one the sentinels name.

    A master that was taken for dead and is not keeps serving whoever is connected, until a
    sentinel makes it a replica some ten seconds later; what it takes meanwhile is lost.
    """
    while True:
        await asyncio.sleep(ASK_S)
        try:
            async with asyncio.timeout(ASK_S):
                master = await sentinel.discover_master(name)
        except (redis_errors.RedisError, OSError, TimeoutError):
            continue  # nobody is known to have taken its place
        for connection in _connections(client):
            if connection.is_connected and (connection.host, connection.port) != master:
                log.warning("%s:%s is no master any more", connection.host, connection.port)
                # Whoever reads from it meets the end of the connection.
                await connection.disconnect(nowait=True)


def _connections(client: Any) -> list[Any]:
    """All of a client's, also those that somebody uses."""
    pool = client.connection_pool
    # There is no public way to those in use.
    return [*pool._available_connections, *pool._in_use_connections]  # noqa: SLF001
