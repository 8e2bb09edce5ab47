"""Child processes that can be killed and restarted."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from crucible.embedded.lifeline import end_with_parent

if TYPE_CHECKING:
    from pathlib import Path

#: Seconds a process may take to start, and to exit.
START_S, STOP_S = 60.0, 20.0


class Process:
    """One of the demonstration's processes.

    Args:
        name: name of its log file.
        arguments: its command line after the interpreter.
        environ: its whole environment.
        logs: directory of the logs.
        ready: text in its log once it serves; empty: do not wait.
    """

    def __init__(
        self, name: str, arguments: list[str], environ: dict[str, str], logs: Path, ready: str = ""
    ) -> None:
        self.name = name
        self._arguments = [sys.executable, "-m", *arguments]
        self._environ = environ
        self._log = logs / f"{name}.log"
        self._ready = re.compile(ready)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        with self._log.open("ab") as log:
            offset = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                *self._arguments,
                env=self._environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        async with asyncio.timeout(START_S):
            while not self._ready.search(self._log.read_text(errors="replace")[offset:]):
                if self._process.returncode is not None:
                    raise SystemExit(f"{self.name} exited at once; see {self._log}")
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """SIGKILL the process and its children."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL if it does not exit."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        except TimeoutError:
            await self.kill()
