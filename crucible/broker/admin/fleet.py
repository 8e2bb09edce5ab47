"""The workers of one queue server, stock and async alike, as they describe themselves."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from crucible.broker.claiming.liveness import Heartbeat, read_heartbeats
from crucible.broker.control.client import ControlClient
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.translation import translated
from crucible.fail_fast_lock import FailFastLock
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from redis.asyncio import Redis

#: Seconds workers have to reply to the first question; stock's commands give them as long.
REPLY_S = 1.0
#: Seconds those that replied have for the further questions: it ends when all have replied.
_FURTHER_S = 3.0
#: Seconds for which ``Fleet.workers`` does not ask again.
FRESH_S = 1.0


class RunningTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task that a worker runs.

    Attributes:
        id: its id.
        name: of the task.
        started_at: when, seconds since the epoch; null where the worker's clock says nothing.
    """

    id: str
    name: str
    started_at: float | None


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One worker.

    Attributes:
        name: its node name.
        kind: ``async`` (``crucible worker``) if it has a heartbeat on the server, or ``stock``.
        status: ``online``; ``trouble`` if it cannot run tasks now; ``silent`` if it has a heartbeat
            but did not reply. A stock worker that does not reply is not listed: nothing names it.
        detail: what the trouble is.
        pool: what runs its tasks: ``asyncio``, or a pool of stock's such as ``prefork``; null if it
            did not say.
        concurrency: tasks it runs at once; null if it did not say.
        active: tasks it runs now; null if it did not say.
        queues: queues it serves, in its order.
        running: the tasks it runs now.
        circuits: states of its circuit breakers, by downstream.
        gauges: what it measures of itself, such as sandboxes by state.
    """

    name: str
    kind: Literal["async", "stock"]
    status: Literal["online", "trouble", "silent"]
    detail: str
    pool: str | None
    concurrency: int | None
    active: int | None
    queues: list[str]
    running: list[RunningTask] = []
    circuits: dict[str, str] = {}
    gauges: dict[str, int] = {}


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
    async with open_fleet(
        url, global_keyprefix=global_keyprefix, scripting=scripting, timeout_s=timeout_s
    ) as fleet:
        return await fleet.ask()


@asynccontextmanager
async def open_fleet(
    url: str,
    *,
    global_keyprefix: str = "",
    scripting: bool = True,
    timeout_s: float = REPLY_S,
) -> AsyncIterator[Fleet]:
    """Connections to ask workers with, kept; for the arguments see ``list_workers``."""
    async with (
        open_client(url, name="workers") as client,
        ControlClient.connect(
            url, global_keyprefix=global_keyprefix, scripting=scripting
        ) as control,
    ):
        yield Fleet(client, control, Keys(global_keyprefix), timeout_s)


class Fleet:
    """Asks the workers what they do. Made by ``open_fleet``.

    Args:
        client: of the queue server.
        control: reaches the workers.
        keys: key names.
        timeout_s: seconds they have to reply.
    """

    def __init__(self, client: Redis, control: ControlClient, keys: Keys, timeout_s: float) -> None:
        self._client = client
        self._control = control
        self._keys = keys
        self._timeout_s = timeout_s
        self._asking = FailFastLock()
        self._asked_at = -math.inf
        self._known: list[WorkerInfo] = []

    async def workers(self) -> list[WorkerInfo]:
        """All workers, as they described themselves ``FRESH_S`` seconds ago at most.

        Raises:
            BrokerError: the server did not answer.
        """
        clock = asyncio.get_running_loop().time
        async with self._asking.hold():
            if clock() - self._asked_at > FRESH_S:
                self._known = await self.ask()
                self._asked_at = clock()
            return self._known

    async def ask(self) -> list[WorkerInfo]:
        """Ask all of them now; raises what ``workers`` raises."""
        control = self._control
        stats = await control.ask("stats", timeout_s=self._timeout_s)
        active, queues = {}, {}
        if names := list(stats):
            active, queues = await asyncio.gather(
                *(
                    control.ask(question, destination=names, timeout_s=_FURTHER_S)
                    for question in ("active", "active_queues")
                )
            )
        with translated():
            beats = await read_heartbeats(self._client, self._keys)
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
        pool=_pool(stats),
        concurrency=_concurrency(stats),
        active=len(active) if isinstance(active, list) else None,
        queues=[queue["name"] for queue in queues] if isinstance(queues, list) else [],
        running=_running(active),
        circuits={name: one.state.value for name, one in beat.circuits.items()} if beat else {},
        gauges=beat.gauges if beat else {},
    )


def _running(active: Any) -> list[RunningTask]:
    tasks = active if isinstance(active, list) else []
    return [
        RunningTask(
            id=str(task.get("id", "")),
            name=str(task.get("name", "")),
            started_at=start if isinstance(start := task.get("time_start"), float) else None,
        )
        for task in tasks
        if isinstance(task, dict)
    ]


def _concurrency(stats: Mapping[str, Any] | None) -> int | None:
    # A worker that failed to answer replies {"error": text} instead.
    pool = stats.get("pool") if stats else None
    found = pool.get("max-concurrency") if isinstance(pool, dict) else None
    return found if isinstance(found, int) else None


#: Modules of pools, where the last part of their name is not the name of the pool.
_POOLS = {"slots": "asyncio", "thread": "threads"}


def _pool(stats: Mapping[str, Any] | None) -> str | None:
    """The pool by the name that ``--pool`` has for it (celery ``concurrency/__init__.py``)."""
    pool = stats.get("pool") if stats else None
    found = pool.get("implementation") if isinstance(pool, dict) else None
    if not isinstance(found, str):
        return None
    module = found.partition(":")[0].rpartition(".")[2]
    return _POOLS.get(module, module)
