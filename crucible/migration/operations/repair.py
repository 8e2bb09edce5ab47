"""Submitting lost evaluations again: to the legacy queue, or to Celery where the mode says so."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from crucible.errors import BrokerError, InputError, LegacyError
from crucible.migration.routing import Mode
from crucible.migration.state import effective

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.evaluation.request import EvalRequest
    from crucible.migration.operations.sides import Recorded, Sides

log = logging.getLogger(__name__)


class Repaired(msgspec.Struct, kw_only=True):
    """What a repair did.

    Attributes:
        to_legacy: ids submitted to the legacy queue again.
        to_celery: ids moved to Celery.
        failed: ids that could not be submitted again, and why.
    """

    to_legacy: list[str] = []
    to_celery: list[str] = []
    failed: dict[str, str] = {}


async def repair(sides: Sides, missing: Sequence[Recorded]) -> Repaired:
    """Submit again what ``verify`` did not find; repeating it does no harm.

    Raises:
        BrokerError: the task queue server does not answer.
    """
    mode = effective(await sides.switches.read(), sides.settings).mode
    done = Repaired()
    for one in missing:
        asked = await sides.asked(one.eval_id)
        if asked is None:
            done.failed[one.eval_id] = "its program is no longer kept"
        elif not await _to_legacy(sides, one, asked, mode, done):
            await _to_celery(sides, one, asked, mode, done)
    return done


async def _to_legacy(
    sides: Sides, one: Recorded, asked: EvalRequest, mode: Mode, done: Repaired
) -> bool:
    """Whether the legacy queue is where it belongs; then Celery is not tried."""
    if sides.legacy is None or mode in (Mode.CELERY_PRIMARY, Mode.CELERY_ONLY):
        return False
    try:
        task = await sides.legacy.submit(one.eval_id, sides.program(one.eval_id, asked))
    except (LegacyError, InputError) as error:
        done.failed[one.eval_id] = str(error)
        return mode is Mode.LEGACY_ONLY
    if task.worker:
        # Stuck: the queue returns the same task, which will never end.
        return False
    done.to_legacy.append(one.eval_id)
    return True


async def _to_celery(
    sides: Sides, one: Recorded, asked: EvalRequest, mode: Mode, done: Repaired
) -> None:
    if mode is Mode.LEGACY_ONLY:
        done.failed[one.eval_id] = "its legacy worker died, and Celery is off"
        return
    try:
        moved = await sides.give_to_celery(one, asked)
    except BrokerError as error:
        done.failed[one.eval_id] = str(error)
        return
    if moved:
        done.to_celery.append(one.eval_id)
        done.failed.pop(one.eval_id, None)
    else:
        done.failed[one.eval_id] = "its record changed meanwhile; verify again"
