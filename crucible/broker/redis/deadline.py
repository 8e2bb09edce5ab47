"""When a step is given up: soon where nothing moves, later the more there is to move.

A link that is dead without saying so is found out by a step's silence, so the deadline is short. A
link that is only slow must not be taken for a dead one: what is sent again in vain for ever would
hold up all that comes after it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

#: Seconds one step may take without a byte of its answer.
STEP_TIMEOUT_S = 3.0
#: Bytes a step may send without more time.
LARGE_BYTES = 64 * 1024
#: Seconds more for each byte it sends: 250 kB a second, and the least after it took too long.
_S_PER_BYTE, _MOST_S_PER_BYTE = 4e-6, 32e-6
#: Seconds before its end a deadline is looked at whether the answer goes on.
_LOOK_S = 0.2
#: Where Linux keeps the milliseconds since bytes came in, and their number (``struct tcp_info``).
_LAST_RECEIVED_MS_AT, _RECEIVED_AT, _TCP_INFO_BYTES = 52, 128, 136


class Pace:
    """Seconds for what is sent over one link, as it turns out to be."""

    __slots__ = ("_s_per_byte",)

    def __init__(self) -> None:
        self._s_per_byte = _S_PER_BYTE

    def seconds(self, n_bytes: int) -> float:
        """Seconds for a step that sends so much."""
        return STEP_TIMEOUT_S + n_bytes * self._s_per_byte

    def missed(self) -> None:
        """A large step did not end in time; the next has more of it."""
        self._s_per_byte = min(2 * self._s_per_byte, _MOST_S_PER_BYTE)

    def met(self) -> None:
        """A large step ended in time."""
        self._s_per_byte = max(self._s_per_byte / 2, _S_PER_BYTE)


class Deadline:
    """The deadline of one step.

    Args:
        timeout: what is moved.
        pace: of the link.
        long_answer: go on for as long as the answer arrives, however long that is.

    Attributes:
        is_large: the step sends so much that its size decides.
    """

    __slots__ = ("_held", "_long_answer", "_look", "_pace", "_since", "_timeout", "is_large")

    def __init__(self, timeout: asyncio.Timeout, pace: Pace, *, long_answer: bool) -> None:
        self.is_large = False
        self._timeout = timeout
        self._pace = pace
        self._long_answer = long_answer
        self._look: asyncio.TimerHandle | None = None
        self._held: AbstractConnection | None = None
        self._since = 0.0

    def sending(self, n_bytes: int, held: AbstractConnection | None = None) -> None:
        """So much is about to be sent, and the answer comes over ``held``."""
        if n_bytes > LARGE_BYTES:
            self.is_large = True
            loop = asyncio.get_running_loop()
            self._timeout.reschedule(loop.time() + self._pace.seconds(n_bytes))
        if self._long_answer and held is not None and self._look is None:
            self._held = held
            self._look_later()

    def close(self) -> None:
        """Look no more."""
        if self._look is not None:
            self._look.cancel()

    def _look_later(self) -> None:
        loop, when = asyncio.get_running_loop(), self._timeout.when()
        if when is not None:
            self._since = loop.time()
            self._look = loop.call_at(when - _LOOK_S, self._look_now)

    def _look_now(self) -> None:
        now = asyncio.get_running_loop().time()
        silent_s = _silent_s(self._held)
        if silent_s is not None and silent_s < now - self._since and not self._timeout.expired():
            self._timeout.reschedule(now + STEP_TIMEOUT_S)
            self._look_later()


def _silent_s(held: AbstractConnection | None) -> float | None:
    """Seconds since the last bytes came in over a connection; None where nobody knows."""
    writer: Any = getattr(held, "_writer", None)
    connection: Any = writer.get_extra_info("socket") if writer is not None else None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        if struct.unpack_from("=Q", info, _RECEIVED_AT)[0] == 0:
            return None
        return float(struct.unpack_from("=I", info, _LAST_RECEIVED_MS_AT)[0]) / 1000
    except (AttributeError, OSError, struct.error):
        return None
