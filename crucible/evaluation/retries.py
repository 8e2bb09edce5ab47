"""Running an evaluation again: a new one with the same content."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from crucible.broker.wire.decode import decode
from crucible.errors import ContentGone, MessageError, NotEnded
from crucible.evaluation.kept_requests import (
    MAX_KEPT_BYTES,
    request_of_message,
    request_of_meta,
)
from crucible.evaluation.record import scoped_id, task_id_of
from crucible.models import ENDED

if TYPE_CHECKING:
    from crucible.broker import Publisher
    from crucible.broker.admin.operator import Admin
    from crucible.evaluation.request import EvalRequest
    from crucible.evaluation.service import EvaluationService, Submitted
    from crucible.identity.principal import Principal


class Retries:
    """Submits again what has ended.

    The content is taken from the stored result, or from the dead letter of one that never had a
    result of its own.

    Args:
        service: knows evaluations, and takes the new one.
        publisher: reads results.
        admin: reads dead letters.
    """

    def __init__(self, service: EvaluationService, publisher: Publisher, admin: Admin) -> None:
        self._service = service
        self._publisher = publisher
        self._admin = admin

    async def retry(self, caller: Principal, eval_id: str, key: str | None) -> Submitted:
        """Submit the content of an evaluation again, under a new id.

        Args:
            caller: whose it is.
            eval_id: the evaluation that is repeated.
            key: an ``Idempotency-Key``: the same again returns the same new evaluation.

        Raises:
            NotFound: the caller has no evaluation with this id.
            NotEnded: it has not ended.
            ContentGone: what it ran is not kept.
            CrucibleError: as ``EvaluationService.submit``.
        """
        asked = await self.content(caller, eval_id)
        return await self._service.submit(caller, asked, key, retry_of=eval_id)

    async def content(self, caller: Principal, eval_id: str) -> EvalRequest:
        """What an evaluation ran, as it would be submitted again.

        Args:
            caller: whose it is.
            eval_id: the evaluation.

        Raises:
            NotFound: the caller has no evaluation with this id.
            NotEnded: it has not ended.
            ContentGone: what it ran is not kept.
            BrokerError: it cannot be read.
        """
        evaluation = await self._service.look_up(caller, eval_id)
        if evaluation.status not in ENDED:
            raise NotEnded(
                f"{eval_id} is {evaluation.status.value}; one that has ended can be retried"
            )
        asked = await self._content(task_id_of(scoped_id(caller.tenant, eval_id)))
        if asked is None:
            raise ContentGone(
                f"what {eval_id} ran is not kept: it never ran, ran in the legacy queue, or has "
                f"more than {MAX_KEPT_BYTES >> 10} KiB; submit it again"
            )
        if not isinstance(evaluation.metadata, msgspec.UnsetType):
            asked = msgspec.structs.replace(asked, metadata=evaluation.metadata)
        return asked

    async def _content(self, task_id: str) -> EvalRequest | None:
        found = request_of_meta(await self._publisher.results.meta(task_id))
        if found is not None:
            return found
        letter = await self._admin.dead_letters.find(task_id)
        if letter is not None:
            with suppress(MessageError):
                return request_of_message(decode(letter.raw))
        return None
