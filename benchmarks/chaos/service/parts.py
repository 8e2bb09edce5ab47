"""The processes of the service, each of which is started again after it was killed."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from benchmarks.budget_paths import FREE_RATES
from benchmarks.chaos.links import ROOT, Child
from crucible.settings.fields import QUEUES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.chaos.service.hosts import Hosts

#: Seconds after which stock workers give the claims of one that died back.
VISIBILITY_S = 12
#: Deliveries of a message before it is a dead letter: more than the kills can cause.
_DELIVERIES = 100
_STOP_S = 40.0
#: The part that is a stock Celery worker.
STOCK = "stock worker"
#: The parts that are async workers, and their names.
ASYNC = {"worker 1": "w1@battle", "worker 2": "w2@battle"}
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "DOCKER_HOST")


class Part:
    """One process.

    Attributes:
        name: of the part.
        pids: of every process it has had.
        lines: what they wrote.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self.pids: set[int] = set()
        self.lines: list[str] = []
        self._command = list(command)
        self._environment = dict(environment)
        self._child: Child | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self._child is not None
        return self._child.pid

    @property
    def has_ended(self) -> bool:
        """It has exited by itself, and was not started again."""
        return self._child is not None and self._child.returncode is not None

    @property
    def log(self) -> list[str]:
        """What all of its processes have written so far."""
        return [*self.lines, *(self._child.lines if self._child is not None else ())]

    async def start(self) -> None:
        """Start it; does not wait until it serves."""
        self._child = await Child(self._command, self._environment).__aenter__()
        self.pids.add(self._child.pid)

    async def kill(self) -> None:
        """SIGKILL it and its children."""
        child, self._child = self._child, None
        if child is not None:
            await child.__aexit__(None, None, None)
            self.lines += child.lines

    async def revive(self) -> None:
        """Start it again if it has exited, as a supervisor does: a database may be starting up."""
        if self.has_ended:
            await self.replace()

    async def replace(self) -> None:
        """Kill it and start the next one."""
        await self.kill()
        await self.start()

    def beside(self, name: str, *arguments: str) -> Part:
        """The same command with further arguments, in the same environment."""
        return Part(name, [*self._command, *arguments], self._environment)

    async def ended(self) -> int:
        """Its exit code, once it has exited by itself."""
        assert self._child is not None
        try:
            return await self._child.wait(_STOP_S)
        finally:
            await self.kill()

    async def stop(self) -> int:
        """SIGTERM it; its exit code, the one it had if it had exited before."""
        child = self._child
        if child is None:
            return 0
        try:
            return await child.stop(_STOP_S) if child.returncode is None else child.returncode
        finally:
            await self.kill()


def environment(
    directory: Path, queue: str, bus: str, history: str, port: int, engine: str
) -> dict[str, str]:
    """The environment of every part."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "CELERY_BROKER_URL": queue,
        "CRUCIBLE_EVENT_BUS_URL": bus,
        "CRUCIBLE_HISTORY_URL": history,
        "CRUCIBLE_PORT": str(port),
        "CRUCIBLE_EXECUTOR_URLS": f"unix://{_socket(directory)}",
        "CRUCIBLE_ISOLATION": "nested",
        "CRUCIBLE_DOCKER_URL": engine,
        "CRUCIBLE_TIERS": FREE_RATES,
        "CRUCIBLE_BREAKER_OPEN_S": "0.5",
        "CRUCIBLE_OBJECT_THRESHOLD_KB": "64",
        "CRUCIBLE_WEBHOOK_NETWORKS": "127.0.0.0/8",
        "CRUCIBLE_WEBHOOK_TIMEOUT_S": "2",
        "CRUCIBLE_VISIBILITY_TIMEOUT_S": str(VISIBILITY_S),
        "CRUCIBLE_MAX_DELIVERIES": str(_DELIVERIES),
        "CRUCIBLE_LOG_LEVEL": "warning",
    }


def _socket(directory: Path) -> Path:
    return directory / "executor.sock"


def parts(directory: Path, variables: dict[str, str], hosts: Hosts, *, stock: bool) -> list[Part]:
    """All of them, those that others need first; the stock worker only if it is asked for."""
    crucible = [sys.executable, "-m", "crucible"]
    worker = [*crucible, "worker", "--concurrency", "4", "--name"]
    stock_worker = [
        *(sys.executable, "-m", "celery", "--quiet", "-A", "crucible.celery_app", "worker"),
        *("-c", "2", "-Q", ",".join(QUEUES), "-n", "stock@battle", "-l", "WARNING"),
        *("--without-mingle", "--without-gossip"),
    ]
    commands = {
        "executor": [*crucible, "executor", "--socket", str(_socket(directory))],
        "api": [*crucible, "api"],
        **{part: [*worker, name] for part, name in ASYNC.items()},
        "historian 1": [*crucible, "historian"],
        "historian 2": [*crucible, "historian"],
    }
    if stock:
        commands[STOCK] = stock_worker
    return [
        Part(name, hosts.command(name, command), variables | hosts.variables(name))
        for name, command in commands.items()
    ]
