"""A large assessment, and how quickly others start beside it: ``python -m benchmarks.assessments``.

Programs take no time, so what is measured is the assessment itself: how far its worker's memory
grows, how smoothly its progress goes, how large its report is, and the time of ``POST …/start``
while it runs. The api and the worker are one process each, as in an installation. With ``--kills``
workers die instead: ``assessment_kills``.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp

from benchmarks import assessment_kills
from crucible.assessments.tasks import build_registry as assessment_tasks
from crucible.embedded.lifeline import end_with_parent
from crucible.embedded.server import EmbeddedServer, free_port
from crucible.settings import load_settings
from crucible.worker import TaskRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from crucible.worker import TaskContext

registry = TaskRegistry()
#: Cases in one request, and seconds between two looks.
_PART, _LOOK_S = 2000, 0.25


@registry.task("tasks.evaluate_code")
async def evaluate(ctx: TaskContext, eval_id: str, code: str, language: str, **_: Any) -> Any:
    """A program that takes no time; every tenth fails."""
    failed = eval_id.endswith("0")
    return {
        "eval_id": eval_id,
        "status": "completed",
        "verdict": "nonzero_exit" if failed else "ok",
        "exit_code": int(failed),
        "error": "it is meant to fail\n" if failed else "",
        "usage": {"wall_time_ms": 5, "cpu_time_ms": 4, "memory_peak_kb": 9000},
    }


registry.include(assessment_tasks(load_settings()))


def rss_kb(pid: int) -> int:
    """Resident memory of a process, KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ProcessLookupError(pid)


def quantile_ms(times: Sequence[float], share: float) -> float:
    """The time, milliseconds, that this share of ``times`` in seconds does not exceed."""
    return round(sorted(times)[int(len(times) * share)] * 1000, 2)


async def spawn(*arguments: str, environ: dict[str, str]) -> asyncio.subprocess.Process:
    """A ``crucible`` command."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "crucible", *arguments, env=environ, preexec_fn=end_with_parent
    )


async def ready(client: aiohttp.ClientSession) -> None:
    """Return once the api and a worker are there."""
    async with asyncio.timeout(60):
        while True:
            try:
                async with client.get("/workers/status") as response:
                    if response.status == 200 and (await response.json())["online"]:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)


async def post(client: aiohttp.ClientSession, path: str, body: Any = None) -> dict[str, Any]:
    """One POST that must be accepted."""
    async with client.post(path, json=body or {}) as response:
        answer: dict[str, Any] = await response.json()
        if response.status >= 300:
            raise RuntimeError(answer)
        return answer


async def make(client: aiohttp.ClientSession, cases: int) -> str:
    """A draft with so many cases; its path."""
    made = await post(client, "/api/v1/assessments", {"name": "large", "draft": True})
    path = str(made["href"])
    for at in range(0, cases, _PART):
        part = [
            {"id": f"c{n}", "name": f"case {n}", "code": "print(1)"}
            for n in range(at, min(cases, at + _PART))
        ]
        await post(client, f"{path}/cases", {"at": at, "cases": part})
    return path


async def measure(
    client: aiohttp.ClientSession, cases: int, starts: int, worker: int, api: int
) -> dict[str, Any]:
    """Run the large assessment, and start small ones beside it.

    What the machine itself makes requests wait is seen from ``GET /health``, which needs nothing
    but a turn of the api, asked for before each start.
    """
    path = await make(client, cases)
    small = [
        (await post(client, "/api/v1/assessments", {"name": "s", "cases": [{"code": "1"}]}))["href"]
        for _ in range(starts)
    ]
    await post(client, f"{path}/start")
    began, times, bare, memory, seen = time.monotonic(), [], [], [], []
    while True:
        for _ in range(min(4, len(small))):
            at = time.perf_counter()
            async with client.get("/health") as response:
                await response.read()
            bare.append(time.perf_counter() - at)
            at = time.perf_counter()
            await post(client, f"{small.pop()}/start")
            times.append(time.perf_counter() - at)
        async with client.get(path) as response:
            found = await response.json()
        seen.append((time.monotonic() - began, found["progress"]))
        memory.append((rss_kb(worker), rss_kb(api)))
        if found["status"] in ("completed", "failed", "cancelled"):
            break
        await asyncio.sleep(_LOOK_S)
    sizes = {}
    for kind in ("json", "html", "junit"):
        async with client.get(f"{path}/report", params={"format": kind}) as response:
            sizes[kind] = len(await response.read())
    steps = [after - before for (_, before), (_, after) in itertools.pairwise(seen)]
    return {
        "cases": cases,
        "status": found["status"],
        "seconds": round(seen[-1][0], 1),
        "start_p50_ms": quantile_ms(times, 0.5),
        "start_p99_ms": quantile_ms(times, 0.99),
        "health_p50_ms": quantile_ms(bare, 0.5),
        "health_p99_ms": quantile_ms(bare, 0.99),
        "starts": len(times),
        "progress_fell": any(step < 0 for step in steps),
        "largest_step_percent": round(max(steps, default=0.0), 2),
        "worker_and_api_rss_kb_at_10_percent": memory[len(memory) // 10],
        "worker_and_api_rss_kb_at_90_percent": memory[len(memory) * 9 // 10],
        "worker_rss_kb_most": max(of_worker for of_worker, _ in memory),
        "api_rss_kb_most": max(of_api for _, of_api in memory),
        "report_bytes": sizes,
    }


class Installation(NamedTuple):
    """An api and a worker.

    Attributes:
        client: asks the api.
        api: process id.
        worker: process id.
        redis: URL of the queue server.
    """

    client: aiohttp.ClientSession
    api: int
    worker: int
    redis: str


@asynccontextmanager
async def installation(folder: Path) -> AsyncIterator[Installation]:
    """One api, and one worker whose programs take no time."""
    async with EmbeddedServer(folder, durable=True) as server:
        port = free_port()
        environ = {
            **os.environ,
            "CELERY_BROKER_URL": server.url,
            "CRUCIBLE_EVENT_BUS_URL": "off",
            "CRUCIBLE_PORT": str(port),
            "CRUCIBLE_LOG_LEVEL": "warning",
        }
        queues = "high_priority,evaluation,batch,assessments,reports"
        serve = ("--tasks", "benchmarks.assessments:registry", "--queues", queues)
        api = await spawn("api", environ=environ)
        worker = await spawn("worker", *serve, "--concurrency", "8", environ=environ)
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
                await ready(client)
                yield Installation(client, api.pid, worker.pid, server.url)
        finally:
            for child in (api, worker):
                child.terminate()
                await child.wait()


async def run(cases: int, starts: int) -> None:
    """Start an installation, measure, print JSON."""
    with tempfile.TemporaryDirectory() as folder:
        async with installation(Path(folder)) as one:
            found = await measure(one.client, cases, starts, one.worker, one.api)
            print(json.dumps(found, indent=1))


def main(words: Sequence[str] | None = None) -> int:
    """Read the arguments, the command line's by default, and run; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--starts", type=int, default=200)
    parser.add_argument("--kills", type=int, help="kill so many workers instead; 0: only compare")
    parser.add_argument("--of", choices=assessment_kills.SUBJECTS, help="both where left out")
    parser.add_argument("--fleet", choices=assessment_kills.FLEETS, help="all where left out")
    parser.add_argument("--seed", type=int, default=7, help="chooses who is killed, and when")
    given = parser.parse_args(words)
    if given.kills is None:
        asyncio.run(run(given.cases, given.starts))
        return 0
    subjects = [given.of] if given.of else assessment_kills.SUBJECTS
    fleets = [given.fleet] if given.fleet else list(assessment_kills.FLEETS)
    return asyncio.run(assessment_kills.main(given.kills, subjects, fleets, given.seed))


if __name__ == "__main__":
    raise SystemExit(main())
