"""One api process in a mode of a migration, with both sides behind it and workers on each.

The job's ``environment`` holds the switches; ``legacy`` is false for an installation without a
legacy queue; ``workers`` is the number of worker processes of each side.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from command import Command, free_port

_commands: list[Command] = []


def setup(job: dict[str, Any]) -> dict[str, Any]:
    """Start the queue first, then the api, then what takes tasks."""
    environment = {
        "CELERY_BROKER_URL": job["redis"],
        "CRUCIBLE_EVENT_BUS_URL": job["redis"],
        "CRUCIBLE_QUEUE_LIMIT": "100000000",
        "CRUCIBLE_LOG_LEVEL": "warning",
        **job.get("environment", {}),
    }
    workers = job.get("workers", 1)
    facts: dict[str, Any] = {"port": free_port()}
    if job.get("legacy", True):
        legacy_port = free_port()
        environment["QUEUE_SERVICE_URL"] = url = f"http://127.0.0.1:{legacy_port}"
        queue = _crucible(environment, "legacy", "queue", "--port", str(legacy_port))
        queue.wait_for_port(legacy_port)
        worker = str(Path(__file__).parent / "noop_legacy_worker.py")
        _commands.extend(Command(sys.executable, worker, url) for _ in range(workers))
    api = _crucible(environment, "api", "--port", str(facts["port"]))
    api.wait_for_port(facts["port"])
    for number in range(workers):
        name = ("--name", f"w{number}@bench")
        _crucible(environment, "worker", *name, "--tasks", "noop_eval:registry")
    return {**facts, "pid": api.pid}


def _crucible(environment: dict[str, str], *arguments: str) -> Command:
    command = Command(sys.executable, "-m", "crucible", *arguments, **environment)
    _commands.append(command)
    return command


def run(job: dict[str, Any]) -> None:
    """The load comes from outside; only what runs is checked."""
    for command in _commands:
        command.check()


def teardown(job: dict[str, Any]) -> None:
    """Stop them: those that take work last, so that nothing hangs on them."""
    for command in _commands:
        command.stop()
