"""Submitting and looking up evaluations, without HTTP: what the handlers do."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING

from crucible.api.problems import NotFound
from crucible.broker import Once
from crucible.broker.message import TaskTemplate
from crucible.errors import ConflictError, ResultTimeout
from crucible.evaluation.record import (
    Record,
    decode_record,
    encode_record,
    once_name,
    task_id_of,
)
from crucible.evaluation.request import (
    celery_priority,
    check_request,
    digest_of,
    options_of,
    queue_of,
)
from crucible.evaluation.view import evaluation_of
from crucible.models import ENDED

if TYPE_CHECKING:
    from collections.abc import Collection

    from crucible.broker import Publisher
    from crucible.broker.control import ControlClient
    from crucible.evaluation.request import EvalRequest
    from crucible.models import Evaluation, Limits

TASK = "tasks.evaluate_code"
#: Seconds a request to cancel waits for a running program to be stopped.
STOP_WAIT_S = 5.0
#: Makes an evaluation id of an ``Idempotency-Key`` (RFC 9562, version 5).
_KEY_NAMESPACE = uuid.UUID("6f0f6b0e-3c35-5d7c-9d0b-52a8ff1d3f5c")


class Gateway:
    """The way of an evaluation into the queue and of its result back out.

    Args:
        publisher: the producer.
        control: tells workers to stop.
        languages: names a program may be written in.
        ceilings: the most a program may ask for.
        result_ttl_s: seconds a submission is remembered, as long as its result at least.
    """

    def __init__(
        self,
        publisher: Publisher,
        control: ControlClient,
        *,
        languages: Collection[str],
        ceilings: Limits,
        result_ttl_s: int,
    ) -> None:
        self._publisher = publisher
        self._control = control
        self._languages = languages
        self._ceilings = ceilings
        self._result_ttl_s = result_ttl_s
        # One for each priority, of which there are ten; the queue follows from it.
        self._templates: dict[int, TaskTemplate] = {}

    async def submit(self, asked: EvalRequest, key: str | None = None) -> tuple[str, str, bool]:
        """Queue one evaluation.

        Args:
            asked: what to run.
            key: the client's ``Idempotency-Key``, used where it gave no id.

        Returns:
            Its id, its queue, and whether it is new; not new when the same was submitted before.

        Raises:
            InputError: it could never run.
            ConflictError: the id was used for something else.
            BrokerUnavailable: the server did not confirm in time. Submitting again under the
                same id is safe.
            QueueFull: its queue holds as many messages as it may.
        """
        check_request(asked, self._languages, self._ceilings)
        eval_id = asked.eval_id or _id_from(key)
        queue, digest = queue_of(asked.priority), digest_of(asked)
        record = Record(
            digest, time.time_ns() // 1_000_000, queue, asked.language, "celery", asked.metadata
        )
        template = self._template(queue, celery_priority(asked.priority))
        arguments = [eval_id, asked.code, asked.language]
        raw = template.render(task_id_of(eval_id), arguments, options_of(asked))
        previous = await self._publisher.publish(
            raw,
            queue=queue,
            priority=celery_priority(asked.priority),
            once=Once(self._once_key(eval_id), encode_record(record), self._result_ttl_s),
        )
        if previous is None:
            return eval_id, queue, True
        first = decode_record(previous)
        if first.digest != digest:
            field = "eval_id" if asked.eval_id else "Idempotency-Key"
            raise ConflictError(field, "was used before with different content")
        return eval_id, first.queue, False

    def _template(self, queue: str, priority: int) -> TaskTemplate:
        template = self._templates.get(priority)
        if template is None:
            template = self._templates[priority] = TaskTemplate(
                TASK, queue, priority, ignore_result=False
            )
        return template

    def _once_key(self, eval_id: str) -> str:
        return self._publisher.keys.once(once_name(eval_id))

    async def look_up(self, eval_id: str) -> Evaluation:
        """What is known of one evaluation.

        Raises:
            NotFound: nothing is.
            BrokerUnavailable: the server does not answer.
        """
        stored, meta = await asyncio.gather(
            self._publisher.recall(self._once_key(eval_id)),
            self._publisher.results.meta(task_id_of(eval_id)),
        )
        if stored is None and meta is None:
            raise NotFound(f"no evaluation has the id {eval_id!r}")
        return evaluation_of(eval_id, decode_record(stored) if stored else None, meta)

    async def wait(self, eval_id: str, timeout: float) -> bool:
        """Wait until the evaluation has ended; False when it has not within ``timeout`` seconds.

        Raises:
            BrokerUnavailable: the server does not answer.
        """
        try:
            await self._publisher.results.wait(task_id_of(eval_id), timeout)
        except ResultTimeout:
            return False
        return True

    async def cancel(self, eval_id: str) -> Evaluation:
        """Keep an evaluation from running, or stop it; one that has ended is left as it is.

        A queued one has ended when this returns. A running one is given ``STOP_WAIT_S``: its
        worker stops the program and stores the end.

        Raises:
            NotFound: there is none.
            BrokerUnavailable: the server does not answer; asking again is safe.
        """
        evaluation = await self.look_up(eval_id)
        if evaluation.status in ENDED:
            return evaluation
        await self._control.revoke([task_id_of(eval_id)], terminate=True)
        await self.wait(eval_id, STOP_WAIT_S)
        return await self.look_up(eval_id)


def _id_from(key: str | None) -> str:
    return str(uuid.uuid5(_KEY_NAMESPACE, key) if key else uuid.uuid4())
