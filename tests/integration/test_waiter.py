"""Waiting for results: by push, by many at once, and without a gap."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from support.faults import Fault, FaultProxy
from support.patience import PATIENCE_S
from support.subscriptions import channels_per_subscriber

from crucible.broker import Publisher
from crucible.broker.results import waiter
from crucible.broker.results.meta import encode_meta, exception_result, revoked_result
from crucible.errors import ResultTimeout, TaskFailed, TaskRevoked

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def no_safety_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is found by the safety look, which hides what was missed."""
    monkeypatch.setattr(waiter, "SAFETY_LOOK_S", 600.0)


async def _store(redis: Redis, task_id: str, status: str, result: Any, **more: Any) -> None:
    """What a worker does: store and publish in one step."""
    meta = encode_meta(task_id, status, result, **more)
    async with redis.pipeline() as pipeline:
        pipeline.set(f"celery-task-meta-{task_id}", meta)
        pipeline.publish(f"celery-task-meta-{task_id}", meta)
        await pipeline.execute()


async def _subscribed(redis: Redis, count: int) -> None:
    """Wait until so many channels of the database have subscribers."""
    async with asyncio.timeout(30):
        while sum(await channels_per_subscriber(redis)) != count:
            await asyncio.sleep(0.01)


async def test_ten_thousand_waiters(redis_url: str, redis: Redis) -> None:
    """Ten thousand tasks are waited for at once over one subscription; each gets its own."""
    count = 10_000
    async with Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher:
        waits = [
            asyncio.create_task(publisher.results.wait(f"t{n}", timeout=60)) for n in range(count)
        ]
        await _subscribed(redis, count)
        assert await channels_per_subscriber(redis) == [count]
        for start in range(0, count, 500):
            async with redis.pipeline(transaction=False) as pipeline:
                for number in range(start, start + 500):
                    meta = encode_meta(f"t{number}", "SUCCESS", number)
                    pipeline.set(f"celery-task-meta-t{number}", meta)
                    pipeline.publish(f"celery-task-meta-t{number}", meta)
                await pipeline.execute()
        metas = await asyncio.gather(*waits)
        assert [meta.result for meta in metas] == list(range(count))
        await _subscribed(redis, 0)


async def test_result_of_long_ago(redis_url: str, redis: Redis) -> None:
    """A result stored before anybody asked is found at once."""
    await _store(redis, "t", "SUCCESS", [1])
    async with Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher:
        assert (await publisher.results.wait("t", timeout=60)).value() == [1]


@pytest.mark.usefixtures("no_safety_look")
async def test_no_gap_between_look_and_subscription(redis_url: str, redis: Redis) -> None:
    """Results stored at any moment around the beginning of a wait are all seen."""
    async with Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher:

        async def one(number: int) -> Any:
            storing = asyncio.create_task(_store(redis, f"t{number}", "SUCCESS", number))
            for _ in range(number % 17):
                await asyncio.sleep(0)
            meta = await publisher.results.wait(f"t{number}", timeout=60)
            await storing
            return meta.result

        for start in range(0, 400, 20):
            numbers = range(start, start + 20)
            assert await asyncio.gather(*map(one, numbers)) == list(numbers)


async def test_many_wait_for_one(redis_url: str, redis: Redis) -> None:
    """All who wait for one task get its result; one who gives up takes nothing from the others."""
    async with Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher:
        hasty = asyncio.create_task(publisher.results.wait("t", timeout=0.05))
        patient = [asyncio.create_task(publisher.results.wait("t", timeout=30)) for _ in range(5)]
        gone = asyncio.create_task(publisher.results.wait("t", timeout=30))
        with pytest.raises(ResultTimeout):
            await hasty
        gone.cancel()
        await _subscribed(redis, 1)
        await _store(redis, "t", "SUCCESS", 7)
        assert [meta.result for meta in await asyncio.gather(*patient)] == [7] * 5
        await _subscribed(redis, 0)


@pytest.mark.usefixtures("no_safety_look")
async def test_rejoining_while_leaving(redis_url: str, redis: Redis) -> None:
    """Whoever waits again for a task just after the last one left misses nothing."""
    async with Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher:
        for number in range(50):
            task_id = f"t{number}"
            first = asyncio.create_task(publisher.results.wait(task_id, timeout=30))
            await _subscribed(redis, 1)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            storing = asyncio.create_task(_store(redis, task_id, "SUCCESS", number))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            assert (await publisher.results.wait(task_id, timeout=60)).result == number
            await storing
            await _subscribed(redis, 0)


@pytest.mark.usefixtures("no_safety_look")
async def test_who_subscribes_before_the_submission_is_not_looked_up(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short program costs one command to wait for: its channel takes the last one's place."""
    monkeypatch.setattr(waiter, "LATE_LOOK_S", 600.0)
    monkeypatch.setattr(waiter, "_LINGER_S", 600.0)
    async with Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher:
        await _store(redis, "warm up", "SUCCESS", 0)
        await publisher.results.wait("warm up", timeout=60)
        await redis.config_resetstat()
        for number in range(5):
            with publisher.results.expecting(f"t{number}") as coming:
                await _subscribed(redis, 1)
                await _store(redis, f"t{number}", "SUCCESS", number)
                async with asyncio.timeout(60):
                    assert (await coming).result == number
        stats = await redis.info("commandstats")
        assert stats["cmdstat_subscribe"]["calls"] == stats["cmdstat_unsubscribe"]["calls"] == 5
        assert "cmdstat_mget" not in stats


@pytest.mark.usefixtures("no_safety_look")
async def test_an_end_before_the_subscription_is_found(redis_url: str, redis: Redis) -> None:
    """The server may take the submission first, and have its result before anybody listens."""
    async with Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher:
        await _store(redis, "warm up", "SUCCESS", 0)
        await publisher.results.wait("warm up", timeout=60)
        await _store(redis, "t", "SUCCESS", 7)
        with publisher.results.expecting("t") as coming:
            async with asyncio.timeout(60):
                assert (await coming).result == 7


@pytest.mark.usefixtures("no_safety_look")
async def test_who_waits_beside_a_submission_is_looked_up(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for what may have ended long ago does not depend on who sends it."""
    monkeypatch.setattr(waiter, "LATE_LOOK_S", 600.0)
    async with Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher:
        await _store(redis, "t", "SUCCESS", 7)
        with publisher.results.expecting("t"):
            assert (await publisher.results.wait("t", timeout=60)).result == 7
        with publisher.results.expecting("u"):
            await _subscribed(redis, 1)
            await redis.set("celery-task-meta-u", encode_meta("u", "SUCCESS", 8))
            assert (await publisher.results.wait("u", timeout=60)).result == 8


async def test_states_on_the_way_do_not_end_a_wait(redis_url: str, redis: Redis) -> None:
    """Only a last state ends a wait; garbage on the channel does not."""
    async with Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher:
        waiting = asyncio.create_task(publisher.results.wait("t", timeout=30))
        await _subscribed(redis, 1)
        for status in ("STARTED", "RETRY", "PROGRESS"):
            await _store(redis, "t", status, None)
        await redis.publish("celery-task-meta-t", b"garbage")
        await redis.publish("celery-task-meta-t", b"\xff\x00")
        await redis.publish("celery-task-meta-t", b'{"status": 7}')
        await _store(redis, "t", "SUCCESS", "end")
        assert (await waiting).result == "end"


async def test_how_a_task_ended(redis_url: str, redis: Redis) -> None:
    """A failure, a revocation and a missing result are each their own error."""
    async with Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher:
        result = await publisher.send_task("a.b")
        assert await result.state() == "PENDING"
        with pytest.raises(ResultTimeout):
            await result.get(timeout=0.05)
        failure = exception_result(ValueError("bang", 42))
        await _store(redis, result.id, "FAILURE", failure, traceback="Traceback …")
        with pytest.raises(TaskFailed, match="ValueError: bang, 42") as caught:
            await result.get(timeout=60)
        assert (caught.value.exc_module, caught.value.traceback) == ("builtins", "Traceback …")
        await _store(redis, result.id, "REVOKED", revoked_result("terminated"))
        with pytest.raises(TaskRevoked, match="terminated"):
            await result.get(timeout=60)


async def test_lookups_share_a_command(redis_url: str, redis: Redis) -> None:
    """Many who ask for stored results at once cost one MGET."""
    await _store(redis, "t1", "SUCCESS", 1)
    await redis.set("celery-task-meta-broken", b"garbage")
    async with Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher:
        await publisher.results.meta("warm up")
        await redis.config_resetstat()
        metas = await asyncio.gather(*(publisher.results.meta(f"t{n % 5}") for n in range(100)))
        stats = await redis.info("commandstats")
        assert stats["cmdstat_mget"]["calls"] <= 2
        found = [meta for meta in metas if meta is not None]
        assert len(found) == 20
        assert {meta.result for meta in found} == {1}
        assert await publisher.results.metas(["t1", "none", "broken"]) == [found[0], None, None]
        assert await publisher.results.meta("\udc80") is None


async def test_group_result(redis_url: str, redis: Redis) -> None:
    """A group's handle collects its members in order, and fails with the first failure."""
    from crucible.broker.canvas.signature import signature

    async with Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher:
        sent = await publisher.send_group([signature("a.b", [n]) for n in range(3)])
        for number, member in reversed(list(enumerate(sent.results))):
            await _store(redis, member.id, "SUCCESS", number)
        assert await sent.get(timeout=60) == [0, 1, 2]
        await _store(redis, sent.results[1].id, "FAILURE", exception_result(ValueError("bad")))
        with pytest.raises(TaskFailed):
            await sent.get(timeout=60)


async def test_the_safety_look_comes_whoever_else_arrives(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result that was stored unheard is found although new waiters come all the time."""
    monkeypatch.setattr(waiter, "SAFETY_LOOK_S", 0.3)
    async with (
        Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher,
        asyncio.TaskGroup() as others,
    ):
        unheard = asyncio.create_task(publisher.results.wait("unheard", timeout=30))
        await _subscribed(redis, 1)
        await redis.set("celery-task-meta-unheard", encode_meta("unheard", "SUCCESS", 1))
        arrived = []
        for number in range(40):
            await asyncio.wait([unheard], timeout=0.1)
            if unheard.done():
                break
            arrived.append(others.create_task(publisher.results.wait(f"other{number}", timeout=60)))
        assert unheard.done()
        assert (await unheard).value() == 1
        for task in arrived:
            task.cancel()


async def test_an_outage_is_one_line(
    proxied_url: str, proxy: FaultProxy, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it tries to subscribe again meanwhile; and the end is heard of."""
    async with Publisher.connect(proxied_url) as publisher:
        wait = asyncio.create_task(publisher.results.wait("t", timeout=PATIENCE_S))
        await _subscribed(redis, 1)
        tried = proxy.accepted
        proxy.set(Fault.RESET)
        async with asyncio.timeout(PATIENCE_S):
            while proxy.accepted < tried + 5:
                await asyncio.sleep(0.01)
        proxy.set(Fault.PASS)
        await _store(redis, "t", "SUCCESS", 7)
        assert (await wait).result == 7
    assert len([line for line in caplog.messages if "not heard of" in line]) == 1
    assert len(caplog.messages) <= 2, caplog.messages
