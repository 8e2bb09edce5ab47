"""Ends are counted in every mode, by workers of both kinds, and shown by every api process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiohttp import web
from redis.asyncio import Redis
from stock_rig.environments import PROJECT
from stock_rig.worker import StockWorker
from support.api_rig import running_api
from support.faults import Fault, FaultProxy
from support.listening import executor_service
from support.migration_rig import LocalExecutor, celery_worker, completed, submit, until
from support.sweeping import seasoned_sweeper
from typer.testing import CliRunner

from crucible.broker.claiming.claims import Claims, new_worker_id
from crucible.broker.claiming.recovery.restorer import Restorer
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.with_lua.store import LuaStore
from crucible.cli.main import app
from crucible.errors import ExecutorRefused
from crucible.evaluation.completion_hooks import SandboxHooks
from crucible.evaluation.completion_store import read_completions
from crucible.evaluation.completions import CompletionCounter
from crucible.evaluation.record import once_name
from crucible.executor.hooks import CompileLookup, SandboxRetired, SandboxTaken
from crucible.models import Outcome, Program, Status, Verdict
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    import aiohttp

    from crucible.embedded.server import EmbeddedServer
    from crucible.executor.artifact import Artifact


class Refusing(LocalExecutor):
    """Refuses programs that say so, for good."""

    async def run(self, program: Program, artifact: Artifact | None = None) -> Outcome:
        """One process, or a refusal."""
        if program.code == "refuse":
            raise ExecutorRefused("no")
        return await super().run(program, artifact)


async def ends_of(client: aiohttp.ClientSession) -> dict[str, float]:
    """The lines of /metrics about ends, by name and labels."""
    async with client.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    told = [one for one in lines if one.startswith(("tasks_completed_total", "task_duration_sec"))]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in told)}


async def test_ends_are_counted_where_there_is_only_celery(redis_url: str) -> None:
    """Completed, failed and cancelled, with their durations, in another api process as well."""
    async with running_api(redis_url) as client, running_api(redis_url) as other:
        cancelled = (await submit(client, "print(0)"))["eval_id"]
        async with celery_worker(redis_url, Refusing(), concurrency=1):
            ids = [(await submit(client, "import time; time.sleep(0.3)"))["eval_id"]]
            ids += [(await submit(client, "import sys; sys.exit(3)"))["eval_id"] for _ in range(3)]
            ids += [(await submit(client, "refuse"))["eval_id"] for _ in range(2)]
            slow = (await submit(client, "import time; time.sleep(60)"))["eval_id"]
            for eval_id in (cancelled, *ids):
                await completed(client, eval_id)
            async with client.delete(f"/api/eval/{slow}") as response:
                assert response.status in (200, 202)
            await completed(client, slow)

            async def counted() -> Any:
                found = await ends_of(other)
                return found if found.get(_count()) == 8 else None

            found = await until(counted)
    totals = {name: n for name, n in found.items() if name.startswith("tasks_completed_total")}
    assert totals == {
        _completed("completed"): 5,
        _completed("failed"): 2,
        _completed("cancelled"): 1,
    }
    assert found['task_duration_seconds_bucket{le="+Inf",queue_system="celery"}'] == 8
    assert found['task_duration_seconds_bucket{le="0.25",queue_system="celery"}'] < 8
    assert found['task_duration_seconds_sum{queue_system="celery"}'] > 0.3


@pytest.mark.stock
async def test_a_stock_worker_counts_the_same(redis_url: str) -> None:
    """The shipped Celery application counts what its children ran, at their end at the latest."""

    async def run(request: web.Request) -> web.Response:
        program = msgspec.msgpack.decode(await request.read(), type=Program)
        if program.code == "refuse":
            return web.json_response({"detail": "no"}, status=422)
        body = msgspec.msgpack.encode(Outcome(verdict=Verdict.OK, exit_code=0))
        return web.Response(body=body, content_type="application/msgpack")

    async with executor_service(run) as executor_url:
        environment = {"CELERY_BROKER_URL": redis_url, "CRUCIBLE_EXECUTOR_URLS": executor_url}
        worker = StockWorker(
            PROJECT, redis_url, queues=("evaluation",), pool="prefork", concurrency=2,
            app="crucible.celery_app", environment=environment,
        )  # fmt: skip
        async with running_api(redis_url) as client:
            async with worker:
                for code in ("print(1)", "print(2)", "refuse"):
                    await completed(client, (await submit(client, code))["eval_id"])
                assert await worker.stop() == 0
            found = await ends_of(client)
    assert (found[_completed("completed")], found[_completed("failed")]) == (2, 1)
    assert found[_count()] == 3


async def test_ends_wait_for_a_server_that_is_away(
    redis_server: EmbeddedServer, redis_url: str, redis: Redis
) -> None:
    """What was noted while nothing could be written is counted later, once."""
    database = redis_url.rpartition("/")[2]
    async with FaultProxy("127.0.0.1", redis_server.port) as proxy:
        proxy.set(Fault.RESET)
        url = f"redis://127.0.0.1:{proxy.port}/{database}"
        async with CompletionCounter().writing(url, Keys(), 60) as tally:
            for n in range(700):
                tally.note("legacy", Status.COMPLETED, f"e{n}", 0.25)
            await asyncio.sleep(0)
            assert await read_completions(redis, Keys()) == {}
            proxy.set(Fault.PASS)

            async def counted() -> Any:
                return (await read_completions(redis, Keys())).get("legacy")

            counts = await until(counted)
        again = (await read_completions(redis, Keys()))["legacy"]
    assert counts.statuses == {"completed": 700}
    assert counts.durations == {"0.25": 700}
    assert (counts.total_s, again.statuses) == (175.0, counts.statuses)


async def test_ends_of_what_nobody_submitted_are_not_counted(redis_url: str, redis: Redis) -> None:
    """Runs without a record, as comparisons make them, are no evaluations of clients."""
    async with CompletionCounter().writing(redis_url, Keys(), 60) as tally:
        tally.note("celery", Status.COMPLETED, "unheard-of")
        tally.note("celery", Status.COMPLETED, "known", 1.0)
    assert (await read_completions(redis, Keys()))["celery"].statuses == {"completed": 1}


async def test_what_is_purged_counts_as_cancelled(redis_url: str) -> None:
    """Nobody runs it any more, so without this the accepted would outnumber the ended for ever."""
    async with running_api(redis_url) as client:
        ids = [(await submit(client, "print(0)"))["eval_id"] for _ in range(3)]
        arguments = ["purge", "evaluation", "--yes", "--json", "--celery-broker-url", redis_url]
        done = await asyncio.to_thread(CliRunner().invoke, app, arguments)
        assert done.exit_code == 0, done.output
        for eval_id in ids:
            assert (await completed(client, eval_id))["status"] == "cancelled"
        found = await ends_of(client)
    assert (found[_completed("cancelled")], found[_count()]) == (3, 3)


async def test_what_is_lost_with_its_workers_counts_as_failed(redis_url: str, redis: Redis) -> None:
    """Whoever sweeps makes it a dead letter; several processes look, and one counts."""
    async with running_api(redis_url) as client, open_client(redis_url) as swept:
        eval_id = (await submit(client, "print(0)"))["eval_id"]
        steps = LuaStore(swept)
        claims = Claims(steps, new_worker_id(), ("evaluation",))
        await claims.renew([], "w@test")
        while not await claims.take(1):
            pass
        await redis.delete(*await redis.keys("crucible:worker:*"))
        restorer = Restorer(steps, Keys(), max_deliveries=1)
        assert await seasoned_sweeper(steps, Keys(), restorer).sweep() is not None
        assert (await completed(client, eval_id))["status"] == "failed"
        # Written, and counted, by a worker; another has no record of an evaluation.
        await redis.xadd("crucible:dlq", {"task_id": f"eval-{eval_id}", "worker": "w@test"})
        await redis.xadd("crucible:dlq", {"task_id": "eval-unheard-of"})
        async with (
            CompletionCounter().writing(redis_url, Keys(), 60),
            CompletionCounter().writing(redis_url, Keys(), 60),
        ):

            async def looked() -> bool:
                last: Any = await redis.xrevrange("crucible:dlq", count=1)
                return bool(await redis.get("crucible:ends:letter") == last[0][0])

            await until(looked)
        found = await ends_of(client)
    assert (found[_completed("failed")], found[_count()]) == (1, 1)


async def test_a_submission_is_remembered_until_its_end_and_then_as_long_as_its_result(
    redis_url: str, redis: Redis
) -> None:
    """A message may wait longer than results are kept; its id is known and taken all the while."""
    body = {"eval_id": "patient", "code": "print(1)"}
    record = Keys().idempotency(once_name("patient"))
    async with running_api(redis_url, result_ttl_s=60) as client:
        async with client.post("/api/eval", json=body) as response:
            assert response.status == 202
        assert await redis.ttl(record) > 6 * 86_400
        async with CompletionCounter().writing(redis_url, Keys(), 60) as tally:
            tally.note("celery", Status.COMPLETED, "patient")
        assert 0 < await redis.ttl(record) <= 60


async def test_what_is_remembered_for_ever_outlives_its_end(redis_url: str, redis: Redis) -> None:
    """``CRUCIBLE_RESULT_TTL_S=0``: the record stays with the result, and the id stays taken."""
    body = {"eval_id": "kept", "code": "print(1)"}
    record = Keys().idempotency(once_name("kept"))
    async with running_api(redis_url, result_ttl_s=0) as client:
        async with client.post("/api/eval", json=body) as response:
            assert response.status == 202
        assert await redis.ttl(record) > 50 * 365 * 86_400
        async with CompletionCounter().writing(redis_url, Keys(), 0) as tally:
            tally.note("celery", Status.COMPLETED, "kept")
        assert await redis.ttl(record) == -1
        async with client.post("/api/eval", json=body) as response:
            assert (await response.json())["eval_id"] == "kept"
        async with client.delete("/api/eval/kept") as response:
            assert (await response.json())["status"] == "cancelled"
        assert await redis.ttl(Keys().result("eval-kept")) == -1


def _completed(status: str) -> str:
    return f'tasks_completed_total{{queue_system="celery",status="{status}"}}'


def _count() -> str:
    return 'task_duration_seconds_count{queue_system="celery"}'


async def test_compiles_and_what_was_spared_are_shown(redis_url: str) -> None:
    """Workers count what their compile cache had and had not; every api process shows the sums."""
    counter = CompletionCounter()
    hooks = SandboxHooks(counter)
    async with running_api(redis_url) as client:
        async with counter.writing(redis_url, Keys(), 60):
            for hit in (False, True, True):
                hooks.compile_looked_up(CompileLookup(hit=hit))
        async with client.get("/metrics") as response:
            lines = (await response.text()).splitlines()
    shown = dict(line.rsplit(" ", 1) for line in lines if line.startswith("compile_cache"))
    assert float(shown['compile_cache_lookups_total{outcome="hit"}']) == 2
    assert float(shown['compile_cache_lookups_total{outcome="miss"}']) == 1
    assert float(shown["compile_cache_bytes"]) == 0


async def test_programs_that_found_no_sandbox_are_shown(redis_url: str) -> None:
    """Workers count sandboxes found ready and waited for; every api process shows the sums."""
    counter = CompletionCounter()
    hooks = SandboxHooks(counter)
    async with running_api(redis_url) as client:
        async with counter.writing(redis_url, Keys(), 60):
            for waited_s in (0.0, 0.25, 1.5):
                hooks.sandbox_taken(
                    SandboxTaken(
                        isolation="container", hit=not waited_s, waited_s=waited_s, age_s=0.0
                    )
                )
            hooks.sandbox_taken(SandboxTaken(isolation="nested", hit=True, waited_s=0.0, age_s=0.0))
            for reason in ("verdict", "programs", "programs"):
                hooks.sandbox_retired(SandboxRetired(isolation="nested", reason=reason, uses=1))
        async with client.get("/metrics") as response:
            lines = (await response.text()).splitlines()
    shown = dict(line.rsplit(" ", 1) for line in lines if line.startswith(("sandbox", "lanes")))
    assert float(shown['lanes_taken_total{outcome="hit"}']) == 1
    assert float(shown['lanes_taken_total{outcome="miss"}']) == 0
    assert {
        name: float(value)
        for name, value in shown.items()
        if name.startswith("sandboxes_retired_t")
    } == {
        'sandboxes_retired_total{isolation="nested",reason="programs"}': 2,
        'sandboxes_retired_total{isolation="nested",reason="verdict"}': 1,
    }
    assert float(shown['sandboxes_taken_total{outcome="hit"}']) == 2
    assert float(shown['sandboxes_taken_total{outcome="miss"}']) == 2
    assert float(shown["sandbox_wait_seconds_total"]) == 1.75
