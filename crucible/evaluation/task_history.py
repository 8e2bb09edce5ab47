"""Tasks of evaluations as the history has them: also those whose results are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.broker.results.meta import FAILURE, REVOKED, SUCCESS
from crucible.evaluation.messages import TASK
from crucible.evaluation.past import past_evaluation
from crucible.evaluation.record import scoped_id, task_id_of
from crucible.evaluation.task_view import evaluation_task
from crucible.history.filters import Filters
from crucible.models import ENDED, Evaluation, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.results.task_result import Results
    from crucible.evaluation.task_view import TaskShown
    from crucible.history.reader import HistoryReader
    from crucible.identity.principal import Principal

#: Statuses of evaluations whose tasks may be in a state.
_STATUSES = {
    SUCCESS: (Status.COMPLETED, Status.FAILED),
    FAILURE: (Status.FAILED,),
    REVOKED: (Status.CANCELLED, Status.FAILED),
}


class TaskHistory:
    """Reads tasks of evaluations from the history.

    Args:
        reader: of the history.
        results: says what is newer than the history, which follows by a second or two.
    """

    def __init__(self, reader: HistoryReader, results: Results) -> None:
        self._reader = reader
        self._results = results

    async def find(self, caller: Principal, eval_id: str) -> Evaluation | None:
        """One evaluation of the caller; None where the history has none.

        Raises:
            HistoryError: the history does not answer.
        """
        row = await self._reader.one(caller.tenant, eval_id)
        return None if row is None else past_evaluation(row)

    async def page(
        self, caller: Principal, states: frozenset[str], limit: int, cursor: str | None
    ) -> tuple[list[TaskShown], str | None]:
        """Tasks that have ended, newest first, and where to go on.

        Args:
            caller: whose.
            states: of these; empty for all.
            limit: of the history to look at.
            cursor: of the page before.

        Raises:
            HistoryError: the history does not answer.
            BrokerError: the results could not be read.
        """
        filters = Filters(tenant=caller.tenant, status=_statuses(states))
        rows, following = await self._reader.page(filters, limit, cursor)
        evaluations = [past_evaluation(row) for row in rows]
        ids = [task_id_of(scoped_id(caller.tenant, one.eval_id)) for one in evaluations]
        found = []
        for one, meta in zip(evaluations, await self._results.metas(ids), strict=True):
            # What has not ended is listed from the queues. A legacy queue cannot be listed.
            ended = one.status in ENDED or one.queue_system == "legacy"
            if ended or (meta is not None and meta.ready):
                ready = meta if meta is not None and meta.ready else None
                found.append(evaluation_task(one, ready, TASK))
        return found, following

    async def missing(self, caller: Principal, eval_ids: Sequence[str]) -> set[str]:
        """Those of some evaluations that the history has not got yet; raises HistoryError."""
        found = [await self._reader.one(caller.tenant, one) for one in eval_ids]
        return {one for one, row in zip(eval_ids, found, strict=True) if row is None}


def _statuses(states: frozenset[str]) -> tuple[str, ...]:
    """The statuses to look at for states: those of what ended, and of what the history lags on."""
    wanted = {one for state in states for one in _STATUSES.get(state, ())}
    if not wanted:
        return ()
    unended = [one for one in Status if one not in ENDED]
    return tuple(one.value for one in (*unended, *sorted(wanted)))
