"""Commands about single tasks: what runs, what waits here, what is delayed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from crucible.broker.claiming.delayed import delayed_messages
from crucible.broker.wire.decode import Message, decode
from crucible.broker.wire.timestamps import utc_text
from crucible.errors import MessageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crucible.worker.control.controlled import ControlledWorker
    from crucible.worker.run import Run

#: Tasks listed in one reply; more would slow the worker down.
MAX_LISTED = 1000
#: Priority of timer entries in stock replies (kombu ``asynchronous/timer.py``).
_TIMER_PRIORITY = 6


def described(
    worker: ControlledWorker, message: Message, run: Run | None, safe: Any = False
) -> dict[str, Any]:
    """One task as stock's ``Request.info`` has it."""
    headers = message.headers
    args: Any = message.args
    kwargs: Any = message.kwargs
    if safe:
        args, kwargs = headers.get("argsrepr", ""), headers.get("kwargsrepr", "")
    started_at = run.started_at if run is not None and run.started_at else None
    return {
        "id": message.id,
        "name": headers.get("shadow") or message.task,
        "args": args,
        "kwargs": kwargs,
        "type": message.task,
        "hostname": worker.config.hostname,
        "time_start": started_at,
        # Messages are dropped with the result, never before.
        "acknowledged": False,
        "delivery_info": {
            "exchange": message.exchange,
            "routing_key": message.queue,
            "priority": message.priority,
            "redelivered": message.redelivered,
        },
        "worker_pid": os.getpid() if started_at else None,
    }


def active(worker: ControlledWorker, safe: Any = False, **_: Any) -> list[dict[str, Any]]:
    """The tasks that run; ``safe`` shows their arguments as text."""
    return [
        described(worker, run.message, run, safe)
        for run in list(worker.runs.running)[:MAX_LISTED]
        if run.message is not None and run.started_at
    ]


def reserved(worker: ControlledWorker, **_: Any) -> list[dict[str, Any]]:
    """The tasks taken from the lists that do not run yet."""
    return [described(worker, message, run) for run, message in _waiting(worker)]


def _waiting(worker: ControlledWorker) -> Iterator[tuple[Run, Message]]:
    listed = 0
    for run in worker.runs.unsettled:
        if run.started_at:
            continue
        try:
            message = run.message or decode(run.claim.raw)
        except MessageError:
            continue
        yield run, message
        listed += 1
        if listed == MAX_LISTED:
            return


async def scheduled(worker: ControlledWorker, **_: Any) -> list[dict[str, Any]]:
    """The delayed tasks, listed by one worker for all.

    They wait on the server and belong to no worker. The living worker with the smallest id lists
    them, so that a list over all workers has each once.
    """
    if not await _lists_for_all(worker):
        return []
    listed = []
    for raw in await delayed_messages(worker.steps, worker.config.keys, MAX_LISTED):
        try:
            message = decode(raw)
            listed.append((message.eta or 0.0, described(worker, message, None)))
        except MessageError:
            continue
    return [
        {
            "eta": utc_text(eta) if eta else None,
            "priority": _TIMER_PRIORITY,
            "request": request,
        }
        for eta, request in sorted(listed, key=lambda pair: pair[0])
    ]


async def _lists_for_all(worker: ControlledWorker) -> bool:
    known: list[bytes] = await worker.steps.command("ZRANGE", worker.config.keys.workers, 0, -1)
    workers = sorted(worker_id.decode() for worker_id in known)
    if not workers:
        return True
    heartbeats = await worker.steps.command("MGET", *map(worker.config.keys.worker, workers))
    living = [
        worker_id for worker_id, beat in zip(workers, heartbeats, strict=True) if beat is not None
    ]
    return not living or living[0] == worker.worker_id


async def query_task(worker: ControlledWorker, ids: Any, **_: Any) -> dict[str, list[Any]]:
    """Where tasks with these ids stand, of those that are known here."""
    wanted = {ids} if isinstance(ids, str) else set(ids)
    found: dict[str, list[Any]] = {}
    for run in worker.runs.unsettled:
        message = run.message
        if message is None:
            try:
                message = decode(run.claim.raw)
            except MessageError:
                continue
        if message.id in wanted:
            state = "active" if run.started_at else "reserved"
            found[message.id] = [state, described(worker, message, run)]
    if len(found) < len(wanted):
        for row in await scheduled(worker):
            request = row["request"]
            if request["id"] in wanted:
                found.setdefault(request["id"], ["scheduled", request])
    return found
