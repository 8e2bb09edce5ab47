"""A child process whose log is read line by line, and which never outlives its owner."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from crucible.embedded.lifeline import end_with_parent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

#: Seconds a killed process may take to disappear.
REAP_DEADLINE_S = 30.0
#: Seconds for what it has to write or to end for: only a fault uses them up.
WAIT_S = 60.0
#: Last lines of its output that go with what fails beside it.
NOTED_LINES = 40


class Child:
    """A process in its own process group; leaving the context kills the group and reaps it.

    Attributes:
        lines: its output on stdout and stderr so far, without line ends.
    """

    def __init__(self, arguments: Sequence[str], environment: dict[str, str]) -> None:
        self.lines: list[str] = []
        self._arguments = arguments
        self._environment = environment
        self._news = asyncio.Condition()
        self._ended = False
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Process id of the main process."""
        assert self._process is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit code; negative for a signal, None while it runs."""
        assert self._process is not None
        return self._process.returncode

    @property
    def log(self) -> str:
        """Its output so far."""
        return "\n".join(self.lines)

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._environment,
            start_new_session=True,
            preexec_fn=end_with_parent,
            limit=1 << 20,
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.kill()
        assert self._reader is not None
        if exc is not None:
            # What fails beside a process is seldom understood without what the process said.
            exc.add_note("\n".join([f"said by process {self.pid}:", *self.lines[-NOTED_LINES:]]))
        self._reader.cancel()
        with suppress(asyncio.CancelledError):
            await self._reader

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            async with self._news:
                self.lines.append(line.decode(errors="replace").rstrip("\n"))
                self._news.notify_all()
        async with self._news:
            self._ended = True
            self._news.notify_all()

    async def wait_for_log(self, pattern: str, timeout: float = WAIT_S) -> str:
        """Wait at most ``timeout`` seconds for a matching log line; returns the first one.

        Raises:
            AssertionError: no line matched in time, or the process exited without one.
        """
        expression = re.compile(pattern)
        try:
            async with asyncio.timeout(timeout), self._news:
                while True:
                    for line in self.lines:
                        if expression.search(line):
                            return line
                    if self._ended:
                        raise AssertionError(f"exited without {pattern!r} in its log:\n{self.log}")
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"no {pattern!r} within {timeout} s in:\n{self.log}") from None

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the main process only."""
        os.kill(self.pid, number)

    async def wait(self, timeout: float = WAIT_S) -> int:
        """Wait until it exits by itself; returns its exit code.

        Raises:
            AssertionError: it did not exit within ``timeout`` seconds.
        """
        assert self._process is not None
        try:
            async with asyncio.timeout(timeout):
                return await self._process.wait()
        except TimeoutError:
            raise AssertionError(f"still running after {timeout} s:\n{self.log}") from None

    async def stop(self, timeout: float = 60.0) -> int:
        """Send SIGTERM (a warm shutdown) and return its exit code."""
        self.send_signal(signal.SIGTERM)
        return await self.wait(timeout)

    async def kill(self) -> None:
        """SIGKILL its process group and reap it; harmless if it has exited."""
        assert self._process is not None
        # The group is killed even if its leader is gone: pool processes may be left.
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        async with asyncio.timeout(REAP_DEADLINE_S):
            await self._process.wait()
