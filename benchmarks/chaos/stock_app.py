"""The chaos test's tasks for stock workers, and the stock producer's application.

Configured as Celery's documentation advises where no task may be lost: late acknowledgement, reject
on worker lost, and a visibility timeout longer than any task or delay of the load. The sweep of 5.7
is configured so that abandoned messages are restored within the run.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from celery import Celery
from celery.signals import worker_ready

from benchmarks.chaos.ledger import WORKER_VARIABLE, BlockingLedger, new_run
from benchmarks.chaos.records import Ended, Ready, Started
from benchmarks.chaos.values import epoch, flattened

_URL = os.environ.get("CELERY_BROKER_URL", "memory://")
_WORKER = os.environ.get(WORKER_VARIABLE, "")
_ledger = BlockingLedger()

app = Celery("chaos", broker=_URL, backend=_URL)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    redis_socket_timeout=5.0,
    broker_transport_options={
        "visibility_timeout": float(os.environ.get("CRUCIBLE_VISIBILITY_TIMEOUT_S", "3600")),
        "unacked_restore_interval": 2,
        "unacked_restore_throttle": 1,
        # Without a timeout a worker whose link stalls waits for ever.
        "socket_timeout": 5.0,
    },
    **json.loads(os.environ.get("CHAOS_CELERY", "{}")),
)


@worker_ready.connect  # type: ignore[untyped-decorator]  # Celery has no annotations
def _ready(**_: Any) -> None:
    _ledger.write(Ready(_WORKER, os.getpid(), time.time()))


def _start(request: Any, at: float) -> str:
    run = new_run()
    eta = epoch(request.eta)
    _ledger.write(Started(run, request.id, request.retries, _WORKER, os.getpid(), at, eta))
    return run


@app.task(name="chaos.work", bind=True)  # type: ignore[untyped-decorator]  # no annotations
def work(self: Any, *got: Any, seconds: float = 0.0) -> str:
    """Take ``seconds``; return the task's id."""
    run = _start(self.request, time.time())
    if seconds:
        time.sleep(seconds)
    _ledger.write(Ended(run, time.time(), got=flattened(got)))
    return str(self.request.id)


@app.task(name="chaos.flaky", bind=True, max_retries=None)  # type: ignore[untyped-decorator]
def flaky(self: Any, *, times: int, countdown: float) -> str:
    """Retry ``times`` times."""
    run = _start(self.request, time.time())
    again = self.request.retries < times
    _ledger.write(Ended(run, time.time(), retry=again))
    if again:
        raise self.retry(countdown=countdown)
    return str(self.request.id)
