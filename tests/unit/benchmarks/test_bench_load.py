from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import pytest

from benchmarks.histogram import Histogram
from benchmarks.http_load import Load, apply, post

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ANSWER = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}"


class Server(asyncio.Protocol):
    """Answers each request in two pieces; stalls once for a while after ``stall_after`` answers."""

    stall_after = 0
    answers = 0
    stall_s = 0.3

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(data.count(b"POST ")):
            Server.answers += 1
            if Server.answers == Server.stall_after:
                loop.call_later(self.stall_s, self.answer)
            else:
                self.answer()

    def answer(self) -> None:
        self.transport.write(ANSWER[:20])
        asyncio.get_running_loop().call_soon(self.transport.write, ANSWER[20:])


@asynccontextmanager
async def serving(stall_after: int = 0) -> AsyncIterator[int]:
    """The server on a free port."""
    Server.answers, Server.stall_after = 0, stall_after
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_closed_loop_counts_answers() -> None:
    """Every answer of a closed loop is counted with its status, split packets included."""
    async with serving() as port:
        request = post("/", b"{}")
        load = Load(port=port, request=request, connections=4, seconds=0.2, warmup_s=0.05)
        measured = await apply(load)
    assert list(measured.statuses) == ["202"]
    assert measured.requests_per_s > 0
    assert Histogram.load(measured.latency).count > 0


async def test_an_open_loop_charges_for_what_had_to_wait() -> None:
    """A stall of 0.3 s on the only connection is charged to all requests due meanwhile."""
    async with serving(stall_after=20) as port:
        load = Load(
            port=port,
            request=post("/", b"{}"),
            connections=1,
            rate=100,
            seconds=1.0,
            warmup_s=0.0,
        )
        measured = await apply(load)
    histogram = Histogram.load(measured.latency)
    assert histogram.count == 100
    assert measured.missing == 0
    # About thirty requests fell due during the stall; measured from sending, one would be slow.
    assert histogram.percentile_ms(85) > 50
    assert histogram.percentile_ms(100) >= 290


async def test_a_refused_connection_is_an_error() -> None:
    """A server that is not there ends the load with the system's error."""
    async with serving() as port:
        pass
    with pytest.raises(OSError, match=r"refused|Connect"):
        await apply(Load(port=port, request=post("/", b"{}"), connections=1, seconds=0.1))
