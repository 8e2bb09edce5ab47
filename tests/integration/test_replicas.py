"""A 202 that waits for replicas: confirmed, not confirmed, and sent again."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from support.api_rig import queued, running_api
from support.servers import KindOfServer

from crucible.broker import IdempotencyRecord, Publisher
from crucible.broker.wire.encode import encode_task
from crucible.doctor.queue_server import check_queue_server
from crucible.errors import NotReplicated, QueueFull
from crucible.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from crucible.embedded.server import EmbeddedServer

#: Seconds for a submission, of which a replica that is silent takes most.
DEADLINE_S = 1.9
RAW = encode_task("a.b", [], task_id="t", queue="a")


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[EmbeddedServer, EmbeddedServer]]:
    """A master and the one replica that follows it."""
    fast = ("--repl-diskless-sync-delay", "0")
    async with KindOfServer(tmp_path / "master", "embedded", *fast) as master:
        follow = ("--replicaof", "127.0.0.1", str(master.port))
        async with (
            KindOfServer(tmp_path / "replica", "embedded", *follow) as replica,
            Redis.from_url(replica.url) as client,
        ):
            while (await client.info("replication"))["master_link_status"] != "up":
                await asyncio.sleep(0.02)
            yield master, replica


@contextmanager
def stopped(server: EmbeddedServer) -> Iterator[None]:
    """A server that does nothing, and whose connections stay open."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


async def waits(server: EmbeddedServer) -> int:
    """How often WAIT was sent to a server."""
    async with Redis.from_url(server.url) as client:
        seen: dict[str, Any] = await client.info("commandstats")
        return int(seen.get("cmdstat_wait", {"calls": 0})["calls"])


@pytest.mark.parametrize("scripting", [True, False])
async def test_a_publication_returns_when_the_replica_has_it(
    pair: tuple[EmbeddedServer, EmbeddedServer], scripting: bool
) -> None:
    """What was published can be read at the replica at once; one WAIT a flush, none without."""
    master, replica = pair
    async with (
        Publisher.connect(master.url, replicas=1, scripting=scripting) as publisher,
        Redis.from_url(replica.url) as reader,
    ):
        for number in range(1, 21):
            await publisher.publish(RAW, queue="a")
            assert await reader.llen("a") == number
        assert await waits(master) == 20
        await asyncio.gather(*(publisher.publish(RAW, queue="a") for _ in range(100)))
        assert await reader.llen("a") == 120
        # The first that came went alone, and all others with the flush after it.
        assert await waits(master) <= 22
    async with Publisher.connect(master.url, scripting=scripting) as publisher:
        before = await waits(master)
        await publisher.publish(RAW, queue="a")
        assert await waits(master) == before


@pytest.mark.parametrize("scripting", [True, False])
async def test_silence_of_the_replica_is_never_a_success(
    pair: tuple[EmbeddedServer, EmbeddedServer], scripting: bool
) -> None:
    """Too few confirmations are an error, also for a repetition, until the replica has it."""
    master, replica = pair
    async with (
        Publisher.connect(
            master.url, replicas=1, scripting=scripting, deadline_s=DEADLINE_S
        ) as publisher,
        Publisher.connect(
            master.url, replicas=1, scripting=scripting, deadline_s=DEADLINE_S
        ) as another,
        Redis.from_url(master.url) as writer,
    ):
        once = IdempotencyRecord(publisher.keys.idempotency("x"), b"first", 60)
        with stopped(replica):
            with pytest.raises(NotReplicated) as refused:
                await publisher.publish(RAW, queue="a", idempotency=once)
            assert (refused.value.confirmed, refused.value.wanted) == (0, 1)
            # Another connection wrote nothing yet, of which WAIT would say that it is replicated.
            with pytest.raises(NotReplicated):
                await another.publish(RAW, queue="a", idempotency=once)
        assert await another.publish(RAW, queue="a", idempotency=once) == b"first"
        assert await writer.llen("a") == 1
        assert 50_000 < await writer.pttl(once.key) <= 60_000


async def test_a_refusal_of_its_own_stays_what_it_is(
    pair: tuple[EmbeddedServer, EmbeddedServer],
) -> None:
    """A full queue takes nothing, so replicas are not asked about it."""
    master, replica = pair
    async with Publisher.connect(
        master.url, replicas=1, queue_limit=1, deadline_s=DEADLINE_S
    ) as publisher:
        await publisher.publish(RAW, queue="a")
        with stopped(replica), pytest.raises(QueueFull):
            await publisher.publish(RAW, queue="a")


async def test_a_user_without_the_right_to_wait_gets_no_false_success(
    pair: tuple[EmbeddedServer, EmbeddedServer],
) -> None:
    """The write is there and nobody knows about replicas: that is what the error says."""
    master, _ = pair
    async with Redis.from_url(master.url) as client:
        asked: Any = client
        rights = ("on", ">p", "~*", "&*", "+@all", "-wait")
        await asked.execute_command("ACL", "SETUSER", "u", *rights)
        url = f"redis://u:p@127.0.0.1:{master.port}/0"
        async with Publisher.connect(url, replicas=1) as publisher:
            with pytest.raises(NotReplicated):
                await publisher.publish(RAW, queue="a")
        assert await client.llen("a") == 1


@pytest.mark.parametrize("direct", [True, False])
async def test_the_503_names_the_evaluation(
    pair: tuple[EmbeddedServer, EmbeddedServer], direct: bool
) -> None:
    """Sent again under the id that the 503 names it is found, and queued once."""
    master, replica = pair
    body = {"code": "print(1)", "language": "python"}
    async with (
        running_api(master.url, direct=direct, replicas=1, publish_deadline_s=DEADLINE_S) as client,
        Redis.from_url(master.url) as redis,
    ):
        async with client.post("/api/eval", json=body) as answer:
            assert answer.status == 202, await answer.text()
        with stopped(replica):
            async with client.post("/api/eval", json=body) as answer:
                assert answer.status == 503
                assert answer.headers["Retry-After"] == "2"
                problem = await answer.json()
            again = {**body, "eval_id": problem["eval_id"]}
            assert "0 of 1 replicas confirmed it" in problem["detail"]
            assert "sending the same again with this eval_id is safe" in problem["detail"]
            async with client.post("/api/eval", json=again) as answer:
                assert answer.status == 503
        async with client.post("/api/eval", json=again) as answer:
            assert answer.status == 200
            assert (await answer.json())["status"] == "queued"
        assert len(await queued(redis)) == 2
        async with client.post("/api/eval/batch", json=[body, body]) as answer:
            assert answer.status == 202
        with stopped(replica):
            async with client.post("/api/eval/batch", json=[body, again]) as answer:
                items = (await answer.json())["items"]
        assert [item["status"] for item in items] == ["rejected", "rejected"]
        assert items[1]["error"]["eval_id"] == problem["eval_id"]


async def test_doctor_counts_the_replicas(pair: tuple[EmbeddedServer, EmbeddedServer]) -> None:
    """Fewer than asked for is a failure, and so is a user who may not ask for confirmation."""
    master, _ = pair
    admin: Any
    async with Redis.from_url(master.url) as admin:
        rights = ("~*", "&*", "+@all", "-wait")
        await admin.execute_command("ACL", "SETUSER", "w", "on", ">pw", *rights)
    refused = master.url.replace("redis://", "redis://w:pw@")
    assert await findings(master.url, 1) == []
    assert await findings(refused, 0) == []
    [few] = await findings(master.url, 2)
    assert few.startswith("1 of the 2 replicas of CRUCIBLE_REPLICAS follow it")
    assert await findings(refused, 1) == ["it does not let this user run WAIT"]


async def findings(url: str, replicas: int) -> list[str]:
    """What doctor finds wrong with a server."""
    checks = await check_queue_server(Settings(celery_broker_url=url, replicas=replicas))
    return [check.detail for check in checks if not check.ok]
