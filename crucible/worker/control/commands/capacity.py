"""Commands that change how much the worker runs, up to not at all."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crucible.worker.control.controlled import ControlledWorker

logger = logging.getLogger(__name__)

#: More tasks at once than this is a typing error.
MAX_CONCURRENCY = 100_000


def pool_grow(worker: ControlledWorker, n: int = 1, **_: Any) -> dict[str, str]:
    """Run ``n`` more tasks at once."""
    _resize(worker, worker.runs.concurrency + int(n))
    return {"ok": "pool will grow"}


def pool_shrink(worker: ControlledWorker, n: int = 1, **_: Any) -> dict[str, str]:
    """Run ``n`` fewer tasks at once; running ones are left to end."""
    _resize(worker, worker.runs.concurrency - int(n))
    return {"ok": "pool will shrink"}


def _resize(worker: ControlledWorker, concurrency: int) -> None:
    if not 1 <= concurrency <= MAX_CONCURRENCY:
        raise ValueError(f"Can't resize pool to {concurrency}.")
    logger.info("%d tasks at once from now on", concurrency)
    worker.runs.resize(concurrency)


def autoscale(worker: ControlledWorker, max: Any = None, min: Any = None) -> None:  # noqa: A002 - stock's names
    """There is nothing to scale: tasks share one process."""
    raise ValueError("Autoscale not enabled")


def pool_restart(
    worker: ControlledWorker,
    modules: Any = None,
    reload: Any = False,
    reloader: Any = None,
    **_: Any,
) -> None:
    """There is no pool of processes to restart."""
    raise ValueError("Pool restarts not enabled")


def shutdown(worker: ControlledWorker, msg: str = "Got shutdown from remote", **_: Any) -> None:
    """Stop as after SIGTERM: running tasks end first. Nobody gets a reply, as from stock."""
    logger.warning("%s", msg)
    worker.node.stop_asked.set()
