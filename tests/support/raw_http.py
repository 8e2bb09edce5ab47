"""A connection of bytes to the HTTP API, for tests."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from support.loop_turns import turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: Longest an answer may take; nothing but a hang comes near.
PATIENCE_S = 20.0
#: A request whose answer ends the connection.
LAST = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def post(body: bytes, *fields: bytes, target: bytes = b"/api/eval") -> bytes:
    """A submission."""
    lines = [
        b"Host: localhost",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
    ]
    return b"POST %s HTTP/1.1\r\n%s\r\n\r\n%s" % (target, b"\r\n".join([*lines, *fields]), body)


def raw_post(*fields: bytes, body: bytes = b'{"code":"x"}') -> bytes:
    """A submission whose fields are all given."""
    return b"POST /api/eval HTTP/1.1\r\n" + b"".join(f + b"\r\n" for f in fields) + b"\r\n" + body


class Client(asyncio.Protocol):
    """One connection, all that it was sent, and what became of it."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.received = b""
        self.changed = asyncio.Event()
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Keep it."""
        self.received += data
        self.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """However it ended: what came before counts."""
        self.closed.set_result(None)

    async def got(self, text: bytes, times: int = 1) -> None:
        """Wait until something was received so many times."""
        async with asyncio.timeout(PATIENCE_S):
            while self.received.count(text) < times:
                self.changed.clear()
                await self.changed.wait()

    async def end(self) -> bytes:
        """Wait until the server closes; everything received."""
        async with asyncio.timeout(PATIENCE_S):
            await self.closed
        return self.received


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    """A connection to the API."""
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_connection(Client, "127.0.0.1", port)
    try:
        yield client
    finally:
        transport.abort()


async def sent(port: int, pieces: list[bytes], answered: int = 0) -> bytes:
    """All that is answered to bytes sent piece by piece, until the server closes.

    So many of the first pieces are requests whose answers are waited for.
    """
    async with connected(port) as client:
        for number, piece in enumerate(pieces):
            if 0 < number <= answered:
                await client.got(b"HTTP/1.1 ", number)
            client.transport.write(piece)
            # Enough for the server to read each piece by itself.
            await turns()
        return await client.end()
