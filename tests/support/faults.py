"""A TCP proxy between client and server that injects network faults.

::

    async with FaultProxy("127.0.0.1", server.port) as proxy:
        client = Redis(port=proxy.port)
        proxy.set(Fault.STALL)
        ...
        proxy.set(Fault.PASS)

Everything runs on the test's event loop; a change of fault takes effect before ``set`` returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import ssl
import struct
from typing import Self

from support.refusals import Commands

_READ_BYTES = 65536


class Fault(enum.Enum):
    """What the proxy does to open and new connections."""

    #: Everything is forwarded.
    PASS = "pass"
    #: Nothing is forwarded and nothing is lost: everything flows once the fault is over.
    STALL = "stall"
    #: Open connections are reset, new ones right after they are accepted.
    RESET = "reset"
    #: Bytes are dropped in both directions; the connections stay dead afterwards.
    BLACKHOLE = "blackhole"
    #: Half-open: the server's side of open connections is closed, the client's not; new ones pass.
    HALF_OPEN = "half_open"
    #: Requests arrive, replies are dropped; the connections stay dead afterwards.
    LOST_REPLIES = "lost_replies"
    #: Commands that write are answered as by a server whose memory is full, on new connections;
    #: open ones are reset.
    NO_MEMORY = "no_memory"


class _Pair:
    """A client's connection and the matching one to the server."""

    def __init__(
        self,
        proxy: FaultProxy,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self.client_reader, self.client_writer = client
        self.server_reader, self.server_writer = server
        #: Whether requests and replies are dropped, for good.
        self.drop_requests = self.drop_replies = False
        self._commands = Commands() if proxy.fault is Fault.NO_MEMORY else None

    def apply(self, fault: Fault) -> None:
        if fault is Fault.RESET or (fault is Fault.NO_MEMORY and self._commands is None):
            _reset(self.client_writer)
            _reset(self.server_writer)
        elif fault is Fault.BLACKHOLE:
            self.drop_requests = self.drop_replies = True
        elif fault is Fault.LOST_REPLIES:
            self.drop_replies = True
        elif fault is Fault.HALF_OPEN:
            self.drop_requests = self.drop_replies = True
            _reset(self.server_writer)

    async def run(self) -> None:
        await asyncio.gather(self._requests(), self._replies())

    async def _requests(self) -> None:
        while data := await _read(self.client_reader):
            await self._proxy.flowing.wait()
            if self._commands is not None:
                data = self._commands.passed(data, refused=self._proxy.fault is Fault.NO_MEMORY)
            if data and not self.drop_requests:
                await _write(self.server_writer, data)
        self.server_writer.close()

    async def _replies(self) -> None:
        while data := await _read(self.server_reader):
            await self._proxy.flowing.wait()
            if not self.drop_replies:
                await _write(self.client_writer, data)
        if not self.drop_replies:
            self.client_writer.close()


class FaultProxy:
    """Listens on a free loopback port and forwards connections to one server.

    Args:
        host: the server's.
        port: the server's.
        tls: TLS context for clients; the connection to the server is always plain.

    Attributes:
        port: the port it listens on, once entered.
        fault: the current fault.
        accepted: number of connections so far.
    """

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self._target = (host, port)
        self._tls = tls
        self.port = 0
        self.fault = Fault.PASS
        self.accepted = 0
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def url(self, database: int = 0) -> str:
        """A Redis URL through the proxy."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def lead_to(self, host: str, port: int) -> None:
        """Hand new connections on to another server."""
        self._target = (host, port)

    def set(self, fault: Fault) -> None:
        """Change the fault; effects of the previous one on connections are not undone."""
        self.fault = fault
        if fault is Fault.STALL:
            self.flowing.clear()
        else:
            self.flowing.set()
        for pair in self._pairs:
            pair.apply(fault)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("connections are handled in a task")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.accepted += 1
        if self.fault is Fault.RESET:
            _reset(writer)
            return
        try:
            server = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        pair = _Pair(self, (reader, writer), server)
        if self.fault is not Fault.HALF_OPEN:
            pair.apply(self.fault)
        self._pairs.add(pair)
        try:
            await pair.run()
        except asyncio.CancelledError:
            # Cancelled by closing the proxy, which is not an error of the handler.
            return
        finally:
            self._pairs.discard(pair)
            writer.close()
            server[1].close()


async def _read(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(OSError):
        return await reader.read(_READ_BYTES)
    return b""


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(OSError):
        writer.write(data)
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
