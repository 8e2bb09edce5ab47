"""Copies for Celery of what the legacy queue runs: their messages and results."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from crucible.broker import IdempotencyRecord
from crucible.evaluation.messages import EvalMessages
from crucible.evaluation.record import task_id_of
from crucible.evaluation.request import celery_priority, queue_of
from crucible.evaluation.view import evaluation_of

if TYPE_CHECKING:
    from crucible.broker import Publisher
    from crucible.evaluation.request import EvalRequest
    from crucible.models import Evaluation

#: Seconds a further run of a program that ended differently may take.
AGAIN_S = 60.0


class Copies:
    """Publishes copies and further runs.

    Args:
        publisher: publishes them and reads their results.
        ttl_s: seconds in which a copy is not sent twice.
    """

    def __init__(self, publisher: Publisher, ttl_s: int) -> None:
        self._publisher = publisher
        self._messages = EvalMessages()
        self._ttl_s = ttl_s

    async def send(self, eval_id: str, asked: EvalRequest) -> None:
        """Publish the copy of an evaluation, once; raises BrokerError."""
        await self._publisher.publish(
            self._messages.render(eval_id, asked),
            queue=queue_of(asked.priority),
            priority=celery_priority(asked.priority),
            idempotency=IdempotencyRecord(
                self._publisher.keys.idempotency(f"copy:{eval_id}"), b"1", self._ttl_s
            ),
        )

    async def run_again(self, eval_id: str, number: int, asked: EvalRequest) -> Evaluation:
        """Run a program once more, beside its evaluation.

        Raises:
            BrokerError: it could not be sent.
            ResultTimeout: it did not end in time.
        """
        task_id = f"{task_id_of(eval_id)}.again-{number}-{time.time_ns()}"
        await self._publisher.publish(
            self._messages.render(eval_id, asked, task_id),
            queue=queue_of(asked.priority),
            priority=celery_priority(asked.priority),
        )
        meta = await self._publisher.results.wait(task_id, AGAIN_S)
        return evaluation_of(eval_id, None, meta)
