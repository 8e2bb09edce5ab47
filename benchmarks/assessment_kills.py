"""Workers die while assessments and model pipelines run; the reports must be the same.

``python -m benchmarks.assessments --kills 10 [--of pipeline] [--fleet mixed] [--seed 7]``: two
workers of the fleet's kinds, one of them killed (SIGKILL) at an instant that the seed chooses after
something has moved, and replaced. What ends before the last kill is run anew. With ``--kills 0``
the same goes through each fleet without deaths. The programs run in an executor of its own, which
nobody kills.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from crucible.broker import Publisher
from crucible.broker.redis.connection import open_client
from crucible.broker.wire.priority import STEPS
from crucible.embedded.server import EmbeddedServer, free_port
from crucible.redis_keys import Keys
from crucible.settings import KNOWN_QUEUES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from redis.asyncio import Redis

FLEETS = {"async": ("async", "async"), "stock": ("stock", "stock"), "mixed": ("async", "stock")}
SUBJECTS = ("assessment", "pipeline")
_QUEUES = "high_priority,evaluation,batch,assessments,reports"
_MODEL = Path(__file__).resolve().parent.parent / "examples" / "model"
#: Seconds that anything may take, until something must have moved, and of a look.
_DEADLINE_S, _MOVE_S, _LOOK_S = 300.0, 20.0, 0.05
#: Seconds after a move within which the kill comes.
_AFTER_S = 0.8
#: Seconds after which a dead stock worker's claims go back; no task here runs for longer.
_VISIBILITY_S = "6"
_OVER = ("completed", "failed", "cancelled")


def cases(count: int) -> list[dict[str, Any]]:
    """Cases of every kind of end: most pass, and each takes a while."""
    slow = "import time; time.sleep(0.2)\n"
    return [
        *({"id": f"ok-{n}", "code": f"{slow}print({n})"} for n in range(count)),
        {"id": "exit", "code": f"{slow}raise SystemExit(3)", "repetitions": 2},
        {"id": "shell", "code": "kill -9 $$", "language": "bash"},
        {
            "id": "tests",
            "code": "print(abs(int(input())))",
            "tests": [{"stdin": "1", "expected": "1"}, {"stdin": "-1", "expected": "-1"}],
        },
    ]


@dataclass(slots=True)
class Outcome:
    """What came of one subject through one fleet.

    Attributes:
        subject: ``assessment`` or ``pipeline``.
        fleet: of ``FLEETS``.
        kills: workers that were killed.
        rounds: how often it was run.
        seconds: it took.
        reports: every report, apart from timings.
        faults: what must not have been.
    """

    subject: str
    fleet: str
    kills: int = 0
    rounds: int = 0
    seconds: float = 0.0
    reports: list[Any] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Rig:
    """An installation whose workers die.

    Args:
        client: of the api.
        redis: of the task queue server.
        publisher: to the same.
        environ: of the workers.
        chosen: decides who dies, and when.
        count: cases that pass.
    """

    def __init__(
        self,
        client: aiohttp.ClientSession,
        redis: Redis,
        publisher: Publisher,
        environ: dict[str, str],
        chosen: random.Random,
        count: int,
    ) -> None:
        self._client, self._publisher, self._environ = client, publisher, environ
        # The stubs of redis-py describe blocking and asynchronous answers at once.
        self._redis: Any = redis
        self._chosen = chosen
        self._cases = cases(count)
        self._workers: list[tuple[str, asyncio.subprocess.Process]] = []

    async def run(self, subject: str, fleet: str, kills: int) -> Outcome:
        """Run a subject until so many workers were killed, and it has ended."""
        outcome, began = Outcome(subject, fleet), time.monotonic()
        rounds = {"assessment": self._assessment, "pipeline": self._pipeline}[subject]
        async with self._fleet(FLEETS[fleet]):
            while not outcome.rounds or outcome.kills < kills:
                outcome.rounds += 1
                outcome.reports.append(await rounds(outcome, kills))
            await self._nothing_left(outcome)
        outcome.seconds = round(time.monotonic() - began, 1)
        return outcome

    @asynccontextmanager
    async def _fleet(self, kinds: Sequence[str]) -> AsyncIterator[None]:
        started: list[asyncio.subprocess.Process] = []
        self._started = started
        self._workers = [(kind, await self._spawn(kind)) for kind in kinds]
        try:
            yield
        finally:
            for process in started:
                # Children of a stock worker that was killed may live on for a task.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()

    async def _spawn(self, kind: str) -> asyncio.subprocess.Process:
        name = f"{kind}{len(self._started)}@kills"
        if kind == "async":
            own: tuple[str, ...] = ("crucible", "worker", "--concurrency", "2", "--name", name)
        else:
            own = (
                *("celery", "-A", "crucible.celery_app", "worker", "-c", "2", "-n", name),
                *("-Q", _QUEUES, "-l", "WARNING", "--without-mingle", "--without-gossip"),
            )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *own), env=self._environ, start_new_session=True
        )
        self._started.append(process)
        return process

    async def _kill(self) -> None:
        """SIGKILL one worker; another takes its place."""
        at = self._chosen.randrange(len(self._workers))
        kind, process = self._workers[at]
        process.kill()
        await process.wait()
        self._workers[at] = (kind, await self._spawn(kind))

    async def _follow(self, outcome: Outcome, kills: int, task_id: str) -> dict[str, Any]:
        """The task once it has ended; workers die meanwhile."""
        seen, killed_at, known = 0.0, time.monotonic(), False
        kill_at: float | None = None
        async with asyncio.timeout(_DEADLINE_S):
            while True:
                task = await self._task(task_id)
                if task is None:
                    if known:
                        outcome.faults.append("the task is unknown, and was known")
                    known = False
                    await asyncio.sleep(_LOOK_S)
                    continue
                known = True
                progress, now = float(task["info"]["progress"]), time.monotonic()
                if progress < seen:
                    outcome.faults.append(f"progress fell from {seen} to {progress}")
                if task["ready"]:
                    return task
                moved = progress > seen or now > killed_at + _MOVE_S
                if moved and kill_at is None and outcome.kills < kills:
                    kill_at = now + self._chosen.uniform(0, _AFTER_S)
                seen = progress
                if kill_at is not None and now >= kill_at:
                    await self._kill()
                    outcome.kills += 1
                    kill_at, killed_at = None, time.monotonic()
                await asyncio.sleep(_LOOK_S)

    async def _assessment(self, outcome: Outcome, kills: int) -> Any:
        made = await self._post("/api/v1/assessments", {"name": "kills", "cases": self._cases})
        started = await self._post(f"{made['href']}/start", {})
        task = await self._follow(outcome, kills, started["task_id"])
        if task["state"] != "SUCCESS":
            outcome.faults.append(f"the task is {task['state']}: {task['info']['message']}")
            return None
        shown = await self._get(made["href"])
        report = await self._get(f"{made['href']}/report")
        counted = (shown["status"], shown["runs"], shown["runs_ended"], report["summary"]["runs"])
        runs = sum(case.get("repetitions", 1) for case in self._cases)
        if counted != ("completed", runs, runs, runs):
            outcome.faults.append(f"counted {counted}, there are {runs} runs")
        return without_timings(report)

    async def _pipeline(self, outcome: Outcome, kills: int) -> Any:
        sent = await self._publisher.send_task(
            "tasks.evaluate_ai_model",
            [(_MODEL / "classifier.py").as_uri(), self._cases],
            {"resources": {"slots": 2}},
            queue="assessments",
        )
        task = await self._follow(outcome, kills, sent.id)
        if task["state"] != "SUCCESS":
            outcome.faults.append(f"the task is {task['state']}: {task['info']['message']}")
            return None
        report = await sent.get(timeout=_DEADLINE_S)
        if held := await self._redis.hlen(Keys().reservations):
            outcome.faults.append(f"{held} reservations are held")
        return [report["reserved"], report["artifact"], without_timings(report)]

    async def _nothing_left(self, outcome: Outcome) -> None:
        """See that no message, claim or reservation is left."""
        keys = Keys()
        lists = [keys.step_list(queue, step) for queue in KNOWN_QUEUES for step in STEPS]

        async def left() -> int:
            waiting = sum([int(await self._redis.llen(key)) for key in lists])
            claims = int(await self._redis.hlen("unacked"))
            return waiting + claims + int(await self._redis.hlen(keys.reservations))

        with suppress(TimeoutError):
            async with asyncio.timeout(_DEADLINE_S / 3):
                while await left():
                    await asyncio.sleep(_LOOK_S)
                return
        outcome.faults.append(f"{await left()} messages, claims or reservations are left")

    async def _task(self, task_id: str) -> dict[str, Any] | None:
        """A task; None before any worker has stored that it is there."""
        async with self._client.get(f"/tasks/{task_id}") as response:
            if response.status == 404:
                return None
            response.raise_for_status()
            found: dict[str, Any] = await response.json()
            return found

    async def _get(self, path: str) -> Any:
        async with self._client.get(path) as response:
            response.raise_for_status()
            return await response.json()

    async def _post(self, path: str, body: Any) -> Any:
        async with self._client.post(path, json=body) as response:
            response.raise_for_status()
            return await response.json()


def without_timings(report: dict[str, Any]) -> Any:
    """A report apart from its timings and what follows from them."""
    summary = report["summary"]
    kept = ("passed", "score", "total", "passed_cases", "failed_cases", "runs", "verdicts")
    fields = ("id", "verdict", "passed", "score", "passed_runs", "repetitions", "exit_code")
    return [
        {name: summary[name] for name in kept},
        [{name: case.get(name) for name in fields} for case in report["cases"]],
    ]


@asynccontextmanager
async def installation(seed: int, count: int) -> AsyncIterator[Rig]:
    """A queue server, an api and an executor, without workers."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = await stack.enter_async_context(EmbeddedServer(folder / "queue", durable=True))
        url, api, executor = f"redis://127.0.0.1:{server.port}/0", free_port(), free_port()
        environ = {
            **os.environ,
            "CELERY_BROKER_URL": url,
            "CRUCIBLE_EVENT_BUS_URL": "off",
            "CRUCIBLE_HISTORY_URL": "off",
            "CRUCIBLE_DATA_DIR": str(folder),
            "CRUCIBLE_PORT": str(api),
            "CRUCIBLE_ISOLATION": "nested",
            "CRUCIBLE_EXECUTOR_URLS": f"http://127.0.0.1:{executor}",
            "CRUCIBLE_VISIBILITY_TIMEOUT_S": _VISIBILITY_S,
            "CRUCIBLE_MODEL_DIR": str(_MODEL),
            "CRUCIBLE_RESOURCES": "slots=2",
        }
        # An executor listens where its flags say: the url is for the workers.
        own = {**environ, "CRUCIBLE_EXECUTOR_URLS": ""}
        await stack.enter_async_context(_command(own, "executor", "--port", str(executor)))
        await stack.enter_async_context(_command(environ, "api"))
        client = await stack.enter_async_context(aiohttp.ClientSession(f"http://127.0.0.1:{api}"))
        await _answering(client, "/health")
        await _answering(client, f"http://127.0.0.1:{executor}/health")
        redis = await stack.enter_async_context(open_client(url, name="kills"))
        publisher = await stack.enter_async_context(Publisher.connect(url))
        yield Rig(client, redis, publisher, environ, random.Random(seed), count)


@asynccontextmanager
async def _command(environ: dict[str, str], *arguments: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "crucible", *arguments), env=environ
    )
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _answering(client: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(_DEADLINE_S):
        while True:
            with suppress(aiohttp.ClientError):
                async with client.get(url) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(_LOOK_S)


async def run(
    kills: int,
    subjects: Sequence[str],
    fleets: Sequence[str],
    *,
    seed: int = 7,
    count: int = 24,
    say: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Run every subject through every fleet.

    Args:
        kills: of each.
        subjects: ``assessment``, ``pipeline``.
        fleets: of ``FLEETS``.
        seed: chooses who dies when.
        count: cases that pass.
        say: called with each outcome.
    """
    outcomes: list[Outcome] = []
    async with installation(seed, count) as rig:
        first: dict[str, Any] = {}
        for subject in subjects:
            for fleet in fleets:
                outcome = await rig.run(subject, fleet, kills)
                for report in outcome.reports:
                    if report != first.setdefault(subject, report):
                        outcome.faults.append("a report is not as the first one of its subject")
                outcomes.append(outcome)
                say(outcome)
    return outcomes


async def main(kills: int, subjects: Sequence[str], fleets: Sequence[str], seed: int) -> int:
    """Run, print a line of JSON each; the exit code: 0 where there was no fault."""

    def say(outcome: Outcome) -> None:
        shown = {name: getattr(outcome, name) for name in Outcome.__slots__ if name != "reports"}
        print(json.dumps(shown), flush=True)

    outcomes = await run(kills, subjects, fleets, seed=seed, say=say)
    return int(any(outcome.faults for outcome in outcomes))
