"""Looking up, awaiting and cancelling evaluations that may be on either side of a migration."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from crucible.errors import BrokerError, LegacyError, ResultTimeout
from crucible.evaluation.service import EvaluationService
from crucible.models import ENDED

if TYPE_CHECKING:
    from crucible.evaluation.record import Record
    from crucible.evaluation.request import EvalRequest
    from crucible.evaluation.service import Submitted
    from crucible.legacy import LegacyClient
    from crucible.migration.live.follower import Follower
    from crucible.migration.live.ledger import Ledger
    from crucible.migration.live.legacy_backend import LegacySide
    from crucible.models import Evaluation

log = logging.getLogger(__name__)


class TwoSided(EvaluationService):
    """A service that goes by an evaluation's record; who sends it there is a subclass's business.

    Attributes:
        legacy: the legacy queue.
    """

    legacy: LegacyClient
    _side: LegacySide
    _ledger: Ledger
    _follower: Follower

    async def submit_and_wait(
        self, asked: EvalRequest, key: str | None, timeout: float
    ) -> tuple[Submitted, Evaluation | None]:
        """``submit``, then ``wait``: which side has it is only known when it was submitted."""
        submitted = await self.submit(asked, key)
        try:
            ended = await self.wait(submitted.eval_id, timeout)
            return submitted, await self.look_up(submitted.eval_id) if ended else None
        except (BrokerError, LegacyError) as error:
            # It is queued all the same, and that is what the client must be told.
            log.info("%s cannot be waited for: %s", submitted.eval_id, error)
            return submitted, None

    async def look_up(self, eval_id: str) -> Evaluation:
        """What is known of one evaluation, on whichever side it is.

        Raises:
            NotFound: nothing is, on either side.
            BrokerUnavailable: the queue server does not answer, and the legacy queue knows nothing.
            LegacyUnavailable: the legacy queue does not answer, and nothing was kept.
        """
        record = await self._record_of(eval_id)
        if record is not None and record.queue_system == "legacy":
            return await self._side.look_up(eval_id, record)
        if record is None and (found := await self._side.known_here_only(eval_id)):
            return found
        return await super().look_up(eval_id)

    async def wait(self, eval_id: str, timeout: float) -> bool:
        """Wait for the end on the side the evaluation is on."""
        record = await self._record_of(eval_id)
        if record is not None and record.queue_system == "celery":
            return await super().wait(eval_id, timeout)
        try:
            await self.legacy.wait(eval_id, timeout)
        except (ResultTimeout, LegacyError):
            return False
        return True

    async def _record_of(self, eval_id: str) -> Record | None:
        """The record as it is now, for recovery moves evaluations; else as this process knew it."""
        try:
            return await self._ledger.record(eval_id)
        except BrokerError:
            return self._follower.record_of(eval_id)

    async def cancel(self, eval_id: str) -> Evaluation:
        """Cancel an evaluation; the legacy queue can take out only what waits.

        Raises:
            NotFound: there is none.
            LegacyWrongState: it runs on the legacy side, which cannot stop it.
            BrokerUnavailable: the queue server does not answer; asking again is safe.
        """
        evaluation = await self.look_up(eval_id)
        if evaluation.status in ENDED or evaluation.queue_system == "celery":
            return await super().cancel(eval_id)
        await self.legacy.cancel(eval_id)
        if evaluation.celery_task_id:
            try:
                await self._control.revoke([evaluation.celery_task_id], terminate=True)
            except BrokerError as error:
                log.info("the copy of %s goes on: %s", eval_id, error)
        return await self.look_up(eval_id)
