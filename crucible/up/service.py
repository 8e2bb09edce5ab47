"""A ``crucible`` command as a child process: its log is merged into ours; restarted if it dies."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Self

from crucible.embedded.lifeline import end_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

log = logging.getLogger(__name__)

#: Seconds between the exit of a child and its restart.
RESTART_S = 1.0


class Service:
    """A ``crucible`` command that is kept running while the context is open.

    Args:
        name: prefix of its log lines.
        arguments: the command line after ``crucible``.
        environ: its environment.
        write: called with the name and each log line.
        stop_s: seconds it may take to exit after SIGTERM before it is killed.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        write: Callable[[str, str], None],
        *,
        stop_s: float,
    ) -> None:
        self.name = name
        self._arguments = arguments
        self._environ = environ
        self._write = write
        self._stop_s = stop_s
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    @property
    def running(self) -> bool:
        """Whether the process is running now."""
        return self._process is not None and self._process.returncode is None

    def hurry(self) -> None:
        """Send SIGTERM once more: running tasks are not waited for."""
        if self._process is not None and self.running:
            self._process.terminate()

    async def __aenter__(self) -> Self:
        await self._start()
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def _start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "crucible", *self._arguments),
            env=dict(self._environ),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # Ctrl-C in a terminal must reach only the parent, which stops the children in order.
            start_new_session=True,
            preexec_fn=end_with_parent,
        )

    async def _keep(self) -> None:
        while True:
            assert self._process is not None
            await self._relay(self._process)
            code = await self._process.wait()
            if self._stopping.is_set():
                return
            log.warning("%s exited with code %d, restarting it", self.name, code)
            if await self._stop_requested(RESTART_S):
                return
            await self._start()

    async def _stop_requested(self, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                return await self._stopping.wait()
        except TimeoutError:
            return False

    async def _relay(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                # A line longer than the reader's limit; the rest is read as a separate line.
                continue
            if not line:
                return
            self._write(self.name, line.decode(errors="replace").rstrip("\n"))

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        if self._process is not None and self.running:
            self._process.terminate()
        try:
            async with asyncio.timeout(self._stop_s):
                assert self._keeper is not None
                await asyncio.shield(self._keeper)
        except TimeoutError:
            log.warning("%s did not exit within %.0f s, killing it", self.name, self._stop_s)
        finally:
            # Also when this is cancelled: no child process may be left behind.
            if self._process is not None and self.running:
                self._process.kill()
            if self._keeper is not None:
                await self._keeper
