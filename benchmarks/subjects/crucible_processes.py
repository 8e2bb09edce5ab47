"""``crucible`` commands beside each other, for subjects that are made of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from processes import start

if TYPE_CHECKING:
    from command import Command


def environment_of(job: dict[str, Any]) -> dict[str, str]:
    """What every command is told: the job's server for everything, and the job's own wishes."""
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
