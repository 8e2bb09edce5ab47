"""The publisher when the server or the way to it fails."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis
from support.faults import Fault, FaultProxy
from support.patience import PATIENCE_S

from crucible.broker import IdempotencyRecord, Publisher
from crucible.broker.publishing.group_commit import PublishResult, Write
from crucible.broker.publishing.sent_events import SentEvents
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.link import Link
from crucible.broker.results.meta import encode_meta
from crucible.broker.wire.encode import encode_task
from crucible.embedded.server import EmbeddedServer, free_port
from crucible.errors import BrokerUnavailable
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


DEAD = [Fault.STALL, Fault.BLACKHOLE, Fault.RESET, Fault.LOST_REPLIES]


@pytest.mark.parametrize("scripting", [True, False], ids=["script", "plain"])
@pytest.mark.parametrize("fault", DEAD)
async def test_every_caller_hears_of_a_dead_link(
    proxied_url: str, proxy: FaultProxy, redis: Redis, fault: Fault, scripting: bool
) -> None:
    """Callers of any moment get BrokerUnavailable within a deadline, and publishing resumes."""
    async with Publisher.connect(proxied_url, scripting=scripting) as publisher:
        await publisher.publish(b"before", queue="q")
        proxy.set(fault)

        async def attempt(number: int) -> None:
            await asyncio.sleep(number * 0.02)
            with pytest.raises(BrokerUnavailable):
                await publisher.publish(b"%d" % number, queue="q")

        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(attempt(number) for number in range(40)))
        proxy.set(Fault.PASS)
        await publisher.publish(b"after", queue="q")
    assert await redis.lindex("q", 0) == b"after"


async def test_half_open_link_is_noticed(proxied_url: str, proxy: FaultProxy, redis: Redis) -> None:
    """A connection whose other side is gone fails one publication and is then replaced."""
    async with Publisher.connect(proxied_url) as publisher:
        await publisher.publish(b"before", queue="q")
        proxy.set(Fault.HALF_OPEN)
        with pytest.raises(BrokerUnavailable):
            await publisher.publish(b"into nothing", queue="q")
        await publisher.publish(b"after", queue="q")
    assert await redis.lrange("q", 0, -1) == [b"after", b"before"]


async def test_once_makes_an_ambiguous_failure_safe_to_repeat(
    proxied_url: str, proxy: FaultProxy, redis: Redis
) -> None:
    """A publication whose answer was lost is found, not pushed again, by its repetition."""
    async with Publisher.connect(proxied_url) as publisher:
        await publisher.publish(b"before", queue="q")
        proxy.set(Fault.LOST_REPLIES)
        once = IdempotencyRecord("once", b"first", 60)
        with pytest.raises(BrokerUnavailable):
            await publisher.publish(b"message", queue="q", idempotency=once)
        proxy.set(Fault.PASS)
        assert await publisher.publish(b"message", queue="q", idempotency=once) == b"first"
    assert await redis.lrange("q", 0, -1) == [b"message", b"before"]


async def test_a_short_interruption_is_ridden_out(
    proxied_url: str, proxy: FaultProxy, redis: Redis
) -> None:
    """While connecting fails nothing was sent, so it is tried again until the deadline."""
    proxy.set(Fault.RESET)
    async with Publisher.connect(proxied_url) as publisher:
        sending = asyncio.create_task(publisher.publish(b"message", queue="q"))
        while proxy.accepted < 3:
            await asyncio.sleep(0.01)
        proxy.set(Fault.PASS)
        await sending
    assert await redis.llen("q") == 1


async def test_restart_of_the_server(tmp_path: Path) -> None:
    """After a restart publishing goes on over a new connection, with the script loaded anew."""
    port = free_port()
    async with Publisher.connect(f"redis://127.0.0.1:{port}/0") as publisher:
        async with EmbeddedServer(tmp_path, port=port):
            await publisher.publish(b"1", queue="q")
            assert await publisher.results.meta("none") is None
        with pytest.raises(BrokerUnavailable):
            await publisher.publish(b"2", queue="q")
        async with EmbeddedServer(tmp_path, port=port):
            await publisher.publish(b"3", queue="q")
            assert await publisher.results.meta("none") is None


@pytest.mark.parametrize("scripting", [True, False], ids=["script", "plain"])
async def test_demoted_server(scratch_server: EmbeddedServer, scripting: bool) -> None:
    """A server that became a replica is unavailable, not wrong, until it is a master again."""
    async with (
        Publisher.connect(scratch_server.url, scripting=scripting) as publisher,
        Redis.from_url(scratch_server.url) as client,
    ):
        await publisher.publish(b"1", queue="q")
        await client.replicaof("127.0.0.1", "1")
        with pytest.raises(BrokerUnavailable):
            await publisher.publish(b"2", queue="q")
        await client.replicaof("NO", "ONE")
        await publisher.publish(b"3", queue="q")
        assert await client.lrange("q", 0, -1) == [b"3", b"1"]


async def test_nothing_listens() -> None:
    """Without a server every call ends in BrokerUnavailable within a deadline."""
    async with Publisher.connect("redis://127.0.0.1:1/0") as publisher:
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(BrokerUnavailable):
                await publisher.send_task("a.b")
            with pytest.raises(BrokerUnavailable):
                await publisher.results.meta("x")


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.BLACKHOLE, Fault.HALF_OPEN, Fault.STALL])
async def test_waiting_survives_the_loss_of_its_subscription(
    proxied_url: str, proxy: FaultProxy, redis: Redis, fault: Fault
) -> None:
    """A result published while the subscription was dead reaches its waiter all the same."""
    async with Publisher.connect(proxied_url) as publisher:
        waiting = asyncio.create_task(publisher.results.wait("t", timeout=30))
        while await redis.pubsub_numsub("celery-task-meta-t") != [(b"celery-task-meta-t", 1)]:
            await asyncio.sleep(0.01)
        proxy.set(fault)
        meta = encode_meta("t", "SUCCESS", 42)
        await redis.set("celery-task-meta-t", meta)
        await redis.publish("celery-task-meta-t", meta)
        assert not waiting.done()
        proxy.set(Fault.PASS)
        assert (await waiting).result == 42


class Confirming:
    """A sender to a server that takes everything."""

    reached = True

    async def send(self, writes: Sequence[Write]) -> Sequence[PublishResult]:
        return [PublishResult(pushed=len(write.messages)) for write in writes]


async def test_events_left_at_the_end_are_logged_with_the_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server that would take them is gone: the line says so."""
    raw = encode_task("p.add", [1, 2], task_id="a")
    ignored: Any = None
    write = Write("q", "q", [raw], None, ignored, 0.0, len(raw))
    url = f"redis://127.0.0.1:{free_port()}/0"
    async with open_client(url) as client:
        async with SentEvents(Confirming(), Link(client), Keys(), 0, "gen1@rig") as events:
            await events.send([write])
    assert "closing with task-sent events unsent: they were not taken within 1 s" in caplog.text
