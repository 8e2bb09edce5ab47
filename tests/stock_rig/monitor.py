"""Records every command that a server executes, in order, with ``MONITOR``."""

from __future__ import annotations

import asyncio
import re
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import urlsplit

from redis.asyncio import Redis

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_LINE = re.compile(rb"\+(?P<at>[\d.]+) \[(?P<db>\d+) (?P<by>[^\]]*)\] (?P<words>.*)\r\n", re.DOTALL)
_WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}
#: Longest monitored command, bytes.
LINE_LIMIT = 64 << 20
SETTLE_DEADLINE_S = 60.0


class Command(NamedTuple):
    """One command that a server executed.

    Attributes:
        at: server time, seconds since the epoch.
        by: address of the client; ``lua`` for commands of a script.
        words: the command's name in upper case, then its arguments; bytes that are not UTF-8 are
            backslash escapes.
    """

    at: float
    by: str
    words: list[str]


def _unescape(match: re.Match[bytes]) -> bytes:
    code: bytes = match[1]
    return bytes([int(code[1:], 16)]) if len(code) == 3 else _ESCAPED.get(code, code)


def parse(line: bytes, db: int) -> Command | None:
    """The command in one line of ``MONITOR`` output; None for other lines and other databases."""
    match = _LINE.fullmatch(line)
    if match is None or int(match["db"]) != db:
        return None
    words = [
        _ESCAPE.sub(_unescape, word).decode("utf-8", "backslashreplace")
        for word in _WORD.findall(match["words"])
    ]
    return Command(float(match["at"]), match["by"].decode(), [words[0].upper(), *words[1:]])


class Monitor:
    """Collects the commands of one database while the context is open.

    Attributes:
        commands: all commands so far, in the server's order.
    """

    def __init__(self, url: str) -> None:
        self.commands: list[Command] = []
        self._url = url
        self._db = int(urlsplit(url).path.strip("/") or 0)
        self._news = asyncio.Condition()
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        where = urlsplit(self._url)
        reader, self._writer = await asyncio.open_connection(
            where.hostname, where.port, limit=LINE_LIMIT
        )
        self._writer.write(b"MONITOR\r\n")
        await reader.readline()
        self._reader = asyncio.create_task(self._collect(reader))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._reader is not None
        assert self._writer is not None
        self._reader.cancel()
        with suppress(asyncio.CancelledError):
            await self._reader
        self._writer.close()
        await self._writer.wait_closed()

    async def _collect(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            command = parse(line, self._db)
            if command is not None:
                async with self._news:
                    self.commands.append(command)
                    self._news.notify_all()

    async def settle(self) -> int:
        """Wait until everything sent to the server before this call is collected.

        Returns:
            How many commands are collected; a mark for slicing ``commands``.

        Raises:
            TimeoutError: the server or the collection is stuck.
        """
        mark = uuid.uuid4().hex
        async with Redis.from_url(self._url) as client:
            await client.echo(mark)
        async with asyncio.timeout(SETTLE_DEADLINE_S), self._news:
            await self._news.wait_for(lambda: self._forget(mark))
        return len(self.commands)

    async def until(
        self, wanted: Callable[[Command], bool], start: int = 0, timeout: float = 20.0
    ) -> Command:
        """Wait for a command from ``start`` on that satisfies ``wanted``, without polling.

        Raises:
            TimeoutError: none did within ``timeout`` seconds.
        """
        async with asyncio.timeout(timeout), self._news:
            while True:
                for command in self.commands[start:]:
                    if wanted(command):
                        return command
                await self._news.wait()

    def _forget(self, mark: str) -> bool:
        """Remove the marker; returns whether it was there."""
        for index in range(len(self.commands) - 1, -1, -1):
            if self.commands[index].words == ["ECHO", mark]:
                del self.commands[index]
                return True
        return False
