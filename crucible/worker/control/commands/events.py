"""Commands about events, clocks and neighbours."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from crucible.worker.control.mingle import ids_of

if TYPE_CHECKING:
    from crucible.worker.control.node import Node

logger = logging.getLogger(__name__)


def ping(fleet: Node, **_: Any) -> dict[str, str]:
    """Say that the worker is there."""
    return {"ok": "pong"}


def clock(fleet: Node, **_: Any) -> dict[str, int]:
    """The logical clock."""
    return {"clock": fleet.clock.value}


def hello(fleet: Node, from_node: str, revoked: Any = None, **_: Any) -> dict[str, Any] | None:
    """Trade revoked tasks and clocks with a worker that starts; nothing with itself.

    The ids go as a list, which both 5.3 (whose own replies are mappings) and 5.7 take over.
    """
    if from_node == fleet.worker.hostname:
        return None
    logger.info("worker %s said hello", from_node)
    fleet.revoked.update(ids_of(revoked))
    return {"revoked": list(fleet.revoked), "clock": fleet.clock.forward()}


def enable_events(fleet: Node) -> dict[str, str]:
    """Send task events."""
    if fleet.events.enabled:
        return {"ok": "task events already enabled"}
    fleet.events.enabled = True
    logger.info("task events enabled by remote")
    return {"ok": "task events enabled"}


def disable_events(fleet: Node) -> dict[str, str]:
    """Send no more task events."""
    if not fleet.events.enabled:
        return {"ok": "task events already disabled"}
    fleet.events.enabled = False
    logger.info("task events disabled by remote")
    return {"ok": "task events disabled"}


async def heartbeat(fleet: Node) -> None:
    """Send a heartbeat now."""
    await fleet.heart.tell_on_demand()


def election(fleet: Node, id: Any, topic: Any, action: Any = None, **_: Any) -> None:  # noqa: A002
    """Take no part: the vote that would follow makes stock workers die (kombu's LamportClock)."""
