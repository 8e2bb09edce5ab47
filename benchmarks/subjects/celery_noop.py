"""The task of the worker scenarios, for stock Celery: returns its argument."""

from __future__ import annotations

import os

from celery import Celery

app = Celery(broker=os.environ["QUEUE_URL"], backend=os.environ["QUEUE_URL"])
app.conf.worker_prefetch_multiplier = int(os.environ.get("PREFETCH", "4"))
app.conf.broker_connection_retry_on_startup = True


@app.task(name="bench.noop")
def noop(value: int) -> int:
    """Nothing."""
    return value
