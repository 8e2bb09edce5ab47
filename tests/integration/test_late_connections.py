"""Commands that are typed while the queue server's network is only just there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from support.full_backlog import filled
from typer.testing import CliRunner

from crucible.cli.main import app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: Seconds nobody accepts: the kernel sends the packet that was left out again after one.
AWAY_S = 0.5


@asynccontextmanager
async def deaf_at_first(url: str) -> AsyncIterator[str]:
    """The URL of a server that leaves out every first packet of a connection for a while."""
    target = urlsplit(url)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection(target.hostname, target.port)
        with contextlib.suppress(OSError):
            await asyncio.gather(copy(reader, other_writer), copy(other_reader, writer))

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    with contextlib.ExitStack() as full:
        listening = full.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        full.enter_context(filled(listening))
        place = listening.getsockname()

        async def accept_later() -> None:
            await asyncio.sleep(AWAY_S)
            async with await asyncio.start_server(serve, sock=listening) as server:
                await server.serve_forever()

        accepting = asyncio.create_task(accept_later())
        try:
            yield target._replace(netloc=f"127.0.0.1:{place[1]}").geturl()
        finally:
            accepting.cancel()
            await asyncio.gather(accepting, return_exceptions=True)


@pytest.mark.parametrize(
    "words",
    [
        ("keys", "list"),
        ("queues",),
        ("dlq", "list"),
        ("workers",),
        ("migration", "status"),
    ],
    ids=" ".join,
)
async def test_a_lost_first_packet_is_waited_out(redis_url: str, words: tuple[str, ...]) -> None:
    """Services try again by themselves; a command tries once, and that once for long enough."""
    async with deaf_at_first(redis_url) as url:
        env = {"CELERY_BROKER_URL": url, "COLUMNS": "200"}
        done = await asyncio.to_thread(CliRunner().invoke, app, [*words, "--json"], env=env)
    assert done.exit_code == 0, (done.output, done.exception)
    json.loads(done.stdout)
