"""Stock ``send_task`` in a loop, with results enabled, Celery's default."""

from __future__ import annotations

import time
from typing import Any

from celery import Celery

CHECK_EVERY = 50
_app: Any = None


def setup(job: dict[str, Any]) -> None:
    """Connect, and send once so that one-time costs are not measured."""
    global _app
    _app = Celery(broker=job["redis"], backend=job["redis"])
    _app.send_task("bench.noop", args=[0])


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Send for some seconds."""
    started, sent = time.perf_counter(), 0
    while time.perf_counter() - started < job["seconds"]:
        for number in range(CHECK_EVERY):
            _app.send_task("bench.noop", args=[number])
        sent += CHECK_EVERY
    return {"sent": sent, "elapsed_s": time.perf_counter() - started}


def teardown(job: dict[str, Any]) -> None:
    """Hang up."""
    _app.close()
