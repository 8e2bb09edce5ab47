"""Deadlines of operations: short where nothing moves, longer the more there is to send.

A dead connection is noticed only by its silence, so the deadline is short. A connection that is
only slow must not be taken for a dead one: a large batch would be sent again and again, never get
through, and hold up everything behind it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from crucible.broker.redis.translation import translated
from crucible.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis
    from redis.asyncio.connection import AbstractConnection

#: Seconds one operation may take without a byte of its reply.
REPLY_TIMEOUT_S = 3.0
#: Bytes an operation may send without more time.
LARGE_BYTES = 64 * 1024
#: Seconds more for each byte it sends: 250 kB a second, and the least after it took too long.
_S_PER_BYTE, _MOST_S_PER_BYTE = 4e-6, 32e-6
#: Seconds before its end a deadline is looked at whether the reply goes on.
_LOOK_S = 0.2
#: Where Linux keeps the milliseconds since bytes came in, and their number (``struct tcp_info``).
_LAST_RECEIVED_MS_AT, _RECEIVED_AT, _TCP_INFO_BYTES = 52, 128, 136


class Pace:
    """How long sending may take over one link, adapted to how long it took before."""

    __slots__ = ("_s_per_byte",)

    def __init__(self) -> None:
        self._s_per_byte = _S_PER_BYTE

    def seconds(self, n_bytes: int) -> float:
        """Seconds for an operation that sends so much."""
        return REPLY_TIMEOUT_S + n_bytes * self._s_per_byte

    def missed(self) -> None:
        """A large operation did not end in time; the next has twice the time for its bytes."""
        self._s_per_byte = min(2 * self._s_per_byte, _MOST_S_PER_BYTE)

    def met(self) -> None:
        """A large operation ended in time."""
        self._s_per_byte = max(self._s_per_byte / 2, _S_PER_BYTE)


class Deadline:
    """The deadline of one operation.

    Args:
        timeout: is rescheduled.
        pace: of the link.
        long_reply: go on for as long as the reply arrives, however long that is.

    Attributes:
        is_large: the operation sends so much that its size decides.
    """

    __slots__ = ("_held", "_long_reply", "_look", "_pace", "_since", "_timeout", "is_large")

    def __init__(self, timeout: asyncio.Timeout, pace: Pace, *, long_reply: bool) -> None:
        self.is_large = False
        self._timeout = timeout
        self._pace = pace
        self._long_reply = long_reply
        self._look: asyncio.TimerHandle | None = None
        self._held: AbstractConnection | None = None
        self._since = 0.0

    def sending(self, n_bytes: int, held: AbstractConnection | None = None) -> None:
        """Say how much is about to be sent; the reply comes over ``held``."""
        if n_bytes > LARGE_BYTES:
            self.is_large = True
            loop = asyncio.get_running_loop()
            self._timeout.reschedule(loop.time() + self._pace.seconds(n_bytes))
        if self._long_reply and held is not None and self._look is None:
            self._held = held
            self._look_later()

    def close(self) -> None:
        """Stop looking at the connection."""
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
            self._timeout.reschedule(now + REPLY_TIMEOUT_S)
            self._look_later()


def _silent_s(held: AbstractConnection | None) -> float | None:
    """Seconds since the last bytes came in over a connection; None where that is not known."""
    writer: Any = getattr(held, "_writer", None)
    connection: Any = writer.get_extra_info("socket") if writer is not None else None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        if struct.unpack_from("=Q", info, _RECEIVED_AT)[0] == 0:
            return None
        return float(struct.unpack_from("=I", info, _LAST_RECEIVED_MS_AT)[0]) / 1000
    except (AttributeError, OSError, struct.error):
        return None


@asynccontextmanager
async def bounded(
    client: Redis, pace: Pace, *, long_reply: bool = False
) -> AsyncIterator[Deadline]:
    """Bounds one operation and translates its errors.

    Connections that lay idle when one failed are as likely dead as it; each would cost the next
    operation a timeout of its own, so they are dropped together.

    Raises:
        BrokerError: the server refused the operation, or is not available.
    """
    deadline: Deadline | None = None
    try:
        with translated():
            async with asyncio.timeout(REPLY_TIMEOUT_S) as timeout:
                deadline = Deadline(timeout, pace, long_reply=long_reply)
                try:
                    yield deadline
                finally:
                    deadline.close()
    except BrokerUnavailable:
        if deadline is not None and deadline.is_large:
            pace.missed()
        await client.connection_pool.disconnect(inuse_connections=False)
        raise
    if deadline.is_large:
        pace.met()
