"""Each fault of a migration: what the client sees, and that verify finds every evaluation."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from redis.asyncio import Redis
from stock_rig.environments import PROJECT
from stock_rig.worker import StockWorker
from support.api_rig import running_api
from support.faults import Fault, FaultProxy
from support.listening import executor_service
from support.migration_rig import (
    LegacyInstallation,
    LocalExecutor,
    both_sides,
    celery_worker,
    completed,
    look,
    status,
    submit,
    switch,
    until,
)
from support.patience import PATIENCE_S
from support.worker_rig import crucible

from crucible.evaluation.request import EvalRequest
from crucible.legacy.client import LegacyClient
from crucible.legacy.wire import TaskState, TaskView
from crucible.migration.operations.drain import drain
from crucible.migration.operations.recover import to_celery, to_legacy
from crucible.migration.operations.repair import repair
from crucible.migration.operations.sides import Sides
from crucible.migration.operations.verify import Verification, verify
from crucible.models import Program
from crucible.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: A breaker that opens soon and tries again soon.
QUICK: dict[str, Any] = {"breaker_failures": 2, "breaker_open_s": 0.5, "publish_deadline_s": 0.5}


@asynccontextmanager
async def sides_of(redis_url: str, legacy_url: str = "", **flags: Any) -> AsyncIterator[Sides]:
    """What an operator's command sees."""
    flags = {"celery_broker_url": redis_url, "queue_service_url": legacy_url or None, **flags}
    async with Sides.connect(load_settings({}, flags=flags)) as sides:
        yield sides


async def verified(redis_url: str, legacy_url: str = "") -> Verification:
    """What ``crucible migration verify`` finds."""
    async with sides_of(redis_url, legacy_url) as sides:
        return (await verify(sides))[0]


@asynccontextmanager
async def proxied(redis_url: str) -> AsyncIterator[tuple[FaultProxy, str]]:
    """A way to the queue server that fails on command, and its URL."""
    parts = urlsplit(redis_url)
    async with FaultProxy("127.0.0.1", parts.port or 6379) as proxy:
        yield proxy, f"redis://127.0.0.1:{proxy.port}{parts.path}"


@pytest.mark.parametrize("flags", [{"force_legacy_queue": True}, {"dual_write": True}])
async def test_legacy_down_is_a_503_and_nothing_is_on_record(
    redis_url: str, flags: dict[str, Any]
) -> None:
    """503 with Retry-After; no trace of the refused submission is left to be verified."""
    async with both_sides(redis_url, **flags, **QUICK) as (client, legacy):
        await legacy.crash()
        for body in ({"code": "print(1)"}, {"code": "print(1)", "eval_id": "mine"}):
            async with client.post("/api/eval", json=body) as response:
                answer = await response.json()
                assert (response.status, response.headers["Retry-After"]) == (503, "2")
                assert "nothing was queued" in answer["detail"]
        await legacy.start()
        found = await verified(redis_url, legacy.url)
        assert (found.accepted, found.proved) == (0, True)

        async def accepted() -> bool:
            async with client.post("/api/eval", json={"code": "print(1)"}) as response:
                return response.status == 202

        await until(accepted)


@pytest.mark.parametrize("fault", [Fault.STALL, Fault.RESET])
async def test_redis_down_neither_slows_nor_fails_the_legacy_path(
    redis_url: str, fault: Fault
) -> None:
    """In dual write the client is answered by legacy all the same, and is on record afterwards."""
    async with proxied(redis_url) as (proxy, url), LegacyInstallation(LocalExecutor(), 2) as legacy:
        async with running_api(
            url, queue_service_url=legacy.url, dual_write=True, breaker_open_s=1.0
        ) as client:
            await completed(client, (await submit(client, "print(0)"))["eval_id"])
            proxy.set(fault)
            ids = []
            for n in range(20):
                async with asyncio.timeout(PATIENCE_S):
                    accepted = await submit(client, f"print({n})", eval_id=f"dark-{n}")
                assert accepted["queue_system"] == "legacy"
                ids.append(accepted["eval_id"])
            ends = [await completed(client, eval_id) for eval_id in ids]
            assert [one["output"] for one in ends] == [f"{n}\n" for n in range(20)]
            # The first few wait a tenth of a second each, then the circuit is open.
            assert (await status(client))["circuits"]["records"] != "closed"
            proxy.set(Fault.PASS)

            async def recorded() -> bool:
                return (await verified(redis_url, legacy.url)).accepted == 21

            await until(recorded, timeout_s=40)
            assert (await verified(redis_url, legacy.url)).proved


async def test_celery_primary_fails_over_to_legacy(redis_url: str) -> None:
    """Redis away: the client gets a 202 from legacy; afterwards the id stays on that side."""
    async with proxied(redis_url) as (proxy, url), LegacyInstallation(LocalExecutor(), 2) as legacy:
        async with (
            celery_worker(redis_url),
            running_api(url, queue_service_url=legacy.url, **QUICK) as client,
        ):
            assert (await submit(client, "print(0)"))["queue_system"] == "celery"
            proxy.set(Fault.STALL)
            ids = [(await submit(client, "print(1)"))["eval_id"] for _ in range(6)]
            for eval_id in ids:
                assert (await completed(client, eval_id))["queue_system"] == "legacy"
            proxy.set(Fault.PASS)

            async def back() -> bool:
                return bool((await submit(client, "print(2)"))["queue_system"] == "celery")

            await until(back)

            async def recorded() -> bool:
                found = await verified(redis_url, legacy.url)
                return found.places.get("legacy", {}).get("ended", 0) >= 6

            await until(recorded)
            for eval_id in ids:
                assert (await look(client, eval_id))["queue_system"] == "legacy"
            assert (await verified(redis_url, legacy.url)).proved


@pytest.mark.parametrize("flags", [{}, {"dual_write": True}, {"celery_percentage": 0.5}])
async def test_both_down_is_a_503(redis_url: str, flags: dict[str, Any]) -> None:
    """Nobody takes it: 503 with Retry-After in every mode, within the deadlines."""
    async with proxied(redis_url) as (proxy, url), LegacyInstallation(LocalExecutor(), 0) as legacy:
        async with running_api(url, queue_service_url=legacy.url, **flags, **QUICK) as client:
            proxy.set(Fault.RESET)
            await legacy.crash()
            for n in range(4):
                body = {"code": "print(1)", "eval_id": f"x{n}"}
                async with client.post("/api/eval", json=body) as response:
                    assert (response.status, response.headers["Retry-After"]) == (503, "2")
            async with client.get("/health") as response:
                assert response.status == 200


async def test_rollback_holds_even_while_redis_is_away(redis_url: str) -> None:
    """Force takes effect in the process that was asked, and is stored once the server is back."""
    async with proxied(redis_url) as (proxy, url), LegacyInstallation(LocalExecutor(), 1) as legacy:
        async with running_api(url, queue_service_url=legacy.url, **QUICK) as client:
            proxy.set(Fault.RESET)
            answer = await switch(client, force_legacy_queue=True, reason="redis is away")
            assert (answer["mode"], answer["stored"]) == ("legacy_only", False)
            async with client.put("/api/v1/migration", json={"celery_percentage": 0.5}) as refused:
                assert refused.status == 503
            assert (await submit(client, "print(1)"))["queue_system"] == "legacy"
            proxy.set(Fault.PASS)

            async def stored() -> Any:
                return (await status(client))["stored"]

            await until(stored)
            async with sides_of(redis_url, legacy.url) as sides:
                assert (await sides.switches.read()).force_legacy_queue


async def test_an_executor_gone_in_the_middle_is_told_apart_by_side(redis_url: str) -> None:
    """Legacy: failed, never a verdict on the program. Celery: tried again until it runs."""
    gone = LocalExecutor()
    gone.away = True
    async with both_sides(
        redis_url, legacy_executor=gone, celery_executor=gone, celery_percentage=0.0
    ) as (client, legacy):
        failed = await completed(client, (await submit(client, "print(1)"))["eval_id"])
        assert (failed["status"], failed["verdict"]) == ("failed", "internal_error")
        assert "the executor is down" in failed["message"]
        await switch(client, celery_percentage=1.0)
        eval_id = (await submit(client, "print(2)"))["eval_id"]

        async def retrying() -> bool:
            return bool((await look(client, eval_id))["status"] == "retrying")

        await until(retrying)
        gone.away = False
        ended = await completed(client, eval_id)
        assert (ended["output"], ended["verdict"]) == ("2\n", "ok")
        assert ended["retry_count"] >= 1
        assert (await verified(redis_url, legacy.url)).proved


async def test_an_api_killed_between_the_writes_of_a_dual_write(redis_url: str) -> None:
    """Legacy took it, Celery and the record never heard: another api and verify find it."""
    async with proxied(redis_url) as (proxy, url), LegacyInstallation(LocalExecutor(), 1) as legacy:
        environment = {
            "CELERY_BROKER_URL": url,
            "CRUCIBLE_EVENT_BUS_URL": url,
            "QUEUE_SERVICE_URL": legacy.url,
            "CRUCIBLE_DUAL_WRITE": "true",
        }
        async with crucible(["api", "--port", "0"], **environment) as api:
            line = await api.wait_for_log(r"listening on http://")
            async with aiohttp.ClientSession(line.split()[-1]) as client:
                proxy.set(Fault.BLACKHOLE)
                accepted = await submit(client, "print('survived')", eval_id="between")
                assert accepted["queue_system"] == "legacy"
                api.send_signal(signal.SIGKILL)
            await api.wait()
        found = await verified(redis_url, legacy.url)
        assert (found.accepted, found.unrecorded, found.proved) == (0, 1, True)
        async with running_api(redis_url, queue_service_url=legacy.url, dual_write=True) as other:
            assert (await completed(other, "between"))["output"] == "survived\n"


async def test_a_task_that_moves_on_while_it_is_searched_for_is_one(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify asks by state: what starts between two questions is in both."""
    asked_by_state = LegacyClient.tasks

    async def and_then_taken(
        self: LegacyClient, status: TaskState | None = None, limit: int = 100
    ) -> list[TaskView]:
        found = await asked_by_state(self, status, limit)
        if status is TaskState.QUEUED:
            await self.take("a-worker")
        return found

    async with LegacyInstallation(LocalExecutor(), 0) as legacy:
        async with LegacyClient(legacy.url) as client:
            await client.submit("moving", Program(language="python", code="print(1)"))
        monkeypatch.setattr(LegacyClient, "tasks", and_then_taken)
        assert (await verified(redis_url, legacy.url)).unrecorded == 1


async def test_a_killed_legacy_queue_loses_nothing_for_good(redis_url: str) -> None:
    """Its tasks are lost, as they were; verify lists each of them, and repair runs them."""
    async with LegacyInstallation(LocalExecutor(), 0) as legacy:
        async with running_api(
            redis_url, queue_service_url=legacy.url, celery_percentage=0.0
        ) as client:
            ids = {(await submit(client, f"print({n})"))["eval_id"] for n in range(5)}
            await legacy.crash()
            async with client.get(f"/api/eval/{next(iter(ids))}") as response:
                assert response.status == 503
            assert not (await verified(redis_url, legacy.url)).proved
            await legacy.start()
            assert "lost" in (await look(client, next(iter(ids))))["message"]
            async with sides_of(redis_url, legacy.url) as sides:
                found, missing = await verify(sides)
                assert {one.eval_id for one in found.missing} == ids
                repaired = await repair(sides, missing)
                assert set(repaired.to_legacy) | set(repaired.to_celery) == ids
            legacy.add_workers(1)
            async with celery_worker(redis_url):
                ends = [await completed(client, eval_id) for eval_id in ids]
            assert {one["output"] for one in ends} == {f"{n}\n" for n in range(5)}
            assert (await verified(redis_url, legacy.url)).proved


async def test_an_end_that_was_kept_outlives_the_legacy_queue(redis_url: str) -> None:
    """What a client was told stays, after a crash and after the legacy queue is no more."""
    async with both_sides(redis_url, celery_percentage=0.0) as (client, legacy):
        eval_id = (await submit(client, "print('kept')", eval_id="kept"))["eval_id"]
        first = await completed(client, eval_id)
        ran = legacy.executor.runs
        await legacy.crash()
        assert await look(client, eval_id) == first
        await legacy.start()
        assert await submit(client, "print('kept')", eval_id="kept") == first
        assert legacy.executor.runs == ran
    async with running_api(redis_url) as celery_only:
        assert await look(celery_only, eval_id) == first


async def test_a_copy_stands_in_for_what_the_legacy_queue_lost(redis_url: str) -> None:
    """In dual write the Celery copy has run: its end is the evaluation's, and nothing is lost."""
    async with LegacyInstallation(LocalExecutor(), 0) as legacy, celery_worker(redis_url):
        async with running_api(redis_url, queue_service_url=legacy.url, dual_write=True) as client:
            eval_id = (await submit(client, "print('copy')"))["eval_id"]
            async with Redis.from_url(redis_url) as redis:

                async def copied() -> bool:
                    return b"SUCCESS" in (
                        await redis.get(f"celery-task-meta-eval-{eval_id}") or b""
                    )

                await until(copied)
            await legacy.crash()
            assert (await look(client, eval_id))["output"] == "copy\n"
            assert (await verified(redis_url, legacy.url)).proved
            await legacy.start()
            assert (await look(client, eval_id))["output"] == "copy\n"
            assert (await verified(redis_url, legacy.url)).proved


async def test_queued_evaluations_are_recovered_to_legacy(redis_url: str, redis: Redis) -> None:
    """Everything waiting for Celery runs on the legacy side; garbage and others stay put."""
    async with LegacyInstallation(LocalExecutor(), 0) as legacy:
        async with running_api(redis_url, queue_service_url=legacy.url) as client:
            ids = [
                (await submit(client, f"print({n})", priority=n % 10))["eval_id"] for n in range(60)
            ]
            async with sides_of(redis_url, legacy.url) as sides:
                moved = await to_legacy(sides)
            assert (sorted(moved.moved), moved.left) == (sorted(ids), {})
            assert await redis.hlen("unacked") == 0
            legacy.add_workers(4)
            ends = [await completed(client, eval_id) for eval_id in ids]
            assert [one["output"] for one in ends] == [f"{n}\n" for n in range(60)]
            assert {one["queue_system"] for one in ends} == {"legacy"}
            assert (await verified(redis_url, legacy.url)).proved


async def test_active_evaluations_are_recovered_to_legacy(redis_url: str, redis: Redis) -> None:
    """What a dead worker holds is moved with --active, at once and not after its lease."""
    from crucible.broker.claiming.claims import Claims, new_worker_id
    from crucible.broker.redis.with_lua.store import LuaStore

    async with LegacyInstallation(LocalExecutor(), 1) as legacy:
        async with running_api(redis_url, queue_service_url=legacy.url) as client:
            eval_id = (await submit(client, "print('held')"))["eval_id"]
            claims = Claims(LuaStore(redis), new_worker_id(), ["evaluation"])
            assert len(await claims.take(5)) == 1
            async with sides_of(redis_url, legacy.url) as sides:
                assert (await to_legacy(sides)).moved == []
                assert (await to_legacy(sides, active=True)).moved == [eval_id]
            ended = await completed(client, eval_id)
            assert (ended["output"], ended["queue_system"]) == ("held\n", "legacy")
            assert await redis.hlen("unacked") == 0


async def test_queued_evaluations_are_recovered_to_celery(redis_url: str) -> None:
    """Everything waiting on the legacy side runs on Celery, with its priority's queue."""
    async with LegacyInstallation(LocalExecutor(), 0) as legacy:
        async with running_api(
            redis_url, queue_service_url=legacy.url, celery_percentage=0.0
        ) as client:
            ids = [
                (await submit(client, f"print({n})", priority=n % 10))["eval_id"] for n in range(20)
            ]
            async with sides_of(redis_url, legacy.url) as sides:
                moved = await to_celery(sides)
            assert (sorted(moved.moved), moved.left) == (sorted(ids), {})
            assert legacy.queue.stats().queued == 0
            async with celery_worker(redis_url):
                ends = [await completed(client, eval_id) for eval_id in ids]
            assert [one["output"] for one in ends] == [f"{n}\n" for n in range(20)]
            assert [one["queue"] for one in ends[:8:7]] == ["batch", "high_priority"]
            assert (await verified(redis_url, legacy.url)).proved


async def test_drain_lets_the_legacy_side_finish_and_takes_nothing_new(redis_url: str) -> None:
    """After the drain all goes to Celery, the legacy queue is empty, and a rollback opens it."""
    async with both_sides(redis_url, celery_percentage=0.0) as (client, legacy):
        ids = [(await submit(client, "print(1)"))["eval_id"] for _ in range(10)]
        async with sides_of(redis_url, legacy.url) as sides:
            assert await drain(sides, 30, by="ann", reason="the end", report=lambda _: None)
        assert (await submit(client, "print(2)"))["queue_system"] == "celery"
        assert legacy.queue.draining
        for eval_id in ids:
            assert (await completed(client, eval_id))["queue_system"] == "legacy"
        await switch(client, force_legacy_queue=True)
        assert (await submit(client, "print(3)"))["queue_system"] == "legacy"


async def test_drain_keeps_ends_whose_records_come_later(redis_url: str, redis: Redis) -> None:
    """An api process that is slow to write a record finds the end there, the queue long gone."""
    from crucible.evaluation.record import Record, encode_record, once_name

    async with LegacyInstallation(LocalExecutor(), 1) as legacy:
        async with sides_of(redis_url, legacy.url) as sides:
            assert sides.legacy is not None
            program = sides.program("late", EvalRequest(code="print('late')"))
            await sides.legacy.submit("late", program)
            await sides.legacy.wait("late", PATIENCE_S)
            assert await drain(sides, 30, by="ann", reason="the end", report=lambda _: None)
            await legacy.crash()
            record = Record(b"", time.time_ns() // 1_000_000, "legacy", "python", "legacy")
            await redis.set(sides.keys.idempotency(once_name("late")), encode_record(record))
            found, _ = await verify(sides)
            assert (found.places, found.proved) == ({"legacy": {"ended": 1}}, True)
    async with running_api(redis_url) as client:
        assert (await look(client, "late"))["output"] == "late\n"


@pytest.mark.parametrize("percentage", [0.0, 1.0])
async def test_what_was_forgotten_is_not_taken_for_lost(redis_url: str, percentage: float) -> None:
    """A purge leaves a mark; it is of nothing that was accepted, on neither side."""
    async with both_sides(redis_url, celery_percentage=percentage) as (client, legacy):
        for eval_id in ("gone", "kept"):
            await completed(client, (await submit(client, "print(1)", eval_id=eval_id))["eval_id"])
        async with client.delete("/api/eval/gone?purge=true") as response:
            assert response.status == 200
        found = await verified(redis_url, legacy.url)
        assert (found.accepted, found.unrecorded, found.missing) == (1, 0, [])
        async with client.get("/api/eval/gone") as response:
            assert response.status == 404


async def test_verify_finds_evaluations_in_motion(redis_url: str) -> None:
    """Under load, with tasks moving between all places, nothing is taken for lost."""
    async with both_sides(redis_url, celery_percentage=0.5) as (client, legacy):
        done = asyncio.Event()

        async def load() -> list[str]:
            ids = []
            while not done.is_set():
                ids.append((await submit(client, "print(1)"))["eval_id"])
            return ids

        loading = asyncio.create_task(load())
        for _ in range(5):
            found = await verified(redis_url, legacy.url)
            assert found.proved, found
        done.set()
        ids = await loading
        found = await verified(redis_url, legacy.url)
        assert (found.accepted, found.proved) == (len(ids), True)


@pytest.mark.stock
async def test_what_a_killed_stock_worker_held_is_claimed_and_not_lost(redis_url: str) -> None:
    """It waits for the visibility timeout; verify says so, and recover brings it back at once."""
    taken = asyncio.Event()

    async def hang(request: web.Request) -> web.Response:
        taken.set()
        await asyncio.sleep(60)
        return web.Response(status=503)

    async with (
        executor_service(hang) as executor_url,
        LegacyInstallation(LocalExecutor(), 1) as legacy,
    ):
        environment = {"CELERY_BROKER_URL": redis_url, "CRUCIBLE_EXECUTOR_URLS": executor_url}
        worker = StockWorker(
            PROJECT, redis_url, queues=("evaluation",), pool="prefork", concurrency=1,
            app="crucible.celery_app", environment=environment,
        )  # fmt: skip
        async with running_api(redis_url, queue_service_url=legacy.url) as client:
            async with worker:
                eval_id = (await submit(client, "print('back')"))["eval_id"]
                async with asyncio.timeout(30):
                    await taken.wait()
                await worker.kill()
            found = await verified(redis_url, legacy.url)
            assert (found.places, found.proved) == ({"celery": {"claimed": 1}}, True)
            async with sides_of(redis_url, legacy.url) as sides:
                assert (await to_legacy(sides)).moved == []
                assert (await to_legacy(sides, active=True)).moved == [eval_id]
            ended = await completed(client, eval_id)
            assert (ended["output"], ended["queue_system"]) == ("back\n", "legacy")


async def test_what_a_living_worker_runs_is_running(redis_url: str) -> None:
    """An async worker's claims are known to be in good hands; a retry that waits is queued."""
    executor = LocalExecutor()
    async with running_api(redis_url) as client, celery_worker(redis_url, executor):
        slow = (await submit(client, "import time; time.sleep(60)"))["eval_id"]
        await until(lambda: executor.runs == 1)
        assert (await verified(redis_url)).places == {"celery": {"running": 1}}
        executor.away = True
        waiting = (await submit(client, "print(1)"))["eval_id"]

        async def retrying() -> bool:
            return bool((await look(client, waiting))["status"] == "retrying")

        await until(retrying)
        found = await verified(redis_url)
        assert (sum(found.places["celery"].values()), found.proved) == (2, True)
        assert found.places["celery"]["running"] >= 1
        async with client.delete(f"/api/eval/{slow}") as response:
            assert response.status in (200, 202)
