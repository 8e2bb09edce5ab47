"""Writing events to a bus that comes, goes, and loses replies."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
from support.faults import Fault, FaultProxy
from support.migration_rig import until
from support.unhindered import unhindered_s

from crucible.broker.redis.connection import open_client
from crucible.events.event import Event, Transition
from crucible.events.position import START
from crucible.events.reader import EventReader
from crucible.events.writer import NoEvents, open_events, open_writer
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from crucible.embedded.server import EmbeddedServer
    from crucible.events.writer import EventWriter

KEYS = Keys("p:")


def event(number: int) -> Event:
    """The event of some evaluation, of now."""
    at = time.time_ns() // 1_000_000
    return Event(f"e{number}", 1, at, Transition.RUNNING, "running", metadata={"n": number})


async def written(url: str) -> list[str]:
    """The ids of the evaluations on the bus, in order."""
    async with open_client(url) as client:
        reader, found, after = EventReader(client, KEYS), [], START
        while True:
            page = await reader.page(after)
            found += [entry.event.eval_id for entry in page.entries]
            after = page.position
            if page.at_end:
                return found


def _has_written(writer: EventWriter, count: int) -> bool:
    return writer.written == count


async def test_events_arrive_once_and_in_order(redis_url: str) -> None:
    """More than a batch, and what is added last is written when the process stops."""
    async with open_writer(redis_url, KEYS) as writer:
        for number in range(2500):
            writer.add(event(number))
        await until(lambda: writer.written == 2500)
        writer.add(event(2500))
    assert await written(redis_url) == [f"e{number}" for number in range(2501)]
    assert (writer.dropped, writer.waiting, writer.lag_s) == (0, 0, 0.0)


async def test_whole_batches_are_written_without_a_pause(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a busy api adds more than is written, and the oldest are dropped."""
    monkeypatch.setattr("crucible.events.writer.next_pause_s", lambda *_: 3600.0)
    async with open_writer(redis_url, KEYS) as writer:
        for number in range(20_050):
            writer.add(event(number))
        await until(lambda: writer.waiting < 100)
        assert writer.dropped == 0


async def test_another_thread_may_add_events(redis_url: str) -> None:
    """As in stock workers; a sleeping writer wakes up."""
    async with open_writer(redis_url, KEYS) as writer:
        for number in range(20):
            await asyncio.to_thread(writer.add, event(number))
            await until(partial(_has_written, writer, number + 1))
    assert await written(redis_url) == [f"e{number}" for number in range(20)]


async def test_a_bus_that_is_away_gets_the_newest_events_later(
    scratch_server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The oldest of what is too much are dropped and counted; it is said once."""
    async with open_writer(scratch_server.url, KEYS, limit=100) as writer:
        writer.add(event(0))
        await until(lambda: writer.written == 1)
        await scratch_server.__aexit__(None, None, None)
        for number in range(1, 1000):
            writer.add(event(number))
        await until(lambda: writer.away)
        assert writer.lag_s > 0
        await asyncio.to_thread(writer.add, event(1000))
        dropped = writer.dropped
        assert dropped > 0
        await scratch_server.restart()
        await until(lambda: writer.waiting == 0)
    found = await written(scratch_server.url)
    assert len(found) + writer.dropped == 1001
    assert found[-100:] == [f"e{number}" for number in range(901, 1001)]
    said = [record for record in caplog.records if record.name == "crucible.events.writer"]
    assert [record.levelname for record in said if record.levelname == "WARNING"] == ["WARNING"]


async def test_a_batch_whose_reply_was_lost_is_not_written_twice(redis_url: str) -> None:
    """The script knows the number of each writer's last batch."""
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    database = redis_url.rpartition("/")[2]
    async with FaultProxy("127.0.0.1", port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/{database}"
        async with open_writer(url, KEYS) as writer:
            writer.add(event(0))
            await until(lambda: writer.written == 1)
            proxy.set(Fault.LOST_REPLIES)
            writer.add(event(1))

            async def arrived() -> bool:
                return len(await written(redis_url)) == 2

            await until(arrived)
            proxy.set(Fault.PASS)
            writer.add(event(2))
            await until(lambda: writer.written == 3)
    assert await written(redis_url) == ["e0", "e1", "e2"]


async def test_a_bus_that_refuses_does_not_hold_up_the_process(
    redis_url: str, redis: Redis
) -> None:
    """A key of another type: the events are dropped and counted, later ones are written."""
    await redis.set(KEYS.events, "x")
    async with open_writer(redis_url, KEYS) as writer:
        writer.add(event(0))
        await until(lambda: writer.dropped == 1)
        await redis.delete(KEYS.events)
        writer.add(event(1))
        await until(lambda: writer.written == 1)
    assert await written(redis_url) == ["e1"]


async def test_the_stream_is_bounded(redis_url: str, redis: Redis) -> None:
    """About as many entries as it is to keep; readers notice what is gone."""
    async with open_writer(redis_url, KEYS, stream_limit=1000) as writer:
        for number in range(5000):
            writer.add(event(number))
        await until(lambda: writer.written == 5000)
        assert 1000 <= await redis.xlen(KEYS.events) < 1500
        page = await EventReader(redis, KEYS).page(START)
        assert page.gap
        following = await EventReader(redis, KEYS).page(page.position)
        assert not following.gap


async def test_a_process_that_stops_does_not_wait_for_a_bus_that_is_away() -> None:
    """Two seconds at most."""
    began = unhindered_s()
    async with open_writer("redis://127.0.0.1:1/0", KEYS) as writer:
        writer.add(event(0))
    assert unhindered_s() - began < 10
    assert writer.waiting == 1


async def test_without_a_bus_events_are_dropped() -> None:
    """Nothing is connected."""
    async with open_events(None, KEYS, 1000) as sink:
        sink.add(event(0))
        assert isinstance(sink, NoEvents)
