"""The workers of one queue server, stock and async alike, as they describe themselves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from crucible.broker.claiming.liveness import Heartbeat, read_heartbeats
from crucible.broker.control.client import ControlClient
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.translation import translated
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Seconds workers have to reply to the first question; stock's commands give them as long.
REPLY_S = 1.0
#: Seconds those that replied have for the further questions: it ends when all have replied.
_FURTHER_S = 3.0


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One worker.

    Attributes:
        name: its node name.
        kind: ``async`` (``crucible worker``) if it has a heartbeat on the server, or ``stock``.
        status: ``online``; ``trouble`` if it cannot run tasks now; ``silent`` if it has a heartbeat
            but did not reply. A stock worker that does not reply is not listed: nothing names it.
        detail: what the trouble is.
        concurrency: tasks it runs at once; null if it did not say.
        active: tasks it runs now; null if it did not say.
        queues: queues it serves, in its order.
    """

    name: str
    kind: Literal["async", "stock"]
    status: Literal["online", "trouble", "silent"]
    detail: str
    concurrency: int | None
    active: int | None
    queues: list[str]


async def list_workers(
    url: str,
    *,
    global_keyprefix: str = "",
    scripting: bool = True,
    timeout_s: float = REPLY_S,
) -> list[WorkerInfo]:
    """Ask all workers what they do; by name.

    Args:
        url: the queue server.
        global_keyprefix: Celery's broker transport option of that name.
        scripting: False for servers without Lua.
        timeout_s: seconds they have to reply, which is how long this takes.

    Raises:
        BrokerError: the server did not answer.
        ValueError: the URL cannot be used.
    """
    async with (
        open_client(url, name="workers") as client,
        ControlClient.connect(
            url, global_keyprefix=global_keyprefix, scripting=scripting
        ) as control,
    ):
        stats = await control.ask("stats", timeout_s=timeout_s)
        active, queues = {}, {}
        if names := list(stats):
            active, queues = await asyncio.gather(
                *(
                    control.ask(question, destination=names, timeout_s=_FURTHER_S)
                    for question in ("active", "active_queues")
                )
            )
        with translated():
            beats = await read_heartbeats(client, Keys(global_keyprefix))
    alive = {beat.node: beat for beat in beats}
    return [
        _described(name, alive.get(name), stats.get(name), active.get(name), queues.get(name))
        for name in sorted(alive.keys() | stats.keys())
    ]


def _described(
    name: str, beat: Heartbeat | None, stats: Any, active: Any, queues: Any
) -> WorkerInfo:
    trouble = beat.trouble if beat else ""
    replied: Literal["online", "silent"] = "silent" if stats is None else "online"
    return WorkerInfo(
        name=name,
        kind="async" if beat else "stock",
        status="trouble" if trouble else replied,
        detail=trouble,
        concurrency=_concurrency(stats),
        active=len(active) if isinstance(active, list) else None,
        queues=[queue["name"] for queue in queues] if isinstance(queues, list) else [],
    )


def _concurrency(stats: Mapping[str, Any] | None) -> int | None:
    # A worker that failed to answer replies {"error": text} instead.
    pool = stats.get("pool") if stats else None
    found = pool.get("max-concurrency") if isinstance(pool, dict) else None
    return found if isinstance(found, int) else None
