"""HTTP/1.1 load over raw asyncio protocols, on a given number of connections.

Closed loop: every connection sends its next request when it has the response to the last one; it
measures the rate. Open loop: requests are due at fixed times whether or not the server keeps up,
and latency runs from the time a request was *due*, not from when it could be sent, so a stall of
the server counts for every request due meanwhile (no coordinated omission). The clock of the open
loop ticks four times a millisecond: up to that much of a latency may be the generator's own.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter, deque
from time import perf_counter
from typing import TYPE_CHECKING, cast

import msgspec

from benchmarks.histogram import Histogram
from benchmarks.ticks import Ticks

if TYPE_CHECKING:
    from collections.abc import Callable

_LENGTH = re.compile(rb"[Cc]ontent-[Ll]ength: (\d+)")
_TICK_S = 0.00025
#: Seconds between checks whether every request was answered.
_LOOK_S = 0.001
#: Seconds to wait for outstanding responses at the end of an open loop.
_TAIL_S = 5.0


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What to send.

    Attributes:
        port: the server's port on 127.0.0.1.
        request: the raw request, always the same.
        connections: number of connections, opened at the start and kept.
        pipeline: requests in flight on one connection; HTTP clients have 1.
        rate: requests due per second; None for a closed loop.
        seconds: length of the measurement.
        warmup_s: seconds before it whose responses do not count.
    """

    port: int
    request: str
    connections: int = 64
    pipeline: int = 1
    rate: float | None = None
    seconds: float = 3.0
    warmup_s: float = 0.5


class Measured(msgspec.Struct):
    """What was measured.

    Attributes:
        requests_per_s: responses per second.
        latency: bucket counts, see ``Histogram``.
        statuses: responses by status, warm-up included.
        missing: requests of an open loop that got no response.
    """

    requests_per_s: float
    latency: dict[str, int]
    statuses: dict[str, int]
    missing: int = 0


class _Connection(asyncio.Protocol):
    """One connection; calls back for each response."""

    def __init__(self, answered: Callable[[_Connection, float, int], None]) -> None:
        self._answered = answered
        self._rest = b""
        self._since: deque[float] = deque()
        self.transport: asyncio.Transport | None = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have this interface but not this base class.
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def send(self, request: bytes, since: float) -> None:
        """Send one request whose latency runs from ``since``."""
        assert self.transport is not None
        self._since.append(since)
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        at, now = 0, perf_counter()
        while (head_end := data.find(b"\r\n\r\n", at)) >= 0:
            length = _LENGTH.search(data, at, head_end)
            end = head_end + 4 + (int(length[1]) if length else 0)
            if end > len(data):
                break
            self._answered(self, now - self._since.popleft(), int(data[at + 9 : at + 12]))
            at = end
        self._rest = data[at:]


class _Generator:
    """Sends a load and counts the responses."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._request = load.request.encode()
        self._connections: list[_Connection] = []
        self._idle: deque[_Connection] = deque()
        self._backlog: deque[float] = deque()
        self._latencies: list[float] = []
        self._statuses: Counter[int] = Counter()
        self._sent = self._received = 0
        self._stopped = False

    async def run(self) -> Measured:
        load = self._load
        answered = self._next_closed if load.rate is None else self._next_open
        for _ in range(load.connections):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(answered), "127.0.0.1", load.port
            )
            self._connections.append(connection)
        try:
            elapsed = await (self._closed() if load.rate is None else self._open(load.rate))
        finally:
            for connection in self._connections:
                if connection.transport is not None:
                    connection.transport.abort()
        if any(connection.lost for connection in self._connections) and not self._latencies:
            raise ConnectionError("the server closed its connections")
        histogram = Histogram()
        for latency in self._latencies:
            histogram.record(latency)
        statuses = {str(status): count for status, count in self._statuses.items()}
        missing = self._sent - self._received + len(self._backlog)
        rate = len(self._latencies) / elapsed
        return Measured(rate, histogram.dump(), statuses, missing if load.rate else 0)

    async def _closed(self) -> float:
        now = perf_counter()
        for connection in self._connections:
            for _ in range(self._load.pipeline):
                connection.send(self._request, now)
        await asyncio.sleep(self._load.warmup_s)
        self._latencies.clear()
        started = perf_counter()
        await asyncio.sleep(self._load.seconds)
        self._stopped = True
        return perf_counter() - started

    def _next_closed(self, connection: _Connection, latency: float, status: int) -> None:
        if self._stopped:
            return
        self._latencies.append(latency)
        self._statuses[status] += 1
        connection.send(self._request, perf_counter())

    async def _open(self, rate: float) -> float:
        self._idle.extend(self._connections)
        warm = int(rate * self._load.warmup_s)
        total = warm + int(rate * self._load.seconds)
        started = perf_counter()
        due = 0

        def tick() -> None:
            nonlocal due
            wanted = min(total, int((perf_counter() - started) * rate) + 1)
            self._backlog.extend(started + number / rate for number in range(due, wanted))
            due = wanted
            self._dispatch()

        with Ticks(_TICK_S, tick):
            await asyncio.sleep(total / rate)
            deadline = perf_counter() + _TAIL_S
            while self._received < total and perf_counter() < deadline:
                await asyncio.sleep(_LOOK_S)
        # Responses come nearly in the order the requests were due, so the first are the warm-up's.
        del self._latencies[:warm]
        return max(self._load.seconds, perf_counter() - started - self._load.warmup_s)

    def _dispatch(self) -> None:
        while self._backlog and self._idle:
            self._sent += 1
            self._idle.popleft().send(self._request, self._backlog.popleft())

    def _next_open(self, connection: _Connection, latency: float, status: int) -> None:
        self._received += 1
        self._latencies.append(latency)
        self._statuses[status] += 1
        if self._backlog:
            self._sent += 1
            connection.send(self._request, self._backlog.popleft())
        else:
            self._idle.append(connection)


async def apply(load: Load) -> Measured:
    """Send a load and measure.

    Raises:
        OSError: the server cannot be reached, or closed every connection.
    """
    return await _Generator(load).run()


def post(path: str, body: bytes, headers: dict[str, str] | None = None) -> str:
    """A raw POST request with a JSON body."""
    fields = {
        "Host": "127.0.0.1",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **(headers or {}),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n{body.decode()}"
