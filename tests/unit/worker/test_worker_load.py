"""The load in a worker's heartbeat."""

from __future__ import annotations

from typing import Any, cast

from crucible.broker.claiming.liveness import SERVICE_MS
from crucible.worker.load import WorkerLoad
from crucible.worker.run import Run, TurnedAway
from crucible.worker.slots import Slots


def test_the_service_time_follows_the_last_runs() -> None:
    """Nothing before the first end; then an average in which about twenty runs count."""
    now = 100.0
    load = WorkerLoad(Slots(2), [], lambda: now)
    run = cast("Any", Run(cast("Any", None)))
    load.failed(run, ValueError(), None)  # never started
    load.turned_away(run, TurnedAway.REVOKED)
    assert SERVICE_MS not in load.gauges()
    load.succeeded(run, None, 1.0)
    assert load.gauges()[SERVICE_MS] == 1000
    for _ in range(200):
        load.succeeded(run, None, 0.01)
    assert load.gauges()[SERVICE_MS] == 10
    run.started_at = run.started_s = 98.0
    for _ in range(200):
        load.failed(run, ValueError(), None)
    assert load.gauges()[SERVICE_MS] == 2000


def test_no_time_is_some_time() -> None:
    """A task that took less than half a millisecond is no reason to divide by zero."""
    load = WorkerLoad(Slots(2), [])
    load.succeeded(cast("Any", Run(cast("Any", None))), None, 0.0)
    found = load.gauges()
    assert found.pop("worker memory_mb") > 0
    assert found == {
        "worker slots": 2, "worker busy": 0, "worker claimed": 0, "worker ran": 1, SERVICE_MS: 1,
    }  # fmt: skip
