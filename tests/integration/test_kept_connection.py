"""A kept connection serves call after call, and gives up one that cannot be trusted any more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from redis import exceptions as redis_errors
from support.faults import Fault, FaultProxy

from crucible.broker.redis.link import KeptConnection, open_link

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from crucible.embedded.server import EmbeddedServer


async def test_calls_share_one_connection(redis_url: str) -> None:
    """One call after the other, and one that the server refuses, on the same connection."""
    async with open_link(redis_url) as link:
        kept = KeptConnection(link)
        first = await kept.call("CLIENT", "ID")
        with pytest.raises(redis_errors.ResponseError):
            await kept.call("NO-SUCH-COMMAND")
        assert await kept.call("CLIENT", "ID") == first


async def test_a_connection_closed_while_it_rested_is_replaced(
    redis_url: str, redis: Redis
) -> None:
    """The server closed it, as a restart does: the next call opens another and works."""
    async with open_link(redis_url) as link:
        kept = KeptConnection(link)
        first = await kept.call("CLIENT", "ID")
        assert await redis.client_kill_filter(_id=first) == 1
        await asyncio.sleep(0.05)  # for the end of the connection to arrive
        assert await kept.call("CLIENT", "ID") != first


async def test_an_answer_nobody_waited_for_is_nobodys(
    redis_server: EmbeddedServer, redis_url: str
) -> None:
    """A cancelled call's answer is not taken for that of the next call."""
    database = redis_url.rpartition("/")[2]
    async with (
        FaultProxy("127.0.0.1", redis_server.port) as proxy,
        open_link(f"redis://127.0.0.1:{proxy.port}/{database}") as link,
    ):
        kept = KeptConnection(link)
        assert await kept.call("ECHO", "before") == b"before"
        proxy.set(Fault.STALL)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await kept.call("ECHO", "lost")
        proxy.set(Fault.PASS)
        assert await kept.call("ECHO", "after") == b"after"
