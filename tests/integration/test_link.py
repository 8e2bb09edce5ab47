"""The thin link below every command."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError

from crucible.broker.servers.connection import open_client
from crucible.broker.servers.link import open_link


async def _write_to_a_closed_connection(redis_url: str) -> None:
    async with open_link(redis_url) as link:
        async with link.connection() as held:
            # What a reset from the other side does before the next command goes out.
            connection: Any = held
            connection._writer.transport.abort()
            await asyncio.sleep(0)
            with pytest.raises(RedisConnectionError):
                await link.calls(held, [["PING"]])
        assert await link.call("PING") == b"PONG"


def test_a_reset_connection_is_a_connection_error_on_uvloop(redis_url: str) -> None:
    """uvloop's RuntimeError for a closed handle reaches callers as what it is: a lost link."""
    uvloop.run(_write_to_a_closed_connection(redis_url))


async def _listen_on_a_closed_connection(redis_url: str) -> None:
    async with open_client(redis_url) as client, client.pubsub() as pubsub:
        await pubsub.subscribe("news")
        connection: Any = pubsub.connection
        connection._writer.transport.abort()
        await asyncio.sleep(0)
        with pytest.raises(RedisConnectionError):
            await connection.send_command("SUBSCRIBE", "more")


def test_a_reset_subscription_is_a_connection_error_on_uvloop(redis_url: str) -> None:
    """Whatever way a command takes to a connection, a lost link is what callers are told."""
    uvloop.run(_listen_on_a_closed_connection(redis_url))
