"""A stock Celery worker with two processes or threads, on a queue filled beforehand.

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
    """Store the job; ``run`` starts the worker."""
    _job.update(job)


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Start the worker and sample its queue until it is empty."""
    events = ["-E"] if _job.get("events") else []
    worker = Command(
        *(script("celery"), "-A", "celery_noop", "worker", "-l", "warning", "-n", "stock@bench"),
        *("-P", _job["pool"], "-c", str(_job["concurrency"]), *events),
        QUEUE_URL=_job["redis"],
        PREFETCH=str(_job.get("prefetch", 4)),
        PYTHONPATH=".",
    )
    _workers.append(worker)
    return {"samples": watch(_job["redis"], _LEFT, worker.check, job["seconds"])}


def teardown(job: dict[str, Any]) -> None:
    """Stop it."""
    for worker in _workers:
        worker.stop()
