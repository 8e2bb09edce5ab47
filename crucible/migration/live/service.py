"""The service of an installation with a legacy queue."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from crucible.errors import BrokerError, CrucibleError, LegacyError
from crucible.evaluation.record import scoped_id
from crucible.evaluation.view import shown
from crucible.migration.live.lookup import Lookup
from crucible.migration.live.submission import RoutedSubmission

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from crucible.broker.control.client import ControlClient
    from crucible.evaluation.celery_service import CeleryService
    from crucible.evaluation.request import EvalRequest
    from crucible.evaluation.service import Submitted
    from crucible.identity.principal import Principal
    from crucible.migration.live.migration import Migration
    from crucible.models import Evaluation

log = logging.getLogger(__name__)


class RoutedService:
    """Implements ``EvaluationService`` over Celery queues and a legacy queue.

    Args:
        celery: the service of the Celery queues.
        migration: decides where evaluations go, and knows where they went.
        control: sends remote control commands to workers.
        selected: called with the seconds that each choice of a queue system took.
    """

    def __init__(
        self,
        celery: CeleryService,
        migration: Migration,
        control: ControlClient,
        selected: Callable[[float], None],
    ) -> None:
        self._submission = RoutedSubmission(celery, migration, selected)
        self._lookup = Lookup(celery, migration, control)

    def submitted(self) -> dict[str, int]:
        """See ``EvaluationService``; copies are not counted."""
        return self._submission.submitted()

    def submit(
        self, caller: Principal, asked: EvalRequest, key: str | None = None, retry_of: str = ""
    ) -> Coroutine[Any, Any, Submitted]:
        """See ``EvaluationService``."""
        return self._submission.submit(caller, asked, key, retry_of)

    async def submit_many(
        self, caller: Principal, asked: Sequence[EvalRequest], keys: Sequence[str | None]
    ) -> list[Submitted | CrucibleError]:
        """See ``EvaluationService``; each goes where the switches send it, so each by itself."""
        pairs = zip(asked, keys, strict=True)
        return await asyncio.gather(*(self._outcome(caller, *pair) for pair in pairs))

    async def _outcome(
        self, caller: Principal, asked: EvalRequest, key: str | None
    ) -> Submitted | CrucibleError:
        try:
            return await self.submit(caller, asked, key)
        except CrucibleError as error:
            return error

    async def submit_and_wait(
        self, caller: Principal, asked: EvalRequest, key: str | None, timeout: float
    ) -> tuple[Submitted, Evaluation | None]:
        """See ``EvaluationService``. Where to wait is known only once it is submitted."""
        submitted = await self.submit(caller, asked, key)
        eval_id = submitted.eval_id
        try:
            ended = await self.wait(caller, eval_id, timeout)
            return submitted, await self.look_up(caller, eval_id) if ended else None
        except (BrokerError, LegacyError) as error:
            # It is queued all the same, and that is what the client has to know.
            log.info("%s cannot be waited for: %s", eval_id, error)
            return submitted, None

    async def look_up(self, caller: Principal, eval_id: str) -> Evaluation:
        """See ``EvaluationService``."""
        return shown(await self._lookup.look_up(scoped_id(caller.tenant, eval_id)))

    async def wait(self, caller: Principal, eval_id: str, timeout: float) -> bool:
        """See ``EvaluationService``."""
        return await self._lookup.wait(scoped_id(caller.tenant, eval_id), timeout)

    async def cancel(self, caller: Principal, eval_id: str) -> Evaluation:
        """See ``EvaluationService``."""
        return shown(await self._lookup.cancel(scoped_id(caller.tenant, eval_id)))
