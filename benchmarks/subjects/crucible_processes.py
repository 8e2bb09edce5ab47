"""Starts ``crucible`` commands, for subjects that consist of several."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from processes import start

from crucible.settings import QUEUES

if TYPE_CHECKING:
    from command import Command


def environment_of(job: dict[str, Any]) -> dict[str, str]:
    """The environment of every command: the job's server, and the job's own variables."""
    return {
        "CELERY_BROKER_URL": job["redis"],
        "CRUCIBLE_EVENT_BUS_URL": job["redis"],
        "CRUCIBLE_QUEUE_LIMIT": "100000000",
        "CRUCIBLE_LOG_LEVEL": "warning",
        **job.get("environment", {}),
    }


def crucible(environment: dict[str, str], *arguments: str) -> Command:
    """Start a ``crucible`` command."""
    return start(sys.executable, "-m", "crucible", *arguments, **environment)


def serving(tasks: str) -> tuple[str, ...]:
    """Flags of a worker that serves a registry from the queues of evaluations."""
    return ("--tasks", tasks, "--queues", ",".join(QUEUES))
