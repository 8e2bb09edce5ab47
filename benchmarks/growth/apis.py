"""The api: submissions by keys, and open event streams."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
from redis.asyncio import Redis

from benchmarks.budget_paths import CONNECTIONS, FREE_RATES, RATE, key_fields, processor_s
from benchmarks.driven import Driven
from benchmarks.growth.part import Cost, by_size, median_of
from benchmarks.history_events import EVENTS
from benchmarks.http_load import post
from benchmarks.machine import cores_apart, rss_mb
from benchmarks.scenarios.submit import BODY
from crucible.embedded.server import EmbeddedServer
from crucible.identity.keys import Secret, StoredKey
from crucible.identity.secret import digest_of, new_secret
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from benchmarks.growth.lines import Series
    from benchmarks.growth.part import Effort

KEYS = (1, 10, 100, 1_000, 9_999)
CLIENTS = (1, 10, 100, 300, 1_000)
TURNS = 3
#: Evaluations whose events are sent in one measurement, and how many a second.
EVALUATIONS, PACE = 100, 50
#: Seconds in which all clients must have received them.
RECEIVED_S = 60.0


async def keys(effort: Effort) -> list[Series]:
    """Processor time of a submission with a key, beside so many other keys."""

    async def of(size: int) -> Sequence[float]:
        async with EmbeddedServer(effort.directory / f"k{size}", durable=False) as server:
            fields = await key_fields(server.url)
            await _add_keys(server.url, size - 1)
            return await _submitting(effort, server.url, fields)

    costs = [Cost("api, us a submission", "flat")]
    return await by_size(effort, "keys", "keys", effort.of("keys", KEYS, 1_000), costs, of)


async def _add_keys(url: str, count: int) -> None:
    """Further keys, each of a tenant of its own, written directly: making one reads all others."""
    added: dict[str, bytes] = {}
    for number in range(count):
        digest = digest_of(new_secret())
        assert digest is not None
        key = StoredKey(
            id=f"key_{number:012x}",
            name="another",
            tenant=f"t{number}",
            tier="premium",
            scopes=("submit",),
            start="crk_0000",
            secrets=(Secret(digest, 0),),
            created_ms=1,
        )
        added[key.id] = msgspec.json.encode(key)
    if added:
        async with Redis.from_url(url) as redis:
            # A dict is invariant in its keys, and redis-py allows more kinds of them.
            await redis.hset(Keys().api_keys, mapping=added)  # type: ignore[arg-type]


async def _submitting(effort: Effort, url: str, fields: dict[str, str]) -> list[float]:
    mine, others = cores_apart()
    job = {"redis": url, "environment": {"CRUCIBLE_TIERS": FREE_RATES}}
    async with (
        Driven("crucible_api", job=job, cores=mine) as api,
        Driven("load", cores=others) as load,
    ):
        pid, port = api.facts["pid"], api.facts["port"]

        async def measure() -> Sequence[float]:
            began_s = processor_s(pid)
            answer = await load.run(
                port=port,
                request=post("/api/eval", BODY, fields),
                connections=CONNECTIONS,
                rate=RATE,
                seconds=2.0 * effort.scale,
            )
            if set(answer["statuses"]) != {"202"}:
                raise RuntimeError(f"submissions were refused: {answer['statuses']}")
            return [1e6 * (processor_s(pid) - began_s) / answer["statuses"]["202"]]

        return await median_of(TURNS, measure)


async def sse(effort: Effort) -> list[Series]:
    """Memory of an api that so many clients follow, and its processor time for an event."""

    async def of(size: int) -> Sequence[float]:
        async with EmbeddedServer(effort.directory / f"s{size}", durable=False) as server:
            return await _following(effort, server.url, size)

    costs = (Cost("api, MiB", "linear"), Cost("api, us an event", "linear"))
    sizes = effort.of("sse", CLIENTS, 100)
    return await by_size(effort, "sse", "clients", sizes, costs, of)


async def _following(effort: Effort, url: str, clients: int) -> list[float]:
    evaluations = effort.count(EVALUATIONS, 5)
    async with (
        Driven("crucible_api", job={"redis": url}) as api,
        Driven("history_feed", job={"redis": url}) as feed,
        AsyncExitStack() as stack,
    ):
        pid, port = api.facts["pid"], api.facts["port"]
        readers = [await stack.enter_async_context(_stream(port)) for _ in range(clients)]

        async def measure() -> Sequence[float]:
            began_s = processor_s(pid)
            events = EVENTS * evaluations
            async with asyncio.timeout(RECEIVED_S), asyncio.TaskGroup() as receiving:
                for reader in readers:
                    receiving.create_task(_receive(reader, events))
                await feed.run(evaluations=evaluations, rate=PACE)
            return rss_mb(pid), 1e6 * (processor_s(pid) - began_s) / events

        return await median_of(TURNS, measure)


@asynccontextmanager
async def _stream(port: int) -> AsyncIterator[asyncio.StreamReader]:
    """An open stream of all events, after its opening."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"no stream: {head.decode()}")
        yield reader
    finally:
        writer.close()


async def _receive(reader: asyncio.StreamReader, events: int) -> None:
    """Read until so many events have come."""
    while events:
        line = await reader.readline()
        if not line:
            raise RuntimeError("a stream ended")
        events -= line.startswith(b"data:")
