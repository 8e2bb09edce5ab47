"""How much waits where, and emptying a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from crucible.broker.control.revoked import store_revoked
from crucible.broker.wire.decode import decode
from crucible.broker.wire.priority import STEPS
from crucible.errors import MessageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from crucible.broker.redis.atomic import Steps
    from crucible.redis_keys import Keys

#: Messages taken off a list by one command while purging.
_BATCH = 500


class QueueDepth(msgspec.Struct, frozen=True, kw_only=True):
    """One queue.

    Attributes:
        name: of the queue.
        waiting: messages in its lists.
        by_step: the same by priority step, step 0 is served first.
    """

    name: str
    waiting: int
    by_step: dict[str, int]


class Census(msgspec.Struct, frozen=True, kw_only=True):
    """What the queue server holds.

    Attributes:
        queues: the queues asked for, in order.
        claimed: messages taken and not ended: running, prefetched and delayed.
        dead_letters: messages that could not be run.
    """

    queues: list[QueueDepth]
    claimed: int
    dead_letters: int


async def take_census(steps: Steps, keys: Keys, queues: Sequence[str]) -> Census:
    """Count what waits; the numbers are read one after another, not at one instant.

    Raises:
        BrokerError: the server did not tell.
    """
    depths = []
    for queue in queues:
        by_step = {
            str(step): int(await steps.command("LLEN", keys.step_list(queue, step)))
            for step in STEPS
        }
        depths.append(QueueDepth(name=queue, waiting=sum(by_step.values()), by_step=by_step))
    return Census(
        queues=depths,
        claimed=int(await steps.command("HLEN", keys.unacked)),
        dead_letters=int(await steps.command("XLEN", keys.dlq)),
    )


async def purge_queue(
    steps: Steps,
    results: Steps,
    keys: Keys,
    queue: str,
    result_ttl_s: int,
    dropped_tasks: Callable[[Sequence[str]], Awaitable[None]] | None = None,
) -> int:
    """Drop every message waiting in a queue; returns how many.

    Unlike ``celery purge``, REVOKED is stored for each, so that nobody waits for ever for a task
    that is gone.

    Args:
        steps: on the queue server.
        results: on the result server.
        keys: key names.
        queue: its name.
        result_ttl_s: seconds results are kept, 0 for ever.
        dropped_tasks: called with the ids of tasks that were dropped, some at a time.

    Raises:
        BrokerError: the server failed in the middle; what was dropped is dropped.
    """
    dropped = 0
    for step in STEPS:
        while True:
            taken = await steps.command("RPOP", keys.step_list(queue, step), _BATCH)
            if not taken:
                break
            dropped += len(taken)
            task_ids = _task_ids(taken)
            await store_revoked(results, keys, result_ttl_s, task_ids, final=True)
            if dropped_tasks is not None:
                await dropped_tasks(task_ids)
    return dropped


def _task_ids(messages: Sequence[bytes]) -> list[str]:
    ids = []
    for raw in messages:
        try:
            ids.append(decode(raw).id)
        except MessageError:
            # Nobody can wait for a task whose id cannot be read.
            continue
    return ids
