"""Remote control commands by name.

Each takes the worker and the request's arguments under stock's names, so that wrong arguments give
stock's errors; what it returns is the reply. Source: celery ``worker/control.py`` (5.7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.worker.control.commands import (
    capacity,
    events,
    machine,
    queues,
    requests,
    revoking,
    tasks,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["COMMANDS"]

_ALL: tuple[Callable[..., Any], ...] = (
    capacity.autoscale,
    capacity.pool_grow,
    capacity.pool_restart,
    capacity.pool_shrink,
    capacity.shutdown,
    events.clock,
    events.disable_events,
    events.election,
    events.enable_events,
    events.heartbeat,
    events.hello,
    events.ping,
    machine.conf,
    machine.memdump,
    machine.memsample,
    machine.objgraph,
    machine.report,
    machine.stats,
    queues.active_queues,
    queues.add_consumer,
    queues.cancel_consumer,
    requests.active,
    requests.query_task,
    requests.reserved,
    requests.scheduled,
    revoking.revoke,
    revoking.revoke_by_stamped_headers,
    revoking.revoked,
    revoking.terminate,
    tasks.rate_limit,
    tasks.registered,
    tasks.time_limit,
)
#: Names from before Celery 4, which stock still answers to.
_OLD_NAMES: dict[str, Callable[..., Any]] = {
    "dump_active": requests.active,
    "dump_conf": machine.conf,
    "dump_reserved": requests.reserved,
    "dump_revoked": revoking.revoked,
    "dump_schedule": requests.scheduled,
    "dump_tasks": tasks.registered,
}
COMMANDS: dict[str, Callable[..., Any]] = {
    **{command.__name__: command for command in _ALL},
    **_OLD_NAMES,
}
