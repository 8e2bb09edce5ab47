"""Moving evaluations that have not ended from one queue system to the other.

Every step can be repeated. Between two of them an evaluation is in both queue systems rather than
in none: it may run twice then, and its record decides which result counts.
"""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.broker.claiming.claims import Claims, Settlement, new_worker_id
from crucible.broker.claiming.liveness import Heartbeat, encode_heartbeat
from crucible.broker.redis.translation import translated
from crucible.broker.redis.with_lua.store import LuaStore
from crucible.broker.redis.without_lua.store import TransactionStore
from crucible.broker.wire.decode import decode
from crucible.errors import (
    InputError,
    LegacyError,
    LegacyUnavailable,
    LegacyWrongState,
    MessageError,
    SettingsError,
)
from crucible.evaluation.record import task_id_of
from crucible.evaluation.request import EvalRequest
from crucible.legacy.wire import TaskState
from crucible.settings import QUEUES

if TYPE_CHECKING:
    from crucible.broker.claiming.claims import Claim
    from crucible.legacy import LegacyClient
    from crucible.migration.operations.sides import Recorded, Sides

log = logging.getLogger(__name__)

#: Claims held at once.
BATCH = 50
_TASKS = frozenset({"tasks.evaluate_code", "tasks.high_priority_eval"})


class Moved(msgspec.Struct, kw_only=True):
    """What was moved.

    Attributes:
        moved: ids that are in the other queue system now.
        left: ids that stay where they are, and why.
    """

    moved: list[str] = []
    left: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class _Wanted:
    found: Recorded
    asked: EvalRequest


async def to_legacy(sides: Sides, *, active: bool = False) -> Moved:
    """Move Celery evaluations to the legacy queue.

    Args:
        sides: both sides.
        active: also those that workers have claimed, running or not. A living worker is not
            stopped; its result counts no more.

    Raises:
        SettingsError: there is no legacy queue.
        BrokerError: the task queue server does not answer.
        LegacyUnavailable: the legacy queue does not; what was not moved is where it was.
    """
    legacy, done = _legacy_of(sides), Moved()
    steps = LuaStore(sides.client)
    if sides.settings.claim != "atomic":
        steps = TransactionStore(sides.client)  # type: ignore[assignment]  # both are ``RedisStore``
    claims = Claims(steps, new_worker_id(), QUEUES, keys=sides.keys)
    if active:
        await _move_claimed(sides, legacy, claims, done)
    await _move_queued(sides, legacy, claims, done)
    return done


async def _move_queued(sides: Sides, legacy: LegacyClient, claims: Claims, done: Moved) -> None:
    """Claim as a worker does, so that nothing is lost if this process dies meanwhile."""
    sign = encode_heartbeat(Heartbeat(f"recover{os.getpid()}@{socket.gethostname()}"))
    kept: list[Claim] = []
    try:
        while True:
            await claims.renew(kept, sign)
            taken = await claims.take(BATCH)
            if not taken:
                break
            undone = list(taken)
            try:
                for claim in taken:
                    if await _move(sides, legacy, claim.raw, done):
                        await claims.settle([Settlement(claim)])
                    else:
                        kept.append(claim)
                    undone.remove(claim)
            finally:
                kept += undone
    finally:
        await claims.requeue(kept)
        await claims.leave()


async def _move_claimed(sides: Sides, legacy: LegacyClient, claims: Claims, done: Moved) -> None:
    cursor: Any = 0
    while True:
        with translated():
            answer: Any = await sides.client.hscan(sides.keys.unacked, cursor, count=BATCH)
        cursor, page = answer
        for field, value in page.items():
            raw = _claimed_message(value)
            if raw is not None and await _move(sides, legacy, raw, done):
                # Field names are never used twice, so this cannot drop the claim of another worker.
                with translated():
                    async with sides.client.pipeline(transaction=True) as pipe:
                        pipe.hdel(sides.keys.unacked, field)
                        pipe.zrem(sides.keys.unacked_index, field)
                        await pipe.execute()
        if int(cursor) == 0:
            return


def _claimed_message(value: bytes) -> bytes | None:
    try:
        raw: msgspec.Raw = msgspec.json.decode(value, type=tuple[msgspec.Raw, Any, Any])[0]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return bytes(raw)


async def _move(sides: Sides, legacy: LegacyClient, raw: bytes, done: Moved) -> bool:
    """Whether the legacy queue has the evaluation of this message now."""
    wanted = await _wanted(sides, raw)
    if wanted is None:
        return False
    eval_id = wanted.found.eval_id
    try:
        await legacy.submit(eval_id, sides.program(eval_id, wanted.asked))
    except LegacyUnavailable:
        raise
    except (LegacyError, InputError) as error:
        done.left[eval_id] = str(error)
        return False
    if not await sides.give_to_legacy(wanted.found, wanted.asked):
        done.left[eval_id] = "its record changed meanwhile"
        return False
    done.moved.append(eval_id)
    return True


async def _wanted(sides: Sides, raw: bytes) -> _Wanted | None:
    """The evaluation of a message; None for other tasks, and for copies of dual writes."""
    try:
        message = decode(raw)
        if message.task not in _TASKS or not message.args:
            return None
        eval_id = str(message.args[0])
        fields = {
            **message.kwargs,
            **dict(zip(("code", "language"), message.args[1:], strict=False)),
        }
        options = {name: fields[name] for name in fields if name in EvalRequest.__struct_fields__}
        asked = msgspec.convert({**options, "priority": 9 - message.priority}, EvalRequest)
    except (MessageError, msgspec.ValidationError) as error:
        log.warning("a message is left where it is: %s", error)
        return None
    found = await sides.read([eval_id])
    if message.id != task_id_of(eval_id) or not found:
        return None
    return None if found[0].record.queue_system != "celery" else _Wanted(found[0], asked)


async def to_celery(sides: Sides, *, active: bool = False) -> Moved:
    """Move evaluations of the legacy queue to Celery: those queued there, and those it lost.

    Args:
        sides: both sides.
        active: also those its workers run; the legacy queue cannot stop them.

    Raises:
        SettingsError: there is no legacy queue.
        BrokerError: the task queue server does not answer.
        LegacyUnavailable: the legacy queue does not; what was not moved is where it was.
    """
    legacy, done = _legacy_of(sides), Moved()
    async for page in sides.records():
        of_legacy = [one for one in page if one.record.queue_system == "legacy"]
        ended = await sides.with_kept_results([one.eval_id for one in of_legacy])
        open_ = {one.eval_id: one for one in of_legacy if one.eval_id not in ended}
        views = {view.id: view for view in await legacy.find(list(open_))}
        movable = {TaskState.QUEUED, TaskState.RUNNING} if active else {TaskState.QUEUED}
        for eval_id, one in open_.items():
            view = views.get(eval_id)
            if view is None or view.status in movable:
                await _move_to_celery(sides, legacy, one, done)
    return done


async def _move_to_celery(sides: Sides, legacy: LegacyClient, one: Recorded, done: Moved) -> None:
    asked = await sides.asked(one.eval_id)
    if asked is None:
        done.left[one.eval_id] = "its program is no longer kept"
        return
    if not await sides.give_to_celery(one, asked):
        done.left[one.eval_id] = "its record changed meanwhile"
        return
    done.moved.append(one.eval_id)
    try:
        await legacy.cancel(one.eval_id)
    except LegacyWrongState:
        log.info("%s runs on a legacy worker as well; the result from Celery counts", one.eval_id)
    except LegacyError as error:
        log.info("%s may run on a legacy worker as well: %s", one.eval_id, error)


def _legacy_of(sides: Sides) -> LegacyClient:
    if sides.legacy is None:
        raise SettingsError("QUEUE_SERVICE_URL", "is missing; recovering needs a legacy queue")
    return sides.legacy
