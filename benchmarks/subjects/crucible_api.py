"""``crucible api``, one process, on a durable queue server."""

from __future__ import annotations

import sys
from typing import Any

from command import Command, free_port

_api: Command | None = None


def setup(job: dict[str, Any]) -> dict[str, Any]:
    """Start ``crucible api``."""
    global _api
    port = free_port()
    _api = Command(
        *(sys.executable, "-m", "crucible", "api", "--port", str(port), "--log-level", "warning"),
        CELERY_BROKER_URL=job["redis"],
        **{
            "CRUCIBLE_EVENT_BUS_URL": job["redis"],
            "CRUCIBLE_QUEUE_LIMIT": str(job.get("queue_limit", 100_000_000)),
            **job.get("environment", {}),
        },
    )
    _api.wait_for_port(port)
    return {"port": port, "pid": _api.pid}


def run(job: dict[str, Any]) -> None:
    """Nothing to do: a load generator sends the requests."""


def teardown(job: dict[str, Any]) -> None:
    """Stop it."""
    if _api is not None:
        _api.stop()
