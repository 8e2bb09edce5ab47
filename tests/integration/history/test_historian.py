"""Historians on a real event bus and both databases."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis
from support.history_rig import life, migrated, now_ms, rows_of
from support.patience import PATIENCE_S
from support.worker_rig import crucible

from crucible.breaker import BreakerPolicy, BreakerState
from crucible.events.event import FORMAT, encode_event
from crucible.history import consumer
from crucible.history.historian import open_historian
from crucible.history.schema import evaluations, transitions
from crucible.history.state import read_states
from crucible.redis_keys import HISTORIAN_GROUP, Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import pytest
    from sqlalchemy.ext.asyncio import AsyncEngine

    from benchmarks.postgres import PostgresServer
    from crucible.embedded.server import EmbeddedServer
    from crucible.events.event import Event
    from crucible.history.historian import Historian

KEYS = Keys()
POLICY = BreakerPolicy(failures=2, open_s=0.2)


async def append(redis: Redis, events: list[Event]) -> None:
    """Append events to the bus as a writer does."""
    async with redis.pipeline(transaction=False) as pipe:
        for event in events:
            pipe.xadd(KEYS.events, {FORMAT: encode_event(event)})
        await pipe.execute()


@asynccontextmanager
async def working(url: str, bus_url: str) -> AsyncIterator[Historian]:
    """A historian that works while the context is open."""
    stop = asyncio.Event()
    async with open_historian(url, bus_url, KEYS, count=100, policy=POLICY) as historian:
        task = asyncio.create_task(historian.run(stop))
        try:
            yield historian
        finally:
            stop.set()
            async with asyncio.timeout(PATIENCE_S):
                await task


async def until(condition: Callable[[], Any]) -> None:
    """Wait until an awaitable condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():
            await asyncio.sleep(0.02)


async def has(engine: AsyncEngine, count: int) -> bool:
    """Whether so many evaluations have completed."""
    rows = await rows_of(engine, evaluations)
    return [row["status"] for row in rows] == ["completed"] * count


async def pending(redis: Redis) -> int:
    """Entries taken and not acknowledged."""
    groups: Any = await redis.xinfo_groups(KEYS.events)
    return int(groups[0]["pending"])


async def test_several_historians_share_what_is_on_the_bus(
    history_url: str, redis_url: str, redis: Redis
) -> None:
    """What was there before they started, and what comes later; all of it once."""
    lives = [life(f"e{number}", at=now_ms()) for number in range(200)]
    async with migrated(history_url) as engine:
        await append(redis, [event for one in lives[:100] for event in one])
        async with working(history_url, redis_url), working(history_url, redis_url):
            await append(redis, [event for one in lives[100:] for event in one[::-1]])
            await until(lambda: has(engine, 200))
            await until(lambda: _none(redis))
            states = await read_states(redis, KEYS)
        assert len(await rows_of(engine, transitions)) == 600
    assert len(states) == 2
    # Both have left, so no batch waits for one of them.
    assert await redis.xinfo_consumers(KEYS.events, HISTORIAN_GROUP) == []
    assert await read_states(redis, KEYS) == []


async def _none(redis: Redis) -> bool:
    return await pending(redis) == 0


async def test_the_batch_of_a_dead_historian_is_adopted(
    history_url: str, redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had taken and not acknowledged is written by another one."""
    monkeypatch.setattr(consumer, "ABANDONED_MS", 1)
    async with migrated(history_url) as engine:
        await append(redis, life("one"))
        dead = consumer.HistoryConsumer(redis, KEYS, 100)
        await dead.join()
        assert len((await dead.take(1000)).events) == 3
        async with working(history_url, redis_url):
            await until(lambda: has(engine, 1))
            await until(lambda: _none(redis))


async def test_a_killed_historian_loses_nothing(
    history_url: str, redis_url: str, redis: Redis
) -> None:
    """SIGKILL in the middle; the next one goes on."""
    variables = {"CRUCIBLE_HISTORY_URL": history_url, "CRUCIBLE_EVENT_BUS_URL": redis_url}
    async with migrated(history_url) as engine:
        await append(redis, life("e0"))
        async with crucible(["historian"], CRUCIBLE_HISTORY_BATCH="3", **variables) as victim:
            await until(lambda: has(engine, 1))
            await append(redis, [event for n in range(1, 60) for event in life(f"e{n}")])
            victim.send_signal(signal.SIGKILL)
            await victim.wait()
        async with crucible(["historian"], **variables) as heir:
            await until(lambda: has(engine, 60))
            assert await heir.stop() == 0


async def test_outages_of_the_database_are_waited_out(
    scratch_postgres: PostgresServer, redis_url: str, redis: Redis
) -> None:
    """The circuit opens and is reported; what came meanwhile is written afterwards."""
    url = await scratch_postgres.create("history_outage")
    async with migrated(url) as engine:
        async with working(url, redis_url) as historian:
            await append(redis, life("e0"))
            await until(lambda: has(engine, 1))
            await scratch_postgres.stop(signal.SIGKILL)
            await append(redis, life("e1"))
            await until(lambda: _opened(historian))
            assert await historian.lag_s() > 0
            await scratch_postgres.start()
            await until(lambda: _closed(historian))
        await engine.dispose()
        await until(lambda: has(engine, 2))


async def test_a_database_that_is_away_at_the_start_is_waited_for(
    scratch_postgres: PostgresServer, redis_url: str, redis: Redis
) -> None:
    """A historian that starts while PostgreSQL is down reports that, and writes once it is back."""
    url = await scratch_postgres.create("history_late")
    async with migrated(url) as engine:
        await scratch_postgres.stop(signal.SIGKILL)
        await append(redis, life("e0"))
        async with working(url, redis_url) as historian:
            await until(lambda: _troubled(redis))
            await scratch_postgres.start()
            await until(lambda: _closed(historian))
        await engine.dispose()
        await until(lambda: has(engine, 1))


async def test_a_schema_of_another_version_is_refused_when_the_database_is_back(
    scratch_postgres: PostgresServer, redis_url: str, redis: Redis
) -> None:
    """It could not be looked at before."""
    url = await scratch_postgres.create("history_older")
    await scratch_postgres.stop(signal.SIGKILL)
    variables = {"CRUCIBLE_HISTORY_URL": url, "CRUCIBLE_EVENT_BUS_URL": redis_url}
    async with crucible(["historian"], **variables) as refused:
        await until(lambda: _troubled(redis))
        await scratch_postgres.start()
        assert await refused.wait() == 1
        assert "(crucible historian migrate)" in refused.log


async def _troubled(redis: Redis) -> bool:
    return any(state.trouble for state in await read_states(redis, KEYS))


async def _opened(historian: Historian) -> bool:
    return historian.state.circuit.opened_total > 0 and bool(historian.state.trouble)


async def _closed(historian: Historian) -> bool:
    state = historian.state
    return state.circuit.state is BreakerState.CLOSED and not state.trouble and state.lag_s == 0


async def test_a_bus_that_lost_everything_is_noticed(
    scratch_server: EmbeddedServer, tmp_path: Any
) -> None:
    """The group is made again, and new events are written."""
    url = f"sqlite:///{tmp_path}/history.sqlite"
    async with migrated(url) as engine, Redis.from_url(scratch_server.url) as redis:
        async with working(url, scratch_server.url) as historian:
            await append(redis, life("e0"))
            await until(lambda: has(engine, 1))
            await redis.flushall()
            await append(redis, life("e1"))
            await until(lambda: has(engine, 2))
            assert historian.state.trouble == ""


async def test_events_that_were_trimmed_before_they_were_written_are_counted(
    redis_url: str, redis: Redis, tmp_path: Any
) -> None:
    """The operator is told to repair."""
    url = f"sqlite:///{tmp_path}/history.sqlite"
    async with migrated(url) as engine:
        await append(redis, life("e0"))
        async with working(url, redis_url):
            await until(lambda: has(engine, 1))
        await append(redis, [event for n in range(1, 10) for event in life(f"e{n}")])
        await redis.xtrim(KEYS.events, maxlen=3, approximate=False)
        async with working(url, redis_url) as historian:
            await until(lambda: has(engine, 2))
            assert historian.state.gaps == 1
