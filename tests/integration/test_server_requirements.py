"""Servers that cannot carry the queue are refused at start, and named by doctor and readiness."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from support.api_rig import running_api
from support.server_states import State, provoked, stage
from support.servers import KINDS, KindOfServer

from crucible.broker import Publisher
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.requirements import Weight, judge, read_facts
from crucible.doctor.queue_server import check_queue_server, check_result_server
from crucible.errors import RequirementError
from crucible.redis_keys import Keys
from crucible.settings import Settings, load_settings
from crucible.worker import TaskRegistry
from crucible.worker.worker import Worker

PAGE = Path(__file__).resolve().parents[2] / "docs" / "queue-server.md"


@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_of_a_full_right_is_missing(kind: str, tmp_path: Path) -> None:
    """Every command that is tried exists on every kind of server, and leaves nothing behind."""
    async with KindOfServer(tmp_path, kind) as server, Redis.from_url(server.url) as redis:
        async with open_client(server.url) as client:
            found = await read_facts(client, Keys())
        assert [finding.weight for finding in judge(found)] == [Weight.DOUBT], found
        assert await redis.keys("*") == []


@pytest.mark.parametrize("kind", KINDS)
async def test_the_rights_of_the_docs_suffice(kind: str, tmp_path: Path) -> None:
    """A worker and the api start with them, and a task runs."""
    [rule] = re.findall(r"ACL SETUSER crucible on >PASSWORD ([^`]*)```", PAGE.read_text())
    # Also on the page; only 7.0 does not know it.
    more = [] if kind == "redis-7.0" else ["+client|setinfo"]
    tasks = TaskRegistry()

    @tasks.task("add")
    async def add(ctx: Any, x: int, y: int) -> int:
        return x + y

    async with KindOfServer(tmp_path, kind) as server, Redis.from_url(server.url) as redis:
        admin: Any = redis
        rights = [*rule.replace("\\\n", " ").split(), *more]
        await admin.execute_command("ACL", "SETUSER", "crucible", "on", ">PASSWORD", *rights)
        url = f"redis://crucible:PASSWORD@127.0.0.1:{server.port}/0"
        async with (
            running_api(url) as client,
            Publisher.connect(url, events=True) as publisher,
            Worker(tasks, broker_url=url, events=True),
        ):
            assert await (await publisher.send_task("add", [1, 2], countdown=0.1)).get(20) == 3
            async with client.get("/ready") as answer:
                assert (await answer.json())["workers"] == 1
        log: list[Any] = await admin.acl_log()
        assert log == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_right_that_is_missing_is_found_by_trying(kind: str, tmp_path: Path) -> None:
    """A worker without RPOP idled for ever in silence; now it does not start, and says why."""
    async with KindOfServer(tmp_path, kind) as server, Redis.from_url(server.url) as redis:
        await set_user(redis, "~*", "&*", "+@all", "-rpop")
        url = f"redis://w:pw@127.0.0.1:{server.port}/0"
        with pytest.raises(RequirementError, match="not let this user run RPOP"):
            async with Worker(TaskRegistry(), broker_url=url):
                pass
        async with running_api(url):
            pass  # it does not need that right


async def test_a_pattern_that_is_missing_is_found(scratch_server: Any) -> None:
    """Results go to keys and channels of their own."""
    async with Redis.from_url(scratch_server.url) as redis:
        await set_user(redis, "~crucible:*", "~unacked*", "~celery", "&*", "+@all")
        async with open_client(f"redis://w:pw@127.0.0.1:{scratch_server.port}/0") as client:
            forbidden = (await read_facts(client, Keys())).forbidden
    assert [name.split("probe")[0] for name in forbidden] == ["DEL on celery-task-meta-"]


@pytest.mark.parametrize("kind", KINDS)
async def test_cluster_mode_is_refused(kind: str, tmp_path: Path) -> None:
    """By the worker, the api and doctor; an api that met it later is not ready."""
    async with stage(tmp_path, kind, State.CROSSSLOT) as on:
        with pytest.raises(RequirementError, match="cluster mode"):
            async with Worker(TaskRegistry(), broker_url=on.url):
                pass
        with pytest.raises(RequirementError, match="cluster mode"):
            async with running_api(on.url):
                pass
        details = [check.detail for check in await check_queue_server(settings(on.url))]
        assert any("cluster mode" in detail for detail in details)


async def test_a_result_server_of_its_own_is_examined_too(
    redis_url: str, scratch_server: Any
) -> None:
    """By doctor, but for its rights; it is not named where it is the queue server."""
    url = scratch_server.url
    assert await check_result_server(settings(redis_url)) == []
    assert await check_result_server(settings(url, celery_result_backend=url)) == []
    both = settings(redis_url, celery_result_backend=url)
    [answers] = await check_result_server(both)
    assert (answers.name, answers.ok) == ("Result server", True)
    async with Redis.from_url(url) as redis:
        await redis.config_set("maxmemory", 100 << 20)
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        _, doubt = await check_result_server(both)
        await redis.config_set("maxmemory", 1)
        await redis.config_set("maxmemory-policy", "noeviction")
        full = [check.detail for check in await check_result_server(both) if not check.ok]
        await redis.config_set("maxmemory", 0)
    assert (doubt.name, doubt.ok) == ("Result server set-up", True)
    assert "allkeys-lru" in doubt.detail
    assert ["OOM" in detail for detail in full] == [True]


@pytest.mark.parametrize("state", [State.OOM, State.READONLY, State.NOREPLICAS, State.MISCONF])
async def test_a_state_is_shown_while_it_lasts(state: State, tmp_path: Path) -> None:
    """``/ready``, ``doctor`` and the answer to a submission say what is the matter."""
    async with stage(tmp_path, "embedded", state) as on, running_api(on.url) as client:
        async with client.get("/ready") as answer:
            assert (await answer.json())["dependencies"]["queue"] == {"ok": True}
        async with provoked(on):
            async with client.get("/ready") as answer:
                report = await answer.json()
                assert answer.status == 503
                assert state.value in report["dependencies"]["queue"]["detail"]
            async with client.post("/api/eval", json={"code": "1"}) as answer:
                refused = await answer.json()
                assert answer.status == 503
                assert "nothing was queued by this request" in refused["detail"]
            async with client.get("/metrics") as answer:
                metrics = await answer.text()
            checks = await check_queue_server(settings(on.url))
        assert ("memory of the queue server is full" in refused["detail"]) == (state is State.OOM)
        assert ("queue_server_memory_full 1.0" in metrics) == (state is State.OOM)
        assert any(not check.ok and state.value in check.detail for check in checks)
        async with client.post("/api/eval", json={"code": "1"}) as answer:
            assert answer.status == 202
        async with client.get("/metrics") as answer:
            assert "queue_server_memory_full 0.0" in await answer.text()


async def set_user(redis: Any, *rules: str) -> None:
    """Make the user that a service connects as."""
    await redis.execute_command("ACL", "SETUSER", "w", "on", ">pw", *rules)


def settings(url: str, **more: str) -> Settings:
    """As ``doctor`` has them."""
    return load_settings({}, flags={"celery_broker_url": url, **more})
