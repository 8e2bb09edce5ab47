"""The least an HTTP server can do: the same bytes for every request. Bounds the generator."""

from __future__ import annotations

import asyncio
from typing import Any, cast

BODY = b'{"eval_id":"","status":"queued"}'
ANSWER = (
    b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
_server: asyncio.Server | None = None


class Responder(asyncio.Protocol):
    """Sends one response per blank line received; request bodies must not contain one."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have this interface but not this base class.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(ANSWER * data.count(b"\r\n\r\n"))


async def setup(job: dict[str, Any]) -> dict[str, Any]:
    """Listen."""
    global _server
    _server = await asyncio.get_running_loop().create_server(Responder, "127.0.0.1", 0)
    return {"port": _server.sockets[0].getsockname()[1]}


def run(job: dict[str, Any]) -> None:
    """Nothing to do: a load generator sends the requests."""


async def teardown(job: dict[str, Any]) -> None:
    """Stop listening."""
    if _server is not None:
        _server.close()
