"""Looking up, awaiting and cancelling evaluations that may be in either queue system.

Ids are scoped here (``evaluation.record``).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from crucible.errors import BrokerError, LegacyError, ResultTimeout
from crucible.models import ENDED

if TYPE_CHECKING:
    from crucible.broker.control.client import ControlClient
    from crucible.evaluation.celery_service import CeleryService
    from crucible.evaluation.record import Record
    from crucible.migration.live.migration import Migration
    from crucible.models import Evaluation

log = logging.getLogger(__name__)


class Lookup:
    """Finds an evaluation where its record says it is.

    Args:
        celery: the service of the Celery queues.
        migration: the legacy queue, the records, and what this process follows.
        control: sends remote control commands to workers.
    """

    def __init__(self, celery: CeleryService, migration: Migration, control: ControlClient) -> None:
        self._celery = celery
        self._legacy = migration.legacy
        self._backend = migration.backend
        self._ledger = migration.ledger
        self._follower = migration.follower
        self._control = control

    async def look_up(self, eval_id: str) -> Evaluation:
        """What is known of one evaluation, in whichever queue system it is.

        Raises:
            NotFound: neither has an evaluation with this id.
            BrokerUnavailable: the queue server does not answer, and the legacy queue knows nothing.
            LegacyUnavailable: the legacy queue does not answer, and nothing was kept.
        """
        record = await self._record_of(eval_id)
        if record is not None and record.queue_system == "legacy":
            return await self._backend.look_up(eval_id, record)
        if record is None and (found := await self._backend.unrecorded(eval_id)):
            return found
        return await self._celery.find(eval_id)

    async def wait(self, eval_id: str, timeout: float) -> bool:
        """Wait in the queue system the evaluation is in; see ``EvaluationService``."""
        record = await self._record_of(eval_id)
        if record is not None and record.queue_system == "celery":
            return await self._celery.wait_for(eval_id, timeout)
        try:
            await self._legacy.wait(eval_id, timeout)
        except (ResultTimeout, LegacyError):
            return False
        return True

    async def _record_of(self, eval_id: str) -> Record | None:
        """The record as stored, since evaluations may be moved; else as this process wrote it."""
        try:
            return await self._ledger.record(eval_id)
        except BrokerError:
            return self._follower.record_of(eval_id)

    async def cancel(self, eval_id: str) -> Evaluation:
        """Cancel an evaluation; the legacy queue can cancel only what is still queued.

        Raises:
            NotFound: no evaluation has this id.
            LegacyWrongState: a legacy worker runs it, and cannot be stopped.
            BrokerUnavailable: the queue server does not answer; asking again is safe.
        """
        evaluation = await self.look_up(eval_id)
        if evaluation.status in ENDED or evaluation.queue_system == "celery":
            return await self._celery.stop(eval_id)
        await self._legacy.cancel(eval_id)
        if evaluation.celery_task_id:
            try:
                await self._control.revoke([evaluation.celery_task_id], terminate=True)
            except BrokerError as error:
                log.info("the copy of %s could not be cancelled: %s", eval_id, error)
        return await self.look_up(eval_id)
