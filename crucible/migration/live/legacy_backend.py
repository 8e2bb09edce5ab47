"""The legacy queue as the service sees it: submitting to it, and what is known of its tasks."""

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
from crucible.evaluation.record import Record, task_id_of
from crucible.evaluation.request import options_of, program_from
from crucible.evaluation.view import evaluation_of
from crucible.migration.legacy_results import (
    LEGACY_QUEUE,
    decode_end,
    encode_end,
    lost_by_legacy,
    meta_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from crucible.breaker import CircuitBreaker
    from crucible.broker.results.meta import Meta
    from crucible.broker.results.task_result import Results
    from crucible.evaluation.request import EvalRequest
    from crucible.legacy import LegacyClient
    from crucible.migration.live.ledger import Ledger
    from crucible.models import Evaluation, Isolation, Limits

log = logging.getLogger(__name__)


class LegacySide:
    """One legacy queue, and what is kept beside it because it forgets.

    Args:
        client: of the queue.
        breaker: of the queue; looking up is not subject to it, only submitting.
        ledger: what is kept.
        results: of the Celery side, where copies end.
        languages: names a program may be written in.
        ceilings: the most a program may ask for.
        isolation: what a program gets that names none.
    """

    def __init__(
        self,
        client: LegacyClient,
        breaker: CircuitBreaker,
        ledger: Ledger,
        results: Results,
        *,
        languages: Collection[str],
        ceilings: Limits,
        isolation: Isolation,
    ) -> None:
        self._client = client
        self._breaker = breaker
        self._ledger = ledger
        self._results = results
        self._languages = languages
        self._ceilings = ceilings
        self._isolation = isolation

    async def submit(self, eval_id: str, asked: EvalRequest) -> None:
        """Put a program in the queue; one that is there or has ended stays as it is.

        Raises:
            InputError: the queue refused the id or the program.
            LegacyError: it did not take it.
        """
        program = program_from(
            eval_id,
            asked.code,
            asked.language,
            options_of(asked),
            languages=self._languages,
            ceilings=self._ceilings,
            isolation=self._isolation,
        )
        permit = self._breaker.permit()
        if permit is None:
            raise LegacyUnreached("the legacy queue is let alone for a while")
        try:
            with permit:
                await self._client.submit(eval_id, program)
        except InputError as error:
            # The client knows the id under another name.
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
            meta = await self.kept_end(eval_id) or await self._end_of_copy(eval_id)
            if meta is not None:
                return evaluation_of(eval_id, record, meta)
            if isinstance(error, LegacyTaskUnknown):
                return lost_by_legacy(eval_id, record)
            raise
        meta = meta_of(task)
        if meta.ready:
            await self._keep_end(eval_id, meta)
        return evaluation_of(eval_id, record, meta)

    async def known_here_only(self, eval_id: str) -> Evaluation | None:
        """An evaluation without a record: taken while the queue server was away."""
        try:
            task = await self._client.result(eval_id)
        except LegacyError:
            return None
        view = evaluation_of(eval_id, Record(b"", 0, LEGACY_QUEUE, "", "legacy"), meta_of(task))
        view.created_at = task.created_at
        return view

    async def kept_end(self, eval_id: str) -> Meta | None:
        """How an evaluation ended, as far as it was kept and can be read."""
        try:
            kept = await self._ledger.end(eval_id)
        except BrokerError:
            return None
        return decode_end(kept) if kept else None

    async def _keep_end(self, eval_id: str, meta: Meta) -> None:
        try:
            await self._ledger.keep_end(eval_id, encode_end(meta))
        except BrokerError as error:
            log.debug("the end of %s cannot be kept now: %s", eval_id, error)

    async def _end_of_copy(self, eval_id: str) -> Meta | None:
        try:
            meta = await self._results.meta(task_id_of(eval_id))
        except BrokerError:
            return None
        # Cancelled or failed copies say nothing about the evaluation itself.
        return meta if meta is not None and meta.status == SUCCESS else None
