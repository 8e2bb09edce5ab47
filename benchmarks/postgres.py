"""A PostgreSQL server of the benchmarks' and tests' own."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

import asyncpg

from crucible.embedded.lifeline import end_with_parent
from crucible.embedded.server import free_port

if TYPE_CHECKING:
    from types import TracebackType

#: Seconds to make a cluster, to start it, and to stop it.
PATIENCE_S = 120.0
_USER = "postgres"


def binaries() -> Path:
    """Where ``initdb`` and ``postgres`` are."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    assert places, "PostgreSQL is missing: run scripts/setup --tests"
    return places[-1].parent


class PostgresServer:
    """A server on loopback, durable, with its cluster below ``directory``.

    Args:
        directory: made by the caller; nothing above it needs to be readable for others.

    Attributes:
        directory: its cluster, with what belongs to it.
    """

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.directory = directory
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """The URL of the database that is always there."""
        return self.url_of("postgres")

    @property
    def pid(self) -> int:
        """Process id of the server; its sessions are its children."""
        assert self._process is not None
        return self._process.pid

    def url_of(self, database: str) -> str:
        """The URL of a database."""
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{database}"

    async def __aenter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        if os.getuid() == 0:
            # It refuses to be run by root.
            owner = pwd.getpwnam(_USER)
            os.chown(self.directory, owner.pw_uid, owner.pw_gid)
        made = await self._run(
            "initdb", "-D", str(self.directory / "data"), "-A", "trust", "-U", _USER,
            "-E", "UTF8", "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE_S):
            output, _ = await made.communicate()
        assert made.returncode == 0, output.decode()
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop(signal.SIGINT)

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        async with asyncio.timeout(PATIENCE_S):
            # After a crash it refuses to start while processes of the last one are still there.
            while True:
                await self._launch()
                if await self._answering():
                    return
                await asyncio.sleep(0.1)

    async def _launch(self) -> None:
        self._process = await self._run(
            "postgres", "-D", str(self.directory / "data"), "-p", str(self.port),
            "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.directory}",
            "-c", "shared_buffers=64MB",
            log=self.directory / "log",
        )  # fmt: skip

    async def _answering(self) -> bool:
        """Whether it answers; False where it has exited."""
        assert self._process is not None
        while self._process.returncode is None:
            if await self._answers():
                return True
            await asyncio.sleep(0.05)
        return False

    async def _answers(self) -> bool:
        try:
            await (await asyncpg.connect(self.url)).close()
        except (OSError, asyncpg.PostgresError):
            return False
        return True

    async def stop(self, number: signal.Signals) -> None:
        """Stop it: SIGINT as an operator would, SIGKILL as a crash; waits until it is gone."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(number)
        async with asyncio.timeout(PATIENCE_S):
            await process.wait()

    async def create(self, name: str) -> str:
        """A new, empty database; its URL."""
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()
        return self.url_of(name)

    async def _run(
        self, program: str, *arguments: str, log: Path | None = None
    ) -> asyncio.subprocess.Process:
        user = _USER if os.getuid() == 0 else None
        with ExitStack() as stack:
            output: int | IO[bytes] = asyncio.subprocess.PIPE
            if log is not None:
                output = stack.enter_context(log.open("ab"))
            return await asyncio.create_subprocess_exec(
                str(binaries() / program),
                *arguments,
                cwd=self.directory,
                user=user,
                group=user,
                extra_groups=[] if user else None,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                preexec_fn=end_with_parent,
            )
