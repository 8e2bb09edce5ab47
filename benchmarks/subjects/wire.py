"""The few Redis commands that watching a queue takes, over a plain socket. Standard library only.

Every subject is watched by the same code, whatever client its own environment has.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Seconds between looks: fine enough for runs of a second, coarse enough not to disturb them.
LOOK_S = 0.01


def _packed(command: Sequence[Any]) -> bytes:
    parts = [str(part).encode() for part in command]
    packed = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"*%d\r\n%s" % (len(parts), packed)


class Wire:
    """A connection that sends one command at a time and reads integers, strings and null."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        address = (place.hostname or "127.0.0.1", place.port or 6379)
        self._socket = socket.create_connection(address, timeout=30)
        self._file = self._socket.makefile("rb")
        if place.path.strip("/"):
            self.ask("SELECT", place.path.strip("/"))

    def ask(self, *command: Any) -> Any:
        """The answer to one command.

        Raises:
            RuntimeError: the server's own error.
        """
        self._socket.sendall(_packed(command))
        return self._read()

    def sum_now(self, commands: Sequence[Sequence[str]]) -> tuple[float, int]:
        """The server's clock in seconds, and the sum of the commands' integers at that instant.

        One transaction: nothing moves from one count to the other between two of them, and what
        keeps this process waiting for a processor is not taken for time that work took.
        """
        asked = [("MULTI",), ("TIME",), *commands, ("EXEC",)]
        self._socket.sendall(b"".join(_packed(command) for command in asked))
        answers = [self._read() for _ in asked][-1]
        seconds, micros = answers[0]
        return int(seconds) + int(micros) / 1e6, sum(answers[1:])

    def _read(self) -> Any:
        line = self._file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest.decode()
        if kind == b"$":
            return None if rest == b"-1" else self._file.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return [self._read() for _ in range(int(rest))]
        raise RuntimeError(line.decode())

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()


def watch(
    url: str,
    counts: Sequence[Sequence[str]],
    check: Callable[[], None],
    seconds: float,
    *,
    left_of: Callable[[int], int] = int,
) -> list[tuple[float, int, float | None]]:
    """Look at what remains until nothing does.

    Args:
        url: the server.
        counts: commands whose answers add up to the messages that have not ended.
        check: raises when the workers have died.
        seconds: the longest it may take.
        left_of: what a sum of the counts says about the messages left, where it is not they.

    Returns:
        Seconds by the server's clock, messages remaining, and processor seconds that the
        descendants of this process had used by then; the last only whenever a twentieth of the
        way was made, else None.
    """
    wire = Wire(url)
    looks: list[tuple[float, int, float | None]] = []
    started, total, shown = wire.sum_now(())[0], 0, -1
    try:
        while True:
            now, counted = wire.sum_now(counts)
            left = left_of(counted)
            total = max(total, left)
            step = 20 * (total - left) // max(1, total)
            used = descendants_cpu_s() if step > shown else None
            shown = max(shown, step)
            looks.append((now - started, left, used))
            if left <= 0 or looks[-1][0] > seconds:
                return looks
            check()
            time.sleep(LOOK_S)
    finally:
        wire.close()


def descendants_cpu_s() -> float:
    """Processor seconds that all living descendants of this process have used."""
    used: dict[int, float] = {}
    parents: dict[int, int] = {}
    tick = os.sysconf("SC_CLK_TCK")
    for name in os.listdir("/proc"):  # noqa: PTH208 - a Path a process would be slow
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        parents[int(name)] = int(fields[1])
        used[int(name)] = sum(map(int, fields[11:15])) / tick
    family, mine = {os.getpid()}, 0.0
    # Process ids may wrap around, so a child need not come after its parent.
    while found := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= found
        mine += sum(used[pid] for pid in found)
    return mine
