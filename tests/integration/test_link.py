"""The thin link below every command."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

import pytest
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from support.full_backlog import filled
from support.patience import PATIENCE_S

from crucible.broker.redis import link as link_module
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.link import Link, open_link
from crucible.broker.redis.translation import translated
from crucible.broker.redis.with_lua.store import LuaStore
from crucible.errors import BrokerError, BrokerUnavailable


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


async def test_the_first_refusal_of_several_commands_is_raised(redis_url: str) -> None:
    """The commands after it have run, and no reply is left for whoever uses the connection next."""
    async with open_link(redis_url) as link:
        async with link.connection() as held:
            commands = [("SET", "a", 1), ("LPUSH", "a", 1), ("NONE",), ("SET", "b", 2)]
            with pytest.raises(ResponseError, match="WRONGTYPE"):
                await link.calls(held, commands)
            assert await link.calls(held, [("GET", "a"), ("GET", "b")]) == [b"1", b"2"]


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


async def _cut_off_after(steps: int, link: Link) -> bool:
    """Whether a task that is cancelled so many turns into a command ends by that."""

    async def command_and_wait() -> None:
        await link.call("PING")
        await asyncio.Event().wait()

    task = asyncio.create_task(command_and_wait())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=1.0)
    ended = task.done()
    task.cancel()
    await asyncio.wait([task])
    return ended


@pytest.mark.parametrize("deadline_s", [5.0, None])
@pytest.mark.parametrize("steps", range(12))
async def test_no_command_swallows_a_cancellation(
    redis_url: str, steps: int, deadline_s: float | None
) -> None:
    """A loop that is stopped while it sends ends, at whatever turn of the event loop."""
    async with open_client(redis_url, command_timeout_s=deadline_s) as client:
        link = Link(client)
        assert await link.call("PING") == b"PONG"
        assert await _cut_off_after(steps, link)


async def test_a_command_has_the_deadline_of_its_connection() -> None:
    """A server that accepts and answers nothing is a timeout, not a wait without end."""
    server = await asyncio.start_server(_swallow, "127.0.0.1", 0)
    url = f"redis://127.0.0.1:{port_of(server)}/0"
    async with server, open_client(url, command_timeout_s=0.2) as client:
        with pytest.raises(RedisTimeoutError):
            await client.ping()


async def _swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(4096):
        pass
    writer.close()


async def test_a_server_that_accepts_and_is_silent_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A connection that nobody is patient for has a deadline, its greeting included."""
    monkeypatch.setattr(link_module, "COMMAND_TIMEOUT_S", 0.2)
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    async with server, open_link(f"redis://127.0.0.1:{port_of(server)}/0") as link:
        with pytest.raises(TimeoutError):
            async with link.connection(patient=False):
                raise AssertionError("there is no such connection")
        for writer in held:
            writer.close()


def port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


async def test_a_deadline_names_the_refusal_before_the_attempt_it_ends() -> None:
    """Refused at first, then left without an answer: what is said is that there is no server."""
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        host, port = refusing.getsockname()
        async with open_link(f"redis://{host}:{port}") as link:
            call = asyncio.create_task(_within(0.6, link))
            await asyncio.sleep(0.2)
            with (
                filled(refusing),
                pytest.raises(BrokerUnavailable, match="is not available: Error 111"),
            ):
                await call


async def _within(seconds: float, link: Link) -> None:
    with translated():
        async with asyncio.timeout(seconds):
            await link.call("PING")


async def test_commands_that_are_sent_together_are_answered_in_their_order(redis_url: str) -> None:
    """One that is refused says so, after all have run; the connection serves on."""
    async with open_client(redis_url) as client:
        store = LuaStore(client)
        assert await store.commands([("SET", "a", "1"), ("GET", "a"), ("LLEN", "none")]) == [
            b"OK",
            b"1",
            0,
        ]
        with pytest.raises(BrokerError, match="WRONGTYPE"):
            await store.commands([("LLEN", "a"), ("SET", "b", "2")])
        assert await store.commands([("GET", "b")]) == [b"2"]


async def test_commands_have_a_deadline(redis_url: str) -> None:
    """Late replies are not taken for those of the next commands."""
    async with open_client(redis_url) as client, open_client(redis_url) as other:
        store, admin = LuaStore(client), cast("Any", other)
        await store.command("SET", "a", "late")
        await admin.execute_command("CLIENT", "PAUSE", 4000, "ALL")
        with pytest.raises(BrokerUnavailable):
            await store.commands([("GET", "a"), ("GET", "a")])
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    assert await store.commands([("ECHO", "x"), ("ECHO", "y")]) == [b"x", b"y"]
                except BrokerUnavailable:
                    continue
                break
