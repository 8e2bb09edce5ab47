"""Both sides of a migration in one process, for tests: real queues, real programs, no Docker."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

from crucible.breaker import BreakerPolicy
from crucible.errors import ExecutorRefused, ExecutorUnavailable
from crucible.evaluation.completion_hooks import CompletionHooks
from crucible.evaluation.completions import CompletionCounter
from crucible.evaluation.event_hooks import EventHooks
from crucible.evaluation.large_outputs import large_outputs
from crucible.evaluation.limits import ceilings_of
from crucible.evaluation.retry_policy import MAX_RETRIES
from crucible.evaluation.tasks import Platform, evaluate_code
from crucible.evaluation.webhook_ends import pushes_of
from crucible.evaluation.webhook_hooks import WebhookHooks
from crucible.evaluation.webhook_outlet import open_outlet
from crucible.evaluation.webhook_task import deliver_webhook
from crucible.events.writer import LateSink, open_writer
from crucible.executor.served import ServedEnvironments
from crucible.grading.models import Grading, Judgement
from crucible.legacy import LegacyQueue, work
from crucible.legacy.queue import LIMIT
from crucible.legacy.service import build_app
from crucible.models import Isolation, Outcome, Program, Usage, Verdict
from crucible.redis_keys import Keys
from crucible.settings import load_settings
from crucible.webhooks.addresses import AddressPolicy
from crucible.webhooks.breakers import HostBreakers
from crucible.webhooks.planning import TASK as DELIVER_WEBHOOK
from crucible.webhooks.subscriptions import Subscriptions
from crucible.worker import TaskRegistry
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import aiohttp

    from crucible.environments import EnvironmentState
    from crucible.executor.artifact import Artifact, Compilation

ENDED = ("completed", "failed", "cancelled")


class LocalExecutor:
    """An executor that runs Python programs as plain processes, without a sandbox.

    Args:
        spoil: changes an outcome, for executors that are wrong on purpose.
    """

    def __init__(self, spoil: Callable[[Outcome], Outcome] = lambda outcome: outcome) -> None:
        self.spoil = spoil
        self.away = False
        self.runs = 0

    async def isolations(self) -> tuple[Isolation, ...]:
        """As good as none."""
        return ("container",)

    async def environments(self) -> list[EnvironmentState]:
        """It has none to show."""
        return []

    async def grade(
        self, grading: Grading, judged: Callable[[Judgement], None]
    ) -> Compilation | None:
        """It has no sandbox for tests."""
        raise ExecutorUnavailable("this executor does not grade")

    async def compile(self, program: Program) -> Compilation:
        """It knows no language with a compiler."""
        raise ExecutorRefused(f"{program.language} is not compiled")

    async def run(self, program: Program, artifact: Artifact | None = None) -> Outcome:
        """Run one process; cancelling kills it."""
        if self.away:
            raise ExecutorUnavailable("the executor is down")
        self.runs += 1
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", program.code, *program.args),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await process.communicate(program.stdin)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        code = process.returncode or 0
        verdict = Verdict.OK if code == 0 else Verdict.NONZERO_EXIT
        took = time.monotonic() - began
        usage = Usage(wall_time_ms=int(took * 1000))
        if self.away:
            raise ExecutorUnavailable("the executor went away with the program")
        return self.spoil(
            Outcome(
                verdict=verdict, exit_code=code, stdout=out, stderr=err, run_s=took, usage=usage
            )
        )

    async def check(self) -> None:
        """Pass, unless the executor is set to be down."""
        if self.away:
            raise ExecutorUnavailable("the executor is down")


class LegacyInstallation:
    """A legacy queue service and its workers; the service can crash and be restarted.

    Attributes:
        url: URL of the service, the same after a restart.
        queue: the current queue.
        executor: the executor of its workers.
    """

    def __init__(self, executor: LocalExecutor, workers: int, *, limit: int = LIMIT) -> None:
        self.executor = executor
        self._limit = limit
        self.queue = LegacyQueue(limit=limit)
        self.url = ""
        self._port = 0
        self._workers = workers
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()

    async def start(self) -> None:
        """Serve an empty queue."""
        self.queue = LegacyQueue(limit=self._limit)
        self._runner = web.AppRunner(build_app(self.queue), access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = int(self._runner.addresses[0][1])
        self.url = f"http://127.0.0.1:{self._port}"

    async def crash(self) -> None:
        """Stop the service; everything in its queue is lost."""
        assert self._runner is not None
        await self._runner.cleanup()
        self._runner = None

    def add_workers(self, count: int) -> None:
        """Start workers with a short polling interval."""
        for number in range(count):
            name = f"w{len(self._tasks)}-{number}"
            working = work(self.url, self.executor.run, self._stop, name=name, poll_s=0.01)
            self._tasks.append(asyncio.create_task(working))

    async def __aenter__(self) -> Self:
        await self.start()
        self.add_workers(self._workers)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner is not None:
            await self.crash()


@asynccontextmanager
async def celery_worker(
    queue_url: str,
    executor: LocalExecutor | None = None,
    *,
    concurrency: int = 2,
    bus_url: str | None = None,
    keep_failed: bool = False,
    webhook_networks: tuple[str, ...] = ("127.0.0.0/8",),
    object_store_url: str = "",
) -> AsyncIterator[Worker]:
    """An async worker in this process that runs evaluations with ``executor``.

    Its event bus is ``bus_url``, else the queue server, as in ``api_rig``.
    """
    runner, tally, sink = executor or LocalExecutor(), CompletionCounter(), LateSink()
    names = ("tasks.evaluate_code",)
    events, subscriptions = EventHooks(sink, names), Subscriptions()

    @asynccontextmanager
    async def platform() -> AsyncIterator[Platform]:
        settings = load_settings(
            {},
            flags={
                "celery_broker_url": queue_url,
                "webhook_networks": webhook_networks,
                "object_store_url": object_store_url,
                "object_threshold_kb": 256,
            },
        )
        policy = AddressPolicy(webhook_networks)
        async with (
            open_writer(bus_url or queue_url, Keys()) as writer,
            subscriptions.watching(queue_url, Keys()),
            tally.writing(
                queue_url, Keys(), settings.result_ttl_s, pushes=pushes_of(subscriptions, Keys())
            ),
            open_outlet(
                settings,
                Keys(),
                policy,
                HostBreakers(BreakerPolicy()),
                tally.webhook_attempted,
            ) as webhooks,
        ):
            with sink.writing_to(writer):
                yield Platform(
                    runner,
                    ServedEnvironments(),
                    ceilings_of(settings),
                    "container",
                    webhooks,
                    large_outputs(settings),
                    events.running,
                )

    hooks = (CompletionHooks(tally, names), events, WebhookHooks(subscriptions, names))
    registry = TaskRegistry(platform, hooks=hooks)
    registry.task(DELIVER_WEBHOOK, ignore_result=True, max_retries=None)(deliver_webhook)
    registry.task(
        "tasks.evaluate_code",
        track_started=True,
        max_retries=MAX_RETRIES,
        keep_failed=keep_failed,
    )(evaluate_code)
    queues = ("high_priority", "evaluation", "batch", "webhooks")
    async with Worker(
        registry, broker_url=queue_url, queues=queues, concurrency=concurrency, drain_s=1.0
    ) as worker:
        yield worker


async def submit(client: aiohttp.ClientSession, code: str, **fields: Any) -> dict[str, Any]:
    """Submit a program; asserts that it was accepted."""
    async with client.post("/api/eval", json={"code": code, **fields}) as response:
        answer: dict[str, Any] = await response.json()
        assert response.status in (200, 202), answer
        return answer


async def look(client: aiohttp.ClientSession, eval_id: str) -> dict[str, Any]:
    """The current state of an evaluation."""
    async with client.get(f"/api/eval/{eval_id}") as response:
        answer: dict[str, Any] = await response.json()
        assert response.status == 200, answer
        return answer


async def completed(
    client: aiohttp.ClientSession, eval_id: str, timeout_s: float = 60
) -> dict[str, Any]:
    """An evaluation after its completion."""
    async with asyncio.timeout(timeout_s):
        while True:
            async with client.get(f"/api/eval/{eval_id}", params={"wait": "5"}) as response:
                answer: dict[str, Any] = await response.json()
            if response.status == 200 and answer["status"] in ENDED:
                return answer
            await asyncio.sleep(0.02)


async def switch(client: aiohttp.ClientSession, **fields: Any) -> dict[str, Any]:
    """Set switches; asserts that they were accepted."""
    async with client.put("/api/v1/migration", json=fields) as response:
        answer: dict[str, Any] = await response.json()
        assert response.status == 200, answer
        return answer


async def status(client: aiohttp.ClientSession) -> dict[str, Any]:
    """The state of the migration."""
    async with client.get("/api/v1/migration") as response:
        answer: dict[str, Any] = await response.json()
        assert response.status == 200, answer
        return answer


async def until(condition: Callable[[], Any], timeout_s: float = 60) -> Any:
    """Poll ``condition``, plain or async, until its result is true; returns it."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.02)


@asynccontextmanager
async def both_sides(
    queue_url: str,
    *,
    legacy_executor: LocalExecutor | None = None,
    celery_executor: LocalExecutor | None = None,
    workers: int = 2,
    **flags: Any,
) -> AsyncIterator[tuple[aiohttp.ClientSession, LegacyInstallation]]:
    """The API in front of both sides, each with workers."""
    from support.api_rig import running_api

    async with AsyncExitStack() as stack:
        legacy = await stack.enter_async_context(
            LegacyInstallation(legacy_executor or LocalExecutor(), workers)
        )
        await stack.enter_async_context(celery_worker(queue_url, celery_executor))
        client = await stack.enter_async_context(
            running_api(queue_url, queue_service_url=legacy.url, **flags)
        )
        yield client, legacy
