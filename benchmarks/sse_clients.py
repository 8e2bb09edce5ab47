"""Many clients of one api's streams of events: ``python -m benchmarks.sse_clients``.

An api process with an event bus of its own serves ``--clients`` streams (2 000) of all evaluations
while ``--evaluations`` are submitted. Every client has to get every event, in the order of the bus.
It prints the memory of the api before and after, the processor time of an event delivered, and ends
with 1 where an event is missing or the memory is above ``--most-mb``.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
import psutil

from benchmarks.budget_paths import processor_s
from benchmarks.fuzz_api import serving
from benchmarks.machine import rss_mb
from crucible.embedded.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

#: Streams opened at a time, and seconds within which every event has to be there.
_OPENING, _PATIENCE_S = 50, 300.0
_EVENT = b"event: evaluation"


class Streamed(NamedTuple):
    """What came of a run.

    Attributes:
        complete: clients that got every event once and in order.
        before_mb: memory of the api without a client, MiB.
        opened_mb: and with all of them, before the first event.
        after_mb: and at the end.
        cpu_us: processor time of the api for one event delivered to one client, microseconds.
        took_s: from the first submission to the last event at the last client.
    """

    complete: int
    before_mb: float
    opened_mb: float
    after_mb: float
    cpu_us: float
    took_s: float


class _Client:
    """One open stream: ids of its events."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.ids: list[bytes] = []
        self._response = response
        self._id = b""

    async def opened(self) -> None:
        """Wait for the first frame: from there on every event comes."""
        async for line in self._response.content:
            if line == b"\n":
                return

    async def read(self, count: int) -> None:
        """Read until there are so many events."""
        is_event = False
        async for line in self._response.content:
            if line.startswith(b"id: "):
                self._id = line
            elif line.startswith(_EVENT):
                is_event = True
            elif line == b"\n" and is_event:
                is_event = False
                self.ids.append(self._id)
                if len(self.ids) == count:
                    return


@asynccontextmanager
async def api_of_many(directory: Path, clients: int) -> AsyncIterator[tuple[str, int]]:
    """An api that lets so many clients of one address in: its address, and its process id."""
    async with EmbeddedServer(directory) as server:
        limits = {
            "CRUCIBLE_MAX_EVENT_STREAMS": str(clients),
            "CRUCIBLE_MAX_EVENT_STREAMS_PER_TENANT": str(clients),
            # All are of this machine; the one connection more submits.
            "CRUCIBLE_MAX_CONNECTIONS_PER_ADDRESS": str(clients + 1),
            "CRUCIBLE_LOG_LEVEL": "warning",
        }
        async with serving(server.url, **limits) as address:
            yield address, _listener(int(address.rpartition(":")[2]))


async def measure(clients: int, evaluations: int) -> Streamed:
    """The same at an api of its own."""
    with TemporaryDirectory(prefix="crucible-sse-") as name:
        async with api_of_many(Path(name), clients) as (address, pid):
            return await follow(address, pid, clients, evaluations)


async def follow(address: str, pid: int, clients: int, evaluations: int) -> Streamed:
    """Open the streams, submit, and read everything.

    Args:
        address: of what serves ``/api/events`` and takes ``/api/eval/batch``.
        pid: of its process.
        clients: streams.
        evaluations: in one batch; every client gets one event of each.
    """
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                address,
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
            )
        )
        before_mb, opened = rss_mb(pid), asyncio.Semaphore(_OPENING)

        async def open_one() -> _Client:
            async with opened:
                response = await session.get("/api/events")
                if response.status != 200:
                    raise RuntimeError(f"{response.status}: {await response.text()}")
                stack.callback(response.close)
                client = _Client(response)
                await client.opened()
                return client

        async with asyncio.timeout(_PATIENCE_S):
            streams = await asyncio.gather(*(open_one() for _ in range(clients)))
            opened_mb = rss_mb(pid)
            began, used = time.perf_counter(), processor_s(pid)
            items = [{"code": f"print({n})"} for n in range(evaluations)]
            async with session.post("/api/eval/batch", json=items) as response:
                response.raise_for_status()
            await asyncio.gather(*(one.read(evaluations) for one in streams))
        took_s, used = time.perf_counter() - began, processor_s(pid) - used
        wanted = streams[0].ids
        whole = len(set(wanted)) == evaluations
        return Streamed(
            sum(one.ids == wanted for one in streams) if whole else 0,
            before_mb,
            opened_mb,
            rss_mb(pid),
            used / (clients * evaluations) * 1e6,
            took_s,
        )


def _listener(port: int) -> int:
    """The process among our children that listens on a port."""
    for child in psutil.Process().children(recursive=True):
        if any(one.laddr.port == port for one in child.net_connections() if one.laddr):
            return int(child.pid)
    raise RuntimeError(f"no child listens on port {port}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments and run; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--most-mb", type=float, default=150.0, help="memory of the api, MiB")
    parsed = parser.parse_args(arguments)
    found = asyncio.run(measure(parsed.clients, parsed.evaluations))
    print(
        f"{found.complete} of {parsed.clients} clients got all {parsed.evaluations} events, in "
        f"{found.took_s:.1f} s, {found.cpu_us:.1f} us of the api's processor time each; api "
        f"{found.before_mb:.1f} MiB before, {found.opened_mb:.1f} MiB with all of them, "
        f"{found.after_mb:.1f} MiB at the end"
    )
    return int(found.complete < parsed.clients or found.after_mb > parsed.most_mb)


if __name__ == "__main__":
    sys.exit(main())
