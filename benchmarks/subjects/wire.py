"""The few Redis commands for sampling a queue, over a plain socket. Standard library only.

Every subject's queue is sampled by the same code, whatever client its environment has.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Seconds between samples: fine enough for runs of a second, coarse enough not to disturb them.
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
        """The reply to one command.

        Raises:
            RuntimeError: the server replied with an error.
        """
        self._socket.sendall(_packed(command))
        return self._read()

    def sum_now(self, commands: Sequence[Sequence[str]]) -> tuple[float, int]:
        """The server's clock in seconds, and the sum of the commands' integer replies at that time.

        One transaction, so that nothing moves between two counts; the server's clock, so that time
        this process waits for a processor is not counted.
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
    """Sample the number of remaining messages until it is zero.

    Args:
        url: the server.
        counts: commands whose replies add up to the number of unfinished messages.
        check: raises if the workers have died.
        seconds: longest duration.
        left_of: computes the remaining messages from the sum, if that is not the number itself.

    Returns:
        Samples: seconds by the server's clock, messages remaining, and processor seconds used by
        the descendants of this process; the last is sampled once every twentieth of the messages,
        else None.
    """
    wire = Wire(url)
    samples: list[tuple[float, int, float | None]] = []
    started, total, shown = wire.sum_now(())[0], 0, -1
    try:
        while True:
            now, counted = wire.sum_now(counts)
            left = left_of(counted)
            total = max(total, left)
            step = 20 * (total - left) // max(1, total)
            used = descendants_cpu_s() if step > shown else None
            shown = max(shown, step)
            samples.append((now - started, left, used))
            if left <= 0 or samples[-1][0] > seconds:
                return samples
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
    # Process ids may wrap around, so a child's may be lower than its parent's.
    while found := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= found
        mine += sum(used[pid] for pid in found)
    return mine
