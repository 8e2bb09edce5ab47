"""How many messages wait in each queue, and emptying a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from crucible.broker.control.revoked import store_revoked
from crucible.broker.wire.decode import decode
from crucible.broker.wire.priority import STEPS
from crucible.errors import MessageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from crucible.broker.redis.claim_store import ClaimStore
    from crucible.broker.redis.commands import Commands
    from crucible.redis_keys import Keys

#: Messages taken off a list by one command while purging.
_BATCH = 500


class QueueDepth(msgspec.Struct, frozen=True, kw_only=True):
    """One queue.

    Attributes:
        name: of the queue.
        waiting: messages in its lists.
        by_step: the same by priority step, step 0 is served first.
        why: why they wait, where that is known; null otherwise.
    """

    name: str
    waiting: int
    by_step: dict[str, int]
    why: str | None = None


class Census(msgspec.Struct, frozen=True, kw_only=True):
    """What the queue server holds.

    Attributes:
        queues: the queues asked for, in order.
        claimed: claims and delayed messages.
        dead_letters: messages that could not be run.
    """

    queues: list[QueueDepth]
    claimed: int
    dead_letters: int


async def take_census(store: Commands, keys: Keys, queues: Sequence[str]) -> Census:
    """Count what waits, in one round trip; not at one instant, for others come in between.

    Raises:
        BrokerError: the server could not be asked.
    """
    lists = [("LLEN", keys.step_list(queue, step)) for queue in queues for step in STEPS]
    claimed, dead_letters, *lengths = await store.commands(
        [("HLEN", keys.unacked), ("XLEN", keys.dlq), *lists]
    )
    depths = []
    for at, queue in enumerate(queues):
        of_queue = lengths[at * len(STEPS) : (at + 1) * len(STEPS)]
        by_step = {str(step): length for step, length in zip(STEPS, of_queue, strict=True)}
        depths.append(QueueDepth(name=queue, waiting=sum(of_queue), by_step=by_step))
    return Census(queues=depths, claimed=claimed, dead_letters=dead_letters)


async def purge_queue(
    store: Commands,
    results: ClaimStore,
    keys: Keys,
    queue: str,
    result_ttl_s: int,
    dropped_tasks: Callable[[Sequence[str]], Awaitable[None]] | None = None,
) -> int:
    """Drop every message waiting in a queue; returns how many.

    Unlike ``celery purge``, REVOKED is stored for each, so that nobody waits for ever for a task
    that is gone.

    Args:
        store: commands on the queue server.
        results: operations on the result server.
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
            taken = await store.command("RPOP", keys.step_list(queue, step), _BATCH)
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
