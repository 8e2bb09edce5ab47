"""``crucible worker --tasks``: as many processes as the job says, on a queue of stock messages."""

from __future__ import annotations

import sys
from typing import Any

from command import Command
from wire import watch

_job: dict[str, Any] = {
    "processes": 1,
    "tasks": "noop:registry",
    "queue": "celery",
    "list": "celery",
    "events": False,
    "environment": {},
}
_workers: list[Command] = []


def setup(job: dict[str, Any]) -> None:
    """Store the job; ``run`` starts the processes."""
    _job.update(job)


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Start the processes, unless they run, and sample the queue down to the job's length."""
    events = ["--events"] if _job["events"] else []
    for number in range(len(_workers), _job["processes"]):
        worker = Command(
            *(sys.executable, "-m", "crucible", "worker", "--tasks", _job["tasks"]),
            *("--queues", _job["queue"], "--name", f"w{number}@bench", "--log-level", "warning"),
            *events,
            CELERY_BROKER_URL=_job["redis"],
            **_job["environment"],
        )
        _workers.append(worker)

    def check() -> None:
        for worker in _workers:
            worker.check()

    leave = int(job.get("leave", 0))
    samples = watch(
        *(_job["redis"], (("LLEN", _job["list"]), ("HLEN", "unacked")), check, job["seconds"]),
        left_of=lambda waiting: waiting - leave,
    )
    return {"samples": samples, "pids": [worker.pid for worker in _workers]}


def teardown(job: dict[str, Any]) -> None:
    """Stop them."""
    for worker in _workers:
        worker.stop()
