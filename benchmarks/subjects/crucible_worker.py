"""``crucible worker --tasks``: as many processes as the job says, on the stock list ``celery``."""

from __future__ import annotations

import sys
from typing import Any

from celery_worker import remaining
from command import Command
from wire import watch

_job: dict[str, Any] = {}
_workers: list[Command] = []


def setup(job: dict[str, Any]) -> None:
    """Remember what to start."""
    _job.update(job)


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Start the processes and watch them work through the list."""
    events = ["--events"] if _job.get("events") else []
    for number in range(_job["processes"]):
        worker = Command(
            *(sys.executable, "-m", "crucible", "worker", "--tasks", "noop:registry"),
            *("--queues", "celery", "--name", f"w{number}@bench", "--log-level", "warning"),
            *events,
            CELERY_BROKER_URL=_job["redis"],
        )
        _workers.append(worker)

    def check() -> None:
        for worker in _workers:
            worker.check()

    looks = watch(_job["redis"], remaining, check, job["seconds"])
    return {"looks": looks, "pids": [worker.pid for worker in _workers]}


def teardown(job: dict[str, Any]) -> None:
    """Stop them."""
    for worker in _workers:
        worker.stop()
