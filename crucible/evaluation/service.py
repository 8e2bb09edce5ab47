"""Submitting and looking up evaluations, without HTTP: what the handlers do."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from crucible.api.problems import NotFound
from crucible.broker import Once
from crucible.broker.results.meta import SUCCESS
from crucible.broker.wire.ids import new_id
from crucible.errors import BrokerError, ConflictError, InputError, ResultTimeout
from crucible.evaluation.messages import EvalMessages
from crucible.evaluation.record import (
    Record,
    decode_record,
    encode_record,
    once_name,
    task_id_of,
    unended_ttl_s,
)
from crucible.evaluation.request import (
    celery_priority,
    check_request,
    digest_of,
    queue_of,
)
from crucible.evaluation.view import evaluation_of
from crucible.migration.legacy_results import decode_end, lost_by_legacy
from crucible.models import ENDED, ISOLATIONS

if TYPE_CHECKING:
    from collections.abc import Collection

    from crucible.broker import Publisher
    from crucible.broker.control.client import ControlClient
    from crucible.broker.publishing.group_commit import Told
    from crucible.broker.results.meta import Meta
    from crucible.evaluation.request import EvalRequest
    from crucible.models import Evaluation, Isolation, Limits

#: Seconds a request to cancel waits for a running program to be stopped.
STOP_WAIT_S = 5.0
#: Makes an evaluation id of an ``Idempotency-Key`` (RFC 9562, version 5).
_KEY_NAMESPACE = uuid.UUID("6f0f6b0e-3c35-5d7c-9d0b-52a8ff1d3f5c")


class Submitted(NamedTuple):
    """What became of a submission.

    Attributes:
        eval_id: its id.
        queue: where its message is.
        new: not submitted before.
        queue_system: the side that took it.
    """

    eval_id: str
    queue: str
    new: bool
    queue_system: Literal["celery", "legacy"] = "celery"


@dataclass(slots=True)
class Draft:
    """A submission that was checked and not yet sent anywhere.

    Attributes:
        asked: what to run.
        eval_id: its id.
        digest: fingerprint of the content.
        field: what named the id; empty where it was made up here.
        created_ms: when, milliseconds since the epoch.
    """

    asked: EvalRequest
    eval_id: str
    digest: bytes
    field: str
    created_ms: int

    def record(
        self, side: Literal["celery", "legacy"], queue: str, *, shadow: bool = False
    ) -> Record:
        """What is remembered of it on a side."""
        asked = self.asked
        return Record(
            self.digest, self.created_ms, queue, asked.language, side, asked.metadata, shadow
        )


class EvaluationService:
    """The way of an evaluation into the queue and of its result back out.

    Args:
        publisher: the producer.
        control: tells workers to stop.
        languages: names a program may be written in.
        ceilings: the most a program may ask for.
        isolations: those a program may ask for.
        result_ttl_s: seconds a result is kept; its submission is remembered as long at least.

    Attributes:
        celery_total: submissions that Celery's queues took.
    """

    def __init__(
        self,
        publisher: Publisher,
        control: ControlClient,
        *,
        languages: Collection[str],
        ceilings: Limits,
        result_ttl_s: int,
        isolations: Collection[Isolation] = ISOLATIONS,
    ) -> None:
        self._publisher = publisher
        self._control = control
        self._languages = languages
        self._ceilings = ceilings
        self._isolations = isolations
        self._result_ttl_s = result_ttl_s
        self._record_ttl_s = unended_ttl_s(result_ttl_s)
        # A number and not a metric: this is the hot path, and a scrape can read it.
        self.celery_total = 0
        self._messages = EvalMessages()

    def submitted(self) -> dict[str, int]:
        """Evaluations each side took since the start."""
        return {"celery": self.celery_total, "legacy": 0}

    async def submit(self, asked: EvalRequest, key: str | None = None) -> Submitted:
        """Queue one evaluation.

        Args:
            asked: what to run.
            key: the client's ``Idempotency-Key``, instead of an id.

        Raises:
            InputError: it could never run.
            ConflictError: the id was used for something else.
            BrokerUnavailable: the server did not confirm in time. Submitting again under the
                same id is safe.
            QueueFull: its queue holds as many messages as it may.
        """
        return await self._submit(self._draft(asked, key))

    async def _submit(self, draft: Draft) -> Submitted:
        first = await self._publish(draft)
        if first is None:
            return Submitted(draft.eval_id, queue_of(draft.asked.priority), True)
        check_same(draft, first)
        return Submitted(draft.eval_id, first.queue, False, first.queue_system)

    async def submit_and_wait(
        self, asked: EvalRequest, key: str | None, timeout: float
    ) -> tuple[Submitted, Evaluation | None]:
        """``submit``, then ``wait``; with what the evaluation came to, None if that is not known.

        That is also where its id was known before: only a look tells then.

        Raises:
            CrucibleError: as ``submit``; once it is queued nothing is raised any more.
        """
        draft = self._draft(asked, key)
        with self._publisher.results.expecting(task_id_of(draft.eval_id)) as coming:
            submitted = await self._submit(draft)
            try:
                async with asyncio.timeout(timeout):
                    meta = await coming
            except (TimeoutError, BrokerError):
                return submitted, None
        if not submitted.new:
            return submitted, None
        # All that a look would find: what was just recorded, and what was just published.
        record = draft.record("celery", submitted.queue)
        return submitted, evaluation_of(draft.eval_id, record, meta)

    def _draft(self, asked: EvalRequest, key: str | None) -> Draft:
        check_request(asked, self._languages, self._ceilings, self._isolations)
        if key and asked.eval_id:
            raise InputError("Idempotency-Key", "must not come beside an eval_id")
        field = "eval_id" if asked.eval_id else "Idempotency-Key" if key else ""
        eval_id = asked.eval_id or (str(uuid.uuid5(_KEY_NAMESPACE, key)) if key else new_id())
        return Draft(asked, eval_id, digest_of(asked), field, time.time_ns() // 1_000_000)

    def begin(self, asked: EvalRequest, key: str | None, told: Told) -> Draft:
        """Hand one evaluation to the next flush; for whoever cannot wait in a coroutine.

        Args:
            asked: what to run.
            key: the client's ``Idempotency-Key``, instead of an id.
            told: what became of it. ``Outcome.existing`` means that its id is known; nothing was
                pushed then, and it must be submitted again to learn more.

        Raises:
            InputError: it could never run.
            BrokerUnavailable: this process is closing.
        """
        draft = self._draft(asked, key)
        self._publisher.begin(*self._parts(draft), told)
        return draft

    def accepted(self, draft: Draft) -> str:
        """Count a submission that was begun and taken; the queue it went to."""
        self.celery_total += 1
        return queue_of(draft.asked.priority)

    async def _publish(self, draft: Draft) -> Record | None:
        """Push a submission's message, unless its id is known; then its record."""
        raw, queue, priority, once = self._parts(draft)
        previous = await self._publisher.publish(raw, queue=queue, priority=priority, once=once)
        if previous is None:
            self.celery_total += 1
            return None
        return decode_record(previous)

    def _parts(self, draft: Draft) -> tuple[bytes, str, int, Once]:
        """Message, queue, Celery's priority, and what makes it happen once."""
        asked, eval_id = draft.asked, draft.eval_id
        queue, priority = queue_of(asked.priority), celery_priority(asked.priority)
        record = encode_record(draft.record("celery", queue))
        once = Once(self._once_key(eval_id), record, self._record_ttl_s)
        return self._messages.render(eval_id, asked), queue, priority, once

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
        record = decode_record(stored) if stored else None
        if record is not None and record.queue_system == "legacy":
            return await self._look_up_legacy(eval_id, record, meta)
        return evaluation_of(eval_id, record, meta)

    async def _look_up_legacy(self, eval_id: str, record: Record, copy: Meta | None) -> Evaluation:
        """An evaluation of the legacy queue, by what was kept of it; that queue may be no more.

        Args:
            eval_id: its id.
            record: its record.
            copy: what Celery stored of its copy, where there was one.
        """
        kept = await self._publisher.recall(self._publisher.keys.legacy_result(eval_id))
        if kept is not None:
            return evaluation_of(eval_id, record, decode_end(kept))
        if copy is not None and copy.status == SUCCESS:
            return evaluation_of(eval_id, record, copy)
        return lost_by_legacy(eval_id, record)

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
        await self._control.revoke([task_id_of(eval_id)], terminate=True, final=True)
        await self.wait(eval_id, STOP_WAIT_S)
        return await self.look_up(eval_id)


def check_same(draft: Draft, first: Record) -> None:
    """Refuse an id that was used for something else.

    Raises:
        ConflictError: it was.
    """
    if first.digest != draft.digest:
        raise ConflictError(draft.field or "eval_id", "was used before with different content")
