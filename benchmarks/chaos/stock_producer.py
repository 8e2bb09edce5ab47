"""A stock producer: ``python -m benchmarks.chaos.stock_producer NAME RATE SEED``.

Publish retries are off: stock's retry after a lost reply would push a message twice, and the ledger
could not distinguish that from a fault of a worker. Stops on SIGTERM.
"""

from __future__ import annotations

import signal
import sys
import time
from typing import Any

from celery import chain, chord
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from benchmarks.chaos.ledger import BlockingLedger
from benchmarks.chaos.producer import plain
from benchmarks.chaos.records import Accepted, Offered, Refused
from benchmarks.chaos.stock_app import app
from benchmarks.chaos.stock_app import work as work_task
from benchmarks.chaos.workload import Kind, Work, works

_ledger = BlockingLedger()


def _part(work: Work, task_id: str) -> Any:
    return work_task.signature(
        kwargs={"seconds": work.seconds},
        task_id=task_id,
        queue=work.queue,
        priority=work.priority,
    )


def _send(work: Work) -> None:
    if work.kind in (Kind.CHAIN, Kind.CHORD):
        parts = [_part(work, task_id) for task_id in work.ids]
        whole = chain(*parts) if work.kind is Kind.CHAIN else chord(parts[:-1], parts[-1])
        whole.apply_async(retry=False)
        return
    name, kwargs, delayed = plain(work)
    app.send_task(
        name,
        kwargs=kwargs,
        task_id=work.name,
        queue=work.queue,
        priority=work.priority,
        countdown=work.countdown if delayed else None,
        retry=False,
    )


def _try(producer: str, work: Work) -> None:
    now = time.time()
    _ledger.write(Offered(work.name, work.label, producer, work.expected(now), now))
    try:
        _send(work)
    except (OperationalError, RedisError, OSError) as error:
        _ledger.write(Refused(work.name, repr(error), time.time()))
    else:
        _ledger.write(Accepted(work.name, time.time()))


def main(producer: str, rate: float, seed: int, programs: int) -> None:
    """Send until SIGTERM."""
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    for work in works(seed, producer, programs):
        due = time.monotonic() + 1 / rate
        _try(producer, work)
        time.sleep(max(0.0, due - time.monotonic()))
        if stopped:
            return


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
