"""A raw TCP connection to the HTTP API, for tests."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from support.loop_turns import turns
from support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: A request after whose response the server closes the connection.
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
    """A submission with exactly these header fields."""
    return b"POST /api/eval HTTP/1.1\r\n" + b"".join(f + b"\r\n" for f in fields) + b"\r\n" + body


class Client(asyncio.Protocol):
    """One connection, and everything received on it."""

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
        """However it was closed: what was received before counts."""
        self.closed.set_result(None)

    async def got(self, text: bytes, times: int = 1) -> None:
        """Wait until a text was received a number of times."""
        async with asyncio.timeout(PATIENCE_S):
            while self.received.count(text) < times:
                self.changed.clear()
                await self.changed.wait()

    async def end(self) -> bytes:
        """Wait until the server closes; returns everything received."""
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
    """Send bytes piece by piece; returns everything received until the server closes.

    For a given number of the first pieces, the response is awaited before the next one is sent.
    """
    async with connected(port) as client:
        for number, piece in enumerate(pieces):
            if 0 < number <= answered:
                await client.got(b"HTTP/1.1 ", number)
            client.transport.write(piece)
            # Enough for the server to read each piece separately.
            await turns()
        return await client.end()
