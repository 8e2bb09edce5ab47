"""A slow link: a TCP proxy that hands on every byte after a time, in both directions."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

_READ_BYTES = 65536
#: Seconds the last bytes of a connection may take.
_FLUSH_S = 1.0


class DelayProxy:
    """Forwards connections to one server; what is sent together stays together.

    Args:
        host: the server's.
        port: the server's.
        address: where this listens.
        delay_s: seconds each byte takes, one way.

    Attributes:
        port: where it listens.
    """

    def __init__(self, host: str, port: int, address: str, delay_s: float) -> None:
        self._target = host, port
        self._address = address
        self._delay_s = delay_s
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, self._address, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):
                onward, back = await asyncio.open_connection(*self._target)
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._pump(reader, back))
                        group.create_task(self._pump(onward, writer))
                except* OSError:
                    pass
                finally:
                    await _drop(back)
        finally:
            await _drop(writer)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        clock = asyncio.get_running_loop().time
        due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                at, data = await due.get()
                await asyncio.sleep(max(0.0, at - clock()))
                if not data:
                    sink.close()
                    return
                sink.write(data)
                await sink.drain()

        async with asyncio.TaskGroup() as group:
            group.create_task(deliver())
            while True:
                data = await source.read(_READ_BYTES)
                due.put_nowait((clock() + self._delay_s, data))
                if not data:
                    return


async def _drop(writer: asyncio.StreamWriter) -> None:
    """Close a connection; what is written still goes out, unless its peer is cut off."""
    writer.close()
    with contextlib.suppress(OSError):
        try:
            async with asyncio.timeout(_FLUSH_S):
                await writer.wait_closed()
        except TimeoutError:
            writer.transport.abort()
            await writer.wait_closed()
