"""The service behind HTTP: submitting, looking up, awaiting and cancelling evaluations.

Nothing here knows HTTP: the API's handlers are one user of it. Two classes implement it:
``evaluation.celery_service.CeleryService`` where there are Celery queues alone, and
``migration.live.service.RoutedService`` where there is a legacy queue as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from crucible.errors import LegacyRefused, LegacyUnreached, NothingStored, QueueFull, QuotaExceeded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.errors import CrucibleError
    from crucible.evaluation.request import EvalRequest
    from crucible.identity.principal import Principal
    from crucible.identity.rates import RateStatus
    from crucible.models import Evaluation

#: A submission that failed with one of these is in no queue; after any other ``BrokerError`` or
#: ``LegacyError`` it may be in one.
NOT_QUEUED = (NothingStored, QueueFull, QuotaExceeded, LegacyUnreached, LegacyRefused)


class Submitted(NamedTuple):
    """Where a submission was queued.

    Attributes:
        eval_id: its id.
        queue: the queue its message is in.
        new: not submitted before.
        queue_system: which queue system took it.
        rate: what is left to the caller's key; None where it has no rate, or none was asked.
    """

    eval_id: str
    queue: str
    new: bool
    queue_system: Literal["celery", "legacy"] = "celery"
    rate: RateStatus | None = None


class EvaluationService(Protocol):
    """Evaluations from submission to result, each of one tenant.

    A caller has no other evaluations than those of its tenant: ids of others are unknown to it.
    Each method raises ``BrokerUnavailable`` while the queue server does not answer, and
    ``LegacyError`` where a legacy queue takes part and fails.
    """

    def submitted(self) -> dict[str, int]:
        """Evaluations accepted since the start, by queue system."""

    async def submit(
        self, caller: Principal, asked: EvalRequest, key: str | None = None, retry_of: str = ""
    ) -> Submitted:
        """Queue one evaluation; submitting again under the same id is safe.

        Args:
            caller: whose it will be.
            asked: what to run.
            key: the client's ``Idempotency-Key``, instead of an id.
            retry_of: id of the evaluation it repeats.

        Raises:
            InputError: it could never run.
            ConflictError: the id was used for something else.
            QueueFull: its queue holds as many messages as it may.
            QuotaExceeded: the caller's rate is used up, or too much of its tenant is in flight.
        """

    async def submit_many(
        self, caller: Principal, asked: Sequence[EvalRequest], keys: Sequence[str | None]
    ) -> list[Submitted | CrucibleError]:
        """``submit`` for many at once: what is wrong with one is its own outcome.

        Args:
            caller: whose they will be.
            asked: what to run.
            keys: an ``Idempotency-Key`` or None for each.

        Returns:
            For each where it was queued, or what ``submit`` would have raised.
        """

    async def submit_and_wait(
        self, caller: Principal, asked: EvalRequest, key: str | None, timeout: float
    ) -> tuple[Submitted, Evaluation | None]:
        """``submit``, then wait ``timeout`` seconds at most for the evaluation to end.

        Returns:
            Where it was queued; and the ended evaluation, or None where it has not ended, or
            where that has to be looked up because its id was known before.

        Raises:
            CrucibleError: as ``submit``. Once it is queued nothing is raised any more.
        """

    async def look_up(self, caller: Principal, eval_id: str) -> Evaluation:
        """What is known of one evaluation.

        Raises:
            NotFound: the caller has no evaluation with this id.
        """

    async def wait(self, caller: Principal, eval_id: str, timeout: float) -> bool:
        """Whether the evaluation has ended, at the latest after ``timeout`` seconds."""

    async def cancel(self, caller: Principal, eval_id: str) -> Evaluation:
        """Keep an evaluation from running, or stop it; one that has ended stays as it is.

        Raises:
            NotFound: the caller has no evaluation with this id.
            LegacyWrongState: it runs where it cannot be stopped.
        """
