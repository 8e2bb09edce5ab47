"""Commands about events, clocks and neighbours."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from crucible.worker.control.mingle import ids_of

if TYPE_CHECKING:
    from crucible.worker.control.controlled import ControlledWorker

logger = logging.getLogger(__name__)


def ping(worker: ControlledWorker, **_: Any) -> dict[str, str]:
    """Answer that the worker is there."""
    return {"ok": "pong"}


def clock(worker: ControlledWorker, **_: Any) -> dict[str, int]:
    """The logical clock."""
    return {"clock": worker.node.clock.value}


def hello(
    worker: ControlledWorker, from_node: str, revoked: Any = None, **_: Any
) -> dict[str, Any] | None:
    """Trade revoked tasks and clocks with a worker that starts; nothing with itself.

    The ids go as a list, which both 5.3 (whose own replies are mappings) and 5.7 take over.
    """
    if from_node == worker.config.hostname:
        return None
    logger.info("worker %s said hello", from_node)
    worker.node.revocations.ids.update(ids_of(revoked))
    return {"revoked": list(worker.node.revocations.ids), "clock": worker.node.clock.forward()}


def enable_events(worker: ControlledWorker) -> dict[str, str]:
    """Send task events."""
    if worker.node.task_events.enabled:
        return {"ok": "task events already enabled"}
    worker.node.task_events.enabled = True
    logger.info("task events enabled by remote")
    return {"ok": "task events enabled"}


def disable_events(worker: ControlledWorker) -> dict[str, str]:
    """Send no more task events."""
    if not worker.node.task_events.enabled:
        return {"ok": "task events already disabled"}
    worker.node.task_events.enabled = False
    logger.info("task events disabled by remote")
    return {"ok": "task events disabled"}


async def heartbeat(worker: ControlledWorker) -> None:
    """Send a heartbeat now."""
    await worker.node.worker_events.send_short_heartbeat()


def election(worker: ControlledWorker, id: Any, topic: Any, action: Any = None, **_: Any) -> None:  # noqa: A002
    """Take no part: the vote that would follow makes stock workers die (kombu's LamportClock)."""
