"""A ``crucible`` command that a battle kills and starts again."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.progress import tail_of
from crucible.embedded.lifeline import end_with_parent

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Where the commands run.
ROOT = Path(__file__).resolve().parents[1]


class Process:
    """A ``crucible`` command that is started again whenever it was killed."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], log: Path) -> None:
        self._arguments = arguments
        self._environment = environment
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; does not wait until it serves."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "crucible", *self._arguments),
                env=dict(self._environment),
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent,
            )

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop it, and wait until it is gone."""
        process = self._process
        if process is not None and process.returncode is None:
            process.send_signal(number)
            await process.wait()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    async def replace(self) -> None:
        """Kill it and start another one."""
        await self.stop(signal.SIGKILL)
        await self.start()

    async def ended(self) -> int:
        """Its exit code, once it has one."""
        assert self._process is not None
        return await self._process.wait()

    def __str__(self) -> str:
        """Whether it runs, and the last lines of its log."""
        assert self._process is not None
        return f"{tail_of(self._log)}\n    exit code: {self._process.returncode}"
