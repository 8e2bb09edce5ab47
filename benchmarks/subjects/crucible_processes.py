"""``crucible`` commands beside each other, for subjects that are made of them."""

from __future__ import annotations

import sys
from typing import Any

from command import Command

_commands: list[Command] = []


def environment_of(job: dict[str, Any]) -> dict[str, str]:
    """What every command is told: the job's server for everything, and the job's own wishes."""
    return {
        "CELERY_BROKER_URL": job["redis"],
        "CRUCIBLE_EVENT_BUS_URL": job["redis"],
        "CRUCIBLE_QUEUE_LIMIT": "100000000",
        "CRUCIBLE_LOG_LEVEL": "warning",
        **job.get("environment", {}),
    }


def start(*arguments: str, **environment: str) -> Command:
    """Start a Python command; ``run`` checks it and ``teardown`` ends it."""
    command = Command(sys.executable, *arguments, **environment)
    _commands.append(command)
    return command


def crucible(environment: dict[str, str], *arguments: str) -> Command:
    """Start a ``crucible`` command."""
    return start("-m", "crucible", *arguments, **environment)


def pids() -> list[int]:
    """Process ids in the order of the starts."""
    return [command.pid for command in _commands]


def run(job: dict[str, Any]) -> None:
    """The load comes from outside; only what runs is checked."""
    for command in _commands:
        command.check()


def teardown(job: dict[str, Any]) -> None:
    """Stop them in the order they were started."""
    for command in _commands:
        command.stop()
