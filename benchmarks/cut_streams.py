"""A relay in front of an api that ends its streams of events after their first chunk.

For clients that read every answer to its end, as Schemathesis does. All other bytes pass unchanged,
so what they test is the api.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_STREAM = re.compile(rb"HTTP/1\.1 200 [^\0]*?\r\ncontent-type: text/event-stream", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_READ = 64 * 1024


@asynccontextmanager
async def cutting_streams(port: int) -> AsyncIterator[int]:
    """The port of a relay to ``port`` of this machine, while the context is open."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, requests = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        ways = [
            asyncio.create_task(_pass_on(reader, requests)),
            asyncio.create_task(_answer(answers, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            requests.close()
            writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(_READ):
            writer.write(data)
            await writer.drain()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass answers on; returns after the first chunk of a stream."""
    # A client that waits for each answer before it sends again gets the head of one at the
    # beginning of a read. The head of a stream is sent before anything of its body.
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while data := await reader.read(_READ):
            if not _STREAM.match(data):
                writer.write(data)
                await writer.drain()
                continue
            head, _, rest = data.partition(_HEAD_END)
            while rest.count(b"\r\n") < 1:
                rest += await reader.readuntil(b"\r\n")
            size, _, rest = rest.partition(b"\r\n")
            length = int(size, 16) + 2
            if len(rest) < length:
                rest += await reader.readexactly(length - len(rest))
            last = b"" if size == b"0" else _LAST_CHUNK
            # The answer says that the connection stays, so it is told that it does not.
            head += b"\r\nConnection: close" + _HEAD_END
            writer.write(head + size + b"\r\n" + rest[:length] + last)
            await writer.drain()
            return
