"""The legacy queue for the service: submitting to it, and what is known of its tasks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from crucible.broker.results.meta import SUCCESS
from crucible.errors import (
    BrokerError,
    InputError,
    LegacyError,
    LegacyTaskUnknown,
    LegacyUnreached,
)
from crucible.evaluation.kept_results import decode_kept, lost_evaluation
from crucible.evaluation.record import Record, task_id_of
from crucible.evaluation.request import options_of, program_from
from crucible.evaluation.view import evaluation_of
from crucible.migration.legacy_results import LEGACY_QUEUE, meta_of_task

if TYPE_CHECKING:
    from crucible.breaker import CircuitBreaker
    from crucible.broker.results.meta import Meta
    from crucible.broker.results.task_result import Results
    from crucible.evaluation.request import EvalRequest
    from crucible.executor.served import ServedEnvironments
    from crucible.legacy import LegacyClient
    from crucible.migration.live.ends import LegacyEnds
    from crucible.migration.live.ledger import Ledger
    from crucible.models import Evaluation, Isolation, Limits

log = logging.getLogger(__name__)


class LegacyBackend:
    """One legacy queue, and the results that are kept beside it because it drops them.

    Args:
        client: of the queue.
        breaker: of the queue; looking up is not subject to it, only submitting.
        ledger: what is kept.
        ends: notes what has ended.
        results: of Celery tasks, copies among them.
        served: the environments a program may run in.
        ceilings: the most a program may ask for.
        isolation: what a program gets that names none.
    """

    def __init__(
        self,
        client: LegacyClient,
        breaker: CircuitBreaker,
        ledger: Ledger,
        ends: LegacyEnds,
        results: Results,
        *,
        served: ServedEnvironments,
        ceilings: Limits,
        isolation: Isolation,
    ) -> None:
        self._client = client
        self._breaker = breaker
        self._ledger = ledger
        self._ends = ends
        self._results = results
        self._served = served
        self._ceilings = ceilings
        self._isolation = isolation

    async def submit(self, eval_id: str, asked: EvalRequest) -> None:
        """Queue a program; an evaluation that is queued, runs or has ended stays as it is.

        Raises:
            InputError: the queue refused the id or the program.
            LegacyError: it did not accept it.
        """
        program = program_from(
            eval_id,
            asked.code,
            asked.language,
            options_of(asked),
            served=self._served,
            ceilings=self._ceilings,
            isolation=self._isolation,
        )
        permit = self._breaker.permit()
        if permit is None:
            raise LegacyUnreached("the legacy queue failed repeatedly and is not called for now")
        try:
            with permit:
                await self._client.submit(eval_id, program)
        except InputError as error:
            # What the legacy queue calls ``id`` is ``eval_id`` to the client.
            field = "eval_id" if error.field == "id" else error.field
            raise type(error)(field, error.detail) from None

    async def look_up(self, eval_id: str, record: Record) -> Evaluation:
        """An evaluation whose record says legacy.

        Raises:
            LegacyUnavailable: the queue does not answer, and nothing was kept.
        """
        try:
            task = await self._client.result(eval_id)
        except LegacyError as error:
            meta = await self.kept_result(eval_id) or await self._result_of_copy(eval_id)
            if meta is not None:
                return evaluation_of(eval_id, record, meta)
            if isinstance(error, LegacyTaskUnknown):
                return lost_evaluation(eval_id, record)
            raise
        meta = meta_of_task(task)
        if meta.ready:
            await self._note(eval_id, record, meta)
        return evaluation_of(eval_id, record, meta)

    async def unrecorded(self, eval_id: str) -> Evaluation | None:
        """An evaluation without a record: accepted while the queue server was away."""
        try:
            task = await self._client.result(eval_id)
        except LegacyError:
            return None
        view = evaluation_of(
            eval_id, Record(b"", 0, LEGACY_QUEUE, "", "legacy"), meta_of_task(task)
        )
        view.created_at = task.created_at
        return view

    async def kept_result(self, eval_id: str) -> Meta | None:
        """The kept result of an evaluation, None where there is none or it cannot be read."""
        try:
            kept = await self._ledger.kept_result(eval_id)
        except BrokerError:
            return None
        return decode_kept(kept) if kept else None

    async def _note(self, eval_id: str, record: Record, meta: Meta) -> None:
        try:
            await self._ends.note(eval_id, record, meta)
        except BrokerError as error:
            log.debug("the end of %s cannot be noted now: %s", eval_id, error)

    async def _result_of_copy(self, eval_id: str) -> Meta | None:
        try:
            meta = await self._results.meta(task_id_of(eval_id))
        except BrokerError:
            return None
        # A cancelled or failed copy says nothing about the evaluation itself.
        return meta if meta is not None and meta.status == SUCCESS else None
