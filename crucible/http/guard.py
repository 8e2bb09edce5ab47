"""What clients may hold of a server: connections, unfinished bodies, answers they do not read.

No I/O: a connection (``http.protocol``) reports what it receives and what it cannot send, and is
asked to end when it is overdue or when clients together hold too much. A request that arrives
whole, as nearly all do, is never reported, so it costs nothing here.

=============  ==============================================================================
head           ``head_s`` from its first byte
body           ``grace_s``, and one second more for every ``rate`` bytes that arrived
answer         ``grace_s``, and one second more for every ``rate`` bytes that are not read yet
closing        ``grace_s`` for the client to take what was sent before the end
idle           aiohttp's own timer, set to ``idle_s``
=============  ==============================================================================
"""

from __future__ import annotations

import enum
import logging
import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

#: Connections beyond the limit that are kept until they can be told so, at most.
MOST_REFUSED = 64
#: Full bodies that a service of large ones holds unfinished.
_LARGE_BODIES = 4


class Fault(enum.StrEnum):
    """Why a connection ended otherwise than by answered requests; the label of a metric."""

    HUNG_UP = "hung_up"
    TLS = "tls"
    HTTP2 = "http2"
    MALFORMED = "malformed"
    HEAD_TIMEOUT = "head_timeout"
    BODY_TIMEOUT = "body_timeout"
    ANSWER_TIMEOUT = "answer_timeout"
    CONNECTIONS = "connections"
    CONNECTIONS_OF_ADDRESS = "connections_of_address"
    UNFINISHED_BODIES = "unfinished_bodies"
    UNREAD_ANSWERS = "unread_answers"


class Part(enum.Enum):
    """Which part of a request is incomplete."""

    HEAD = enum.auto()
    BODY = enum.auto()
    #: Behind a request that is being answered; the server does not read on meanwhile.
    HELD = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one server; 0 connections mean no bound.

    Attributes:
        head_s: seconds the head of a request may take from its first byte on.
        grace_s: seconds a body or the reading of an answer may take before its rate counts.
        rate: bytes a second that a client has to send or read after that.
        idle_s: seconds a connection may be open without a request.
        body_bytes: longest body that is accepted.
        held_bytes: bytes of all unfinished requests together, and as many of unread answers.
        connections: open at once.
        connections_of_address: the same from one address.
    """

    head_s: float = 10.0
    grace_s: float = 20.0
    rate: float = 4096.0
    idle_s: float = 75.0
    body_bytes: int = 2 << 20
    held_bytes: int = 64 << 20
    connections: int = 2048
    connections_of_address: int = 1024


class Guarded(Protocol):
    """A connection as the guard sees it."""

    def is_closing(self) -> bool:
        """It was closed here, and the client has not taken everything yet."""

    def end(self, fault: Fault) -> None:
        """Say why where that can still be said, and close."""

    def abort(self) -> None:
        """Close at once, whatever is left to send."""


@dataclass(slots=True)
class _Transfer:
    """Something under way on a connection: what, since when, and how many bytes are held."""

    part: Part | None
    since_s: float
    bytes: int = 0


class ConnectionGuard:
    """Keeps count of what the clients of one server hold.

    Args:
        limits: its bounds.
        clock: monotonic seconds.

    Attributes:
        limits: its bounds.
        faults: connections that ended otherwise than by answered requests, by reason.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.faults: Counter[Fault] = Counter()
        self._clock = clock
        self._open: dict[Guarded, str] = {}
        self._of_address: Counter[str] = Counter()
        self._refused: set[Guarded] = set()
        # Both in the order in which the transfers began: the first one is the oldest.
        self._unfinished: dict[Guarded, _Transfer] = {}
        self._unread: dict[Guarded, _Transfer] = {}
        self._closing: dict[Guarded, float] = {}
        self._unfinished_bytes = self._unread_bytes = 0

    def __len__(self) -> int:
        return len(self._open)

    @property
    def held_bytes(self) -> int:
        """Bytes of unfinished requests and of unread answers."""
        return self._unfinished_bytes + self._unread_bytes

    @property
    def sweep_s(self) -> float:
        """Seconds between two sweeps: no deadline is missed by more than a quarter of itself."""
        limits = self.limits
        return min(1.0, limits.head_s / 4, limits.grace_s / 4)

    # Connections

    def admit(self, connection: Guarded, address: str) -> Fault | None:
        """Take a new connection in, or say why not; ``left`` undoes the former.

        Args:
            connection: that was accepted.
            address: the client's; empty where it has none (a Unix socket).
        """
        most, of_one = self.limits.connections, self.limits.connections_of_address
        if most and len(self._open) >= most:
            return Fault.CONNECTIONS
        if address and of_one and self._of_address[address] >= of_one:
            return Fault.CONNECTIONS_OF_ADDRESS
        self._open[connection] = address
        self._of_address[address] += 1
        return None

    def keep_refused(self, connection: Guarded) -> bool:
        """Whether a refused connection may stay open until it was told why; ``left`` ends that."""
        if len(self._refused) >= MOST_REFUSED:
            return False
        self._refused.add(connection)
        return True

    def close(self) -> None:
        """Close the connections that aiohttp does not know of."""
        for connection in [*self._refused]:
            connection.abort()

    def left(self, connection: Guarded) -> bool:
        """A connection is gone; whether it leaves a request unfinished."""
        self._refused.discard(connection)
        address = self._open.pop(connection, None)
        if address is not None:
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]
        unfinished = self._unfinished.get(connection)
        self.complete(connection)
        self.read(connection)
        self._closing.pop(connection, None)
        return unfinished is not None and unfinished.part is not Part.HELD

    # Requests and answers

    def received(self, connection: Guarded, part: Part, size: int) -> None:
        """Bytes arrived that do not complete a request.

        Args:
            connection: where.
            part: what of the request is incomplete.
            size: how many bytes.
        """
        transfer = self._unfinished.get(connection)
        if transfer is None:
            transfer = self._unfinished[connection] = _Transfer(part, self._clock())
        elif transfer.part is not part:
            transfer.part, transfer.since_s = part, self._clock()
        # aiohttp reads on behind a body that nobody wants, and drops it.
        more = min(size, max(0, self.limits.body_bytes - transfer.bytes))
        transfer.bytes += more
        self._unfinished_bytes += more
        while self._unfinished_bytes > self.limits.held_bytes:
            self._end(next(iter(self._unfinished)), Fault.UNFINISHED_BODIES)

    def complete(self, connection: Guarded) -> None:
        """Nothing of a request is incomplete on a connection."""
        transfer = self._unfinished.pop(connection, None)
        if transfer is not None:
            self._unfinished_bytes -= transfer.bytes

    def unread(self, connection: Guarded, size: int) -> None:
        """A client does not read its answers, of which so many bytes are held.

        The newest is left alone: it may be larger than the bound, and its client only begins.
        """
        self.read(connection)
        self._unread[connection] = _Transfer(None, self._clock(), size)
        self._unread_bytes += size
        while self._unread_bytes > self.limits.held_bytes and len(self._unread) > 1:
            self._end(next(iter(self._unread)), Fault.UNREAD_ANSWERS)

    def read(self, connection: Guarded) -> None:
        """A client has read its answers, nearly all of them."""
        transfer = self._unread.pop(connection, None)
        if transfer is not None:
            self._unread_bytes -= transfer.bytes

    # Deadlines

    def sweep(self) -> None:
        """End every connection that is overdue."""
        now = self._clock()
        for connection, fault in [*self._overdue(now)]:
            self._end(connection, fault)

    def _overdue(self, now: float) -> Iterator[tuple[Guarded, Fault]]:
        limits = self.limits
        for connection, transfer in self._unfinished.items():
            taken_s = now - transfer.since_s
            if transfer.part is Part.HEAD and taken_s > limits.head_s:
                yield connection, Fault.HEAD_TIMEOUT
            elif transfer.part is Part.BODY and taken_s > self._allowed_s(transfer.bytes):
                yield connection, Fault.BODY_TIMEOUT
        for connection, transfer in self._unread.items():
            if now - transfer.since_s > self._allowed_s(transfer.bytes):
                yield connection, Fault.ANSWER_TIMEOUT
        for connection in self._open:
            if connection not in self._unread and connection.is_closing():
                since_s = self._closing.setdefault(connection, now)
                if now - since_s > limits.grace_s:
                    yield connection, Fault.ANSWER_TIMEOUT

    def _allowed_s(self, size: int) -> float:
        return self.limits.grace_s + size / self.limits.rate

    def _end(self, connection: Guarded, fault: Fault) -> None:
        self.complete(connection)
        self.read(connection)
        # It may stay open for a moment, and ends only once.
        self._closing[connection] = math.inf
        self.count(fault)
        connection.end(fault)

    def count(self, fault: Fault, detail: str = "") -> None:
        """Count a connection that ended otherwise than by answered requests."""
        self.faults[fault] += 1
        log.debug("a connection ended: %s%s", fault.value, f" ({detail})" if detail else "")


def service_guard(body_bytes: int) -> ConnectionGuard:
    """The guard of a service that other processes of ours use, with few and large bodies."""
    return ConnectionGuard(Limits(body_bytes=body_bytes, held_bytes=_LARGE_BODIES * body_bytes))


GUARD = web.AppKey("guard", ConnectionGuard)
