"""What a refused submission says of the program: in a queue, in none, or not known."""

from __future__ import annotations

import functools
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from support.api_rig import queued, running_api
from support.faults import Fault, FaultProxy

from crucible.broker import IdempotencyRecord, Publisher
from crucible.embedded.server import EmbeddedServer, free_port
from crucible.errors import BrokerUnavailable, NothingStored
from crucible.legacy import LegacyClient, LegacyQueue, open_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from crucible.embedded.server import EmbeddedServer

NOTHING = "nothing was queued"
SAFE = "whether it was queued is not known, sending the same again is safe"
TWICE = "it may run twice when sent again"
NAMES: list[dict[str, Any]] = [
    {"json": {"code": "x", "eval_id": "mine"}},
    {"json": {"code": "x"}, "headers": {"Idempotency-Key": "mine"}},
]


async def refusal(client: aiohttp.ClientSession, **request: Any) -> str:
    """The detail of the 503 that a submission gets."""
    async with client.post("/api/eval", **request) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "2")
        return str((await response.json(content_type=None))["detail"])


async def accepted(client: aiohttp.ClientSession, **request: Any) -> int:
    """The status of a submission that is taken, now or before."""
    async with client.post("/api/eval", **request) as response:
        assert response.status in (200, 202), await response.text()
        return response.status


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "handler"])
@pytest.mark.parametrize("name", NAMES, ids=["eval_id", "key"])
async def test_a_submission_that_got_no_answer_may_be_queued(
    redis_url: str, redis: Redis, name: dict[str, Any], direct: bool
) -> None:
    """It is queued once the server goes on; the same again finds it, and others are warned."""
    parts = urlsplit(redis_url)
    async with (
        FaultProxy("127.0.0.1", parts.port or 0) as proxy,
        running_api(
            f"redis://127.0.0.1:{proxy.port}{parts.path}", direct=direct, publish_deadline_s=0.3
        ) as client,
    ):
        assert await accepted(client, json={"code": "opens the connection"}) == 202
        proxy.set(Fault.LOST_REPLIES)
        assert SAFE in await refusal(client, **name)
        proxy.set(Fault.PASS)
        assert len(await queued(redis)) == 2
        assert await accepted(client, **name) == 200
        proxy.set(Fault.LOST_REPLIES)
        assert TWICE in await refusal(client, json={"code": "x"})
        async with client.get("/api/eval/mine") as response:
            answer = await response.json(content_type=None)
            assert (response.status, answer["detail"]) == (503, "the queue server does not answer")


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "handler"])
@pytest.mark.parametrize("listens", [True, False], ids=["silent", "nobody"])
async def test_a_submission_that_was_never_sent_is_not_queued(direct: bool, listens: bool) -> None:
    """Nobody listens, or whoever does says nothing: no word of the program went out."""
    async with AsyncExitStack() as stack:
        port = free_port()
        if listens:
            proxy = await stack.enter_async_context(FaultProxy("127.0.0.1", port))
            proxy.set(Fault.STALL)
            port = proxy.port
        client = await stack.enter_async_context(
            running_api(f"redis://127.0.0.1:{port}/0", direct=direct, publish_deadline_s=0.3)
        )
        assert NOTHING in await refusal(client, json={"code": "x"})
        assert NOTHING in await refusal(client, **NAMES[0])


@pytest.mark.parametrize("scripting", [True, False], ids=["script", "plain"])
async def test_a_write_knows_whether_it_may_have_arrived(
    redis_url: str, redis: Redis, scripting: bool
) -> None:
    """The same for users of the publisher: an error of its own where nothing was stored."""
    parts = urlsplit(redis_url)
    async with (
        FaultProxy("127.0.0.1", parts.port or 0) as proxy,
        Publisher.connect(
            f"redis://127.0.0.1:{proxy.port}{parts.path}", scripting=scripting, deadline_s=0.3
        ) as publisher,
    ):
        proxy.set(Fault.STALL)
        with pytest.raises(NothingStored):
            await publisher.publish(b"1", queue="q")
        proxy.set(Fault.PASS)
        await publisher.publish(b"2", queue="q")
        proxy.set(Fault.LOST_REPLIES)
        with pytest.raises(BrokerUnavailable) as caught:
            await publisher.publish(b"3", queue="q")
        assert not isinstance(caught.value, NothingStored)
        assert await redis.lrange("q", 0, -1) == [b"3", b"2"]


async def test_a_server_out_of_memory_stored_nothing(scratch_server: EmbeddedServer) -> None:
    """What the server turned down is in no doubt."""
    async with (
        Publisher.connect(scratch_server.url) as publisher,
        Redis.from_url(scratch_server.url) as redis,
    ):
        await redis.config_set("maxmemory", 1)
        with pytest.raises(NothingStored):
            await publisher.publish(b"1", queue="q", idempotency=IdempotencyRecord("once", b"", 9))
        await redis.config_set("maxmemory", 0)
        assert await redis.keys() == []


@asynccontextmanager
async def before_legacy(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, **flags: Any
) -> AsyncIterator[tuple[aiohttp.ClientSession, FaultProxy, LegacyQueue]]:
    """The API with a legacy queue behind a way that fails on command, and little patience."""
    quick = functools.partial(LegacyClient, deadline_s=0.5)
    monkeypatch.setattr("crucible.migration.live.migration.LegacyClient", quick)
    queue = LegacyQueue()
    async with (
        open_service(queue=queue) as port,
        FaultProxy("127.0.0.1", port) as proxy,
        running_api(
            redis_url, queue_service_url=f"http://127.0.0.1:{proxy.port}", **flags
        ) as client,
    ):
        yield client, proxy, queue


async def test_the_legacy_queue_may_have_what_it_did_not_confirm(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same of the other side; the same again is not queued twice."""
    flags = {"celery_percentage": 0.0, "breaker_failures": 100}
    async with before_legacy(redis_url, monkeypatch, **flags) as (client, proxy, queue):
        proxy.set(Fault.LOST_REPLIES)
        for name in NAMES:
            assert SAFE in await refusal(client, **name)
        assert TWICE in await refusal(client, json={"code": "x"})
        assert queue.stats().queued == 3
        proxy.set(Fault.PASS)
        for name in NAMES:
            await accepted(client, **name)
        assert queue.stats().queued == 3
        queue.draining = True
        assert NOTHING in await refusal(client, json={"code": "x"})


async def test_doubt_about_one_side_is_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A legacy queue that did not confirm may have it, whatever is known of the queue server."""
    flags = {"celery_percentage": 1.0, "breaker_failures": 2, "publish_deadline_s": 0.3}
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    async with before_legacy(nobody, monkeypatch, **flags) as (client, proxy, queue):
        proxy.set(Fault.LOST_REPLIES)
        assert TWICE in await refusal(client, json={"code": "x"})
        proxy.set(Fault.PASS)
        assert await accepted(client, json={"code": "x"}) == 202
        # Now the queue server's circuit is open, and the legacy queue is asked first.
        proxy.set(Fault.LOST_REPLIES)
        assert TWICE in await refusal(client, json={"code": "x"})
        assert queue.stats().queued == 3
