"""Both queue systems: two legacy executors, one Celery executor, workers of both kinds, Flower."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from processes import Process

from crucible.embedded.server import EmbeddedServer, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

QUEUES = "high_priority,evaluation,batch,maintenance"


@dataclass
class Installation:
    """What is running.

    Attributes:
        redis: the task queue server.
        processes: the rest, by name.
        apis: URLs of the api processes.
        legacy_url: the legacy queue.
        flower_url: Flower.
    """

    redis: EmbeddedServer
    processes: dict[str, Process]
    apis: list[str]
    legacy_url: str
    flower_url: str
    environ: dict[str, str] = field(default_factory=dict)

    async def kill_redis(self, away_s: float) -> None:
        """SIGKILL the task queue server and restart it on its append-only file."""
        os.kill(self.redis.pid, signal.SIGKILL)
        await asyncio.sleep(away_s)
        self.redis = EmbeddedServer(self.redis.directory, self.redis.port)
        await self.redis.__aenter__()

    async def kill(self, name: str, away_s: float = 1.0) -> None:
        """SIGKILL a process and restart it."""
        await self.processes[name].kill()
        await asyncio.sleep(away_s)
        await self.processes[name].start()


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Installation]:
    """Start everything on free ports, and stop it in reverse order."""
    async with AsyncExitStack() as stack:
        redis = EmbeddedServer(folder / "redis")
        await redis.__aenter__()
        ports = [free_port() for _ in range(7)]
        installation = Installation(
            redis=redis,
            processes={},
            apis=[f"http://127.0.0.1:{port}" for port in ports[:2]],
            legacy_url=f"http://127.0.0.1:{ports[2]}",
            flower_url=f"http://127.0.0.1:{ports[6]}",
        )

        async def end_redis() -> None:
            await installation.redis.__aexit__(None, None, None)

        stack.push_async_callback(end_redis)
        for process in _processes(installation, ports, folder):
            installation.processes[process.name] = process
            stack.push_async_callback(process.stop)
        executors = [p for name, p in installation.processes.items() if name.startswith("executor")]
        others = [
            p for name, p in installation.processes.items() if not name.startswith("executor")
        ]
        await asyncio.gather(*(process.start() for process in executors))
        await asyncio.gather(*(process.start() for process in others))
        yield installation


def _processes(installation: Installation, ports: list[int], logs: Path) -> list[Process]:
    url = installation.redis.url
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
    base = installation.environ = {
        **kept,
        "PYTHONUNBUFFERED": "1",
        "CELERY_BROKER_URL": url,
        "CRUCIBLE_EVENT_BUS_URL": url.replace("/0", "/1"),
        "QUEUE_SERVICE_URL": installation.legacy_url,
        "CELERY_PERCENTAGE": "0.0",
        "CRUCIBLE_BREAKER_FAILURES": "3",
        "CRUCIBLE_BREAKER_OPEN_S": "1",
        "CRUCIBLE_PUBLISH_DEADLINE_S": "0.5",
        "CRUCIBLE_POOL_MIN": "2",
        "CRUCIBLE_POOL_MAX": "3",
    }

    def process(
        name: str, *arguments: str, ready: str, module: str = "crucible", **more: str
    ) -> Process:
        return Process(name, [module, *arguments], {**base, **more}, logs, ready)

    executors = [f"http://127.0.0.1:{port}" for port in ports[3:6]]
    found = [
        process(f"executor-{name}", "executor", "--port", str(port), ready="executor listening")
        for name, port in zip(("legacy-1", "legacy-2", "celery"), ports[3:6], strict=True)
    ]
    found.append(
        process("legacy-queue", "legacy", "queue", "--port", str(ports[2]), ready="listening")
    )
    found += [
        process(
            f"legacy-worker-{n}",
            "legacy",
            "worker",
            "--executor-url",
            executors[n - 1],
            ready="polls",
        )
        for n in (1, 2)
    ]
    celery = {"CRUCIBLE_EXECUTOR_URLS": executors[2], "CRUCIBLE_CONCURRENCY": "2"}
    found.append(process("async-worker", "worker", ready="", **celery))
    found.append(
        process(
            "stock-worker",
            *("-A", "crucible.celery_app", "worker", "-Q", QUEUES, "-c", "1", "-E", "-l", "INFO"),
            *("-n", "stock@demo", "--without-gossip", "--without-mingle"),
            module="celery",
            ready=r"stock@demo ready",
            **celery,
        )
    )
    found.append(
        process(
            "flower",
            *("-A", "crucible.celery_app", "flower", f"--port={ports[6]}", "--address=127.0.0.1"),
            module="celery",
            ready="",
            **celery,
        )
    )
    found += [
        process(f"api-{n + 1}", "api", "--port", str(ports[n]), ready="api listening")
        for n in range(2)
    ]
    return found
