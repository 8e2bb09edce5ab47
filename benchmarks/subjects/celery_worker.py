"""A stock Celery worker. Messages are in its list already; two processes, or threads.

``prefetch`` 4 is the default. Celery's guide to optimizing advises more for many short tasks.
"""

from __future__ import annotations

from typing import Any

from command import Command, script
from wire import watch

_job: dict[str, Any] = {}
_workers: list[Command] = []
#: Messages in the list and prefetched.
_LEFT = (("LLEN", "celery"), ("HLEN", "unacked"))


def setup(job: dict[str, Any]) -> None:
    """Remember what to start."""
    _job.update(job)


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Start the worker and watch it work through its list."""
    events = ["-E"] if _job.get("events") else []
    worker = Command(
        *(script("celery"), "-A", "celery_noop", "worker", "-l", "warning", "-n", "stock@bench"),
        *("-P", _job["pool"], "-c", str(_job["concurrency"]), *events),
        QUEUE_URL=_job["redis"],
        PREFETCH=str(_job.get("prefetch", 4)),
        PYTHONPATH=".",
    )
    _workers.append(worker)
    return {"looks": watch(_job["redis"], _LEFT, worker.check, job["seconds"])}


def teardown(job: dict[str, Any]) -> None:
    """Stop it."""
    for worker in _workers:
        worker.stop()
