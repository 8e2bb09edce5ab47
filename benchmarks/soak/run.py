"""One soak: find the highest load, hold half of it, and look at everything at intervals."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil
from redis.asyncio import Redis

from benchmarks.chaos.service.judge import Verdict
from benchmarks.chaos.service.parts import STOCK
from benchmarks.chaos.service.records import Records, queued
from benchmarks.chaos.service.up import Service, serving
from benchmarks.machine import descriptors, rss_mb
from benchmarks.soak.samples import OF_CHILDREN, OUTLIVING, Samples
from crucible.history.consumer import HistoryConsumer
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from benchmarks.chaos.server import QueueServer

#: Looks at everything, whatever the length, and the longest time between two of them.
LOOKS, LONGEST_S = 120, 60.0
#: Requests that are sent at once to find the highest rate, and how often they are counted, seconds.
FULL, _COUNT_S = 300, 0.1
#: What is remembered is to be as much at the end as early on: results are kept briefly, few events.
SETTINGS = {"CRUCIBLE_EVENT_LIMIT": "5000"}
#: Seconds that results are kept, and at most this share of the soak: as many keys as there will be
#: are there before the second quarter, which is judged.
RESULTS_S, RESULTS_SHARE = 60, 1 / 8
#: Assessments that each client keeps: a tenant may have a thousand.
ASSESSMENTS = 20
#: Bytes from which on an append-only file is rewritten when it has doubled in size: with 256 MiB it
#: only grows in a soak.
REWRITTEN = 8 << 20
_MIB = 2.0**20


@dataclass(slots=True)
class Soaked:
    """What came of a soak.

    Attributes:
        samples: everything that was looked at.
        full_per_s: requests a second at the highest load.
        held_per_s: requests a second that were held.
        faults: what was lost, refused or left.
    """

    samples: Samples = field(default_factory=Samples)
    full_per_s: float = 0.0
    held_per_s: float = 0.0
    faults: list[str] = field(default_factory=list)


async def soak(
    directory: Path, seconds: float, seed: int, show: Callable[[str], None], full: int = FULL
) -> Soaked:
    """Hold half load for so many seconds."""
    soaked, verdict = Soaked(), Verdict()
    show("starting")
    settings = SETTINGS | {"CRUCIBLE_RESULT_TTL_S": str(results_s(seconds))}
    async with serving(directory, seed, settings=settings) as service:
        for client in service.clients:
            client.keeps = ASSESSMENTS
        for server in (service.queue, service.bus):
            await _rewrite_at(server, REWRITTEN)
        show("finding the highest load")
        began, before = time.monotonic(), _requests(service)
        async with _loading(service, 0.0):
            while _requests(service) - before < full:
                await asyncio.sleep(_COUNT_S)
        await Records(service, verdict).settle()
        soaked.full_per_s = (_requests(service) - before) / (time.monotonic() - began)
        _forget(service)
        show(f"holding half of {soaked.full_per_s:.1f} requests a second")
        began, before = time.monotonic(), _requests(service)
        looking = asyncio.create_task(_look_at_all(service, soaked.samples, seconds))
        pause_s = 2 * len(service.clients) / soaked.full_per_s
        try:
            async with _loading(service, pause_s):
                # It ends before its time where it fails: two hours without a look are lost.
                await asyncio.wait([looking], timeout=seconds)
        finally:
            looking.cancel()
            await asyncio.wait([looking])
        if not looking.cancelled():
            looking.result()
        soaked.held_per_s = (_requests(service) - before) / (time.monotonic() - began)
        show("stopping")
        refused = [one for client in service.clients for one in client.ledger.refused]
        soaked.faults = [*verdict.faults, *refused, *await service.stop()]
    return soaked


async def _rewrite_at(server: QueueServer, size: int) -> None:
    async with Redis.from_url(server.url) as client:
        await client.config_set("auto-aof-rewrite-min-size", size)


def results_s(seconds: float) -> int:
    """How long results are kept in a soak of this length."""
    return max(1, min(RESULTS_S, int(seconds * RESULTS_SHARE)))


def _requests(service: Service) -> int:
    return sum(client.requests for client in service.clients)


def _forget(service: Service) -> None:
    """Let this process keep nothing of the full load."""
    for client in service.clients:
        client.ledger.asked.clear()
        client.ledger.suites.clear()


@asynccontextmanager
async def _loading(service: Service, pause_s: float) -> AsyncIterator[None]:
    """All clients send while the context is open; it is left once they have their last answer."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for client in service.clients:
            group.create_task(client.load(pause_s, stop))
        try:
            yield
        finally:
            stop.set()


async def _look_at_all(service: Service, samples: Samples, seconds: float) -> None:
    began = time.monotonic()
    async with Redis.from_url(service.queue.url) as queue, Redis.from_url(service.bus.url) as bus:
        while True:
            looked = {**_processes(service), **_disk(service), **await _keys(queue, bus, seconds)}
            looked |= await _lag(queue, bus)
            samples.add(time.monotonic() - began, looked)
            service.received.requests.clear()
            await asyncio.sleep(min(LONGEST_S, seconds / LOOKS))


def _processes(service: Service) -> dict[tuple[str, str], float]:
    """Memory and descriptors of each part, with its children."""
    looked = {}
    for part in service.parts:
        children = [one.pid for one in psutil.Process(part.pid).children(recursive=True)]
        looked["memory", part.name] = _sum(rss_mb, [part.pid, *children])
        if part.name == STOCK:
            looked[OF_CHILDREN] = _sum(descriptors, children)
            children = []
        looked["descriptors", part.name] = _sum(descriptors, [part.pid, *children])
    return looked


def _sum(measure: Callable[[int], float], pids: Sequence[int]) -> float:
    """Of those that live: a child may end while others are looked at."""
    total = 0.0
    for pid in pids:
        with suppress(psutil.NoSuchProcess, FileNotFoundError):
            total += measure(pid)
    return total


def _disk(service: Service) -> dict[tuple[str, str], float]:
    places = {
        "task queue": service.queue.directory,
        "event bus": service.bus.directory,
        "history": service.history_files,
    }
    return {("disk", name): _size(place) / _MIB for name, place in places.items()}


def _size(directory: Path) -> int:
    """Bytes on disk; a file may go while the folder is read."""
    sizes = 0
    for path in directory.rglob("*"):
        try:
            sizes += path.lstat().st_blocks * 512
        except FileNotFoundError:
            continue
    return sizes


async def _keys(queue: Redis, bus: Redis, seconds: float) -> dict[tuple[str, str], float]:
    """Keys of both servers; those that outlive the soak apart, for they only become more."""
    names = [name async for name in queue.scan_iter(count=1000)]
    async with queue.pipeline(transaction=False) as asking:
        for name in names:
            asking.ttl(name)
        lives_s = await asking.execute()
    # -2: it has expired meanwhile.
    longer, gone = sum(life > seconds for life in lives_s), lives_s.count(-2)
    return {
        ("keys", "task queue"): float(len(names) - longer - gone),
        OUTLIVING: float(longer),
        ("keys", "event bus"): float(await bus.dbsize()),
    }


async def _lag(queue: Redis, bus: Redis) -> dict[tuple[str, str], float]:
    oldest_s = await HistoryConsumer(bus, Keys(), 1).oldest_s()
    behind_s = 0.0 if oldest_s is None else max(0.0, time.time() - oldest_s)
    return {("lag", "history"): behind_s, ("queue", "messages and claims"): await queued(queue)}
