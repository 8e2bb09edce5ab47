"""The service of an installation whose evaluations all go to Celery queues.

``submit`` is for coroutines. ``begin`` and ``accepted`` are its two halves for the connections of
``api.fast_path``, which are called back when the message is queued.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING

from crucible.broker import IdempotencyRecord
from crucible.broker.results.meta import SUCCESS
from crucible.broker.wire.encode import encode_call
from crucible.broker.wire.ids import new_id
from crucible.errors import BrokerError, ParameterError, ResultTimeout
from crucible.evaluation.isolations import OfferedIsolations
from crucible.evaluation.kept_results import decode_kept, lost_evaluation
from crucible.evaluation.messages import EvalMessages
from crucible.evaluation.record import (
    decode_record,
    encode_record,
    once_name,
    public_id,
    scoped_id,
    task_id_of,
    unended_ttl_s,
    unknown,
)
from crucible.evaluation.request import (
    celery_priority,
    check_request,
    digest_of,
    queue_of,
)
from crucible.evaluation.service import Submitted
from crucible.evaluation.submission import Draft, check_same
from crucible.evaluation.transitions import Delivery, cancelled, queued
from crucible.evaluation.view import evaluation_of, shown
from crucible.evaluation.webhook_ends import calls_of, end_of
from crucible.events.writer import NoEvents
from crucible.models import ENDED, ISOLATIONS, Status
from crucible.redis_keys import WEBHOOK_DELIVERED_TTL_S
from crucible.webhooks.addresses import AddressPolicy, check_url
from crucible.webhooks.subscriptions import Subscriptions

if TYPE_CHECKING:
    from collections.abc import Collection

    from crucible.broker import Publisher
    from crucible.broker.control.client import ControlClient
    from crucible.broker.publishing.group_commit import PublishCallback
    from crucible.broker.results.meta import Meta
    from crucible.evaluation.record import Record
    from crucible.evaluation.request import EvalRequest
    from crucible.events.writer import EventSink
    from crucible.executor.served import ServedEnvironments
    from crucible.identity.principal import Principal
    from crucible.models import Evaluation, Isolation, Limits

#: Seconds a request to cancel waits for a running program to be stopped.
STOP_WAIT_S = 5.0
#: Turns an ``Idempotency-Key`` into an evaluation id (RFC 9562, version 5).
_KEY_NAMESPACE = uuid.UUID("6f0f6b0e-3c35-5d7c-9d0b-52a8ff1d3f5c")


class CeleryService:
    """Implements ``EvaluationService`` over Celery queues.

    Args:
        publisher: publishes messages and reads results.
        control: sends remote control commands to workers.
        served: the environments a program may run in.
        ceilings: the most a program may ask for.
        result_ttl_s: seconds a result is kept; a submission is remembered for at least as long.
        isolations: those that a program may ask for.
        offered: those that workers' machines can give it.
        events: takes the events of submissions and cancellations; None drops them.
        webhooks: the webhooks there are; None for none.
        addresses: says which hosts a ``webhook_url`` may name.

    Attributes:
        submitted_total: submissions that Celery queues took since the start.
        events: takes events.
    """

    def __init__(
        self,
        publisher: Publisher,
        control: ControlClient,
        *,
        served: ServedEnvironments,
        ceilings: Limits,
        result_ttl_s: int,
        isolations: Collection[Isolation] = ISOLATIONS,
        offered: OfferedIsolations | None = None,
        events: EventSink | None = None,
        webhooks: Subscriptions | None = None,
        addresses: AddressPolicy | None = None,
    ) -> None:
        self._publisher = publisher
        self._control = control
        self._served = served
        self._ceilings = ceilings
        self._isolations = isolations
        self._offered = offered or OfferedIsolations()
        self._result_ttl_s = result_ttl_s
        self._record_ttl_s = unended_ttl_s(result_ttl_s)
        # A plain number and no metric: this is the hot path, and a scrape can read it.
        self.submitted_total = 0
        self.events: EventSink = events or NoEvents()
        self._webhooks = webhooks or Subscriptions()
        self._addresses = addresses or AddressPolicy()
        self._messages = EvalMessages()

    def submitted(self) -> dict[str, int]:
        """Evaluations accepted since the start, by queue system."""
        return {"celery": self.submitted_total, "legacy": 0}

    async def submit(
        self, caller: Principal, asked: EvalRequest, key: str | None = None
    ) -> Submitted:
        """See ``EvaluationService``."""
        return await self._submit(self.draft(caller, asked, key))

    async def _submit(self, draft: Draft) -> Submitted:
        first = await self.publish(draft)
        if first is None:
            return Submitted(public_id(draft.eval_id), queue_of(draft.asked.priority), True)
        check_same(draft, first)
        return Submitted(public_id(draft.eval_id), first.queue, False, first.queue_system)

    async def submit_and_wait(
        self, caller: Principal, asked: EvalRequest, key: str | None, timeout: float
    ) -> tuple[Submitted, Evaluation | None]:
        """See ``EvaluationService``. Waits from before the message is sent, so no end is missed."""
        draft = self.draft(caller, asked, key)
        with self._publisher.results.expecting(task_id_of(draft.eval_id)) as coming:
            submitted = await self._submit(draft)
            try:
                async with asyncio.timeout(timeout):
                    meta = await coming
            except (TimeoutError, BrokerError):
                return submitted, None
        if not submitted.new:
            return submitted, None
        # The same as ``look_up`` would find: this record, and the result just received.
        record = draft.record("celery", submitted.queue)
        return submitted, shown(evaluation_of(draft.eval_id, record, meta))

    def draft(self, caller: Principal, asked: EvalRequest, key: str | None) -> Draft:
        """A submission, checked and given its id; nothing is sent.

        Raises:
            InputError: it could never run, or has an id and a key.
        """
        asked = check_request(asked, self._served, self._ceilings, self._isolations)
        if asked.isolation is not None:
            self._offered.check(asked.isolation)
        if asked.webhook_url is not None:
            check_url(asked.webhook_url, self._addresses, "webhook_url")
        if key and asked.eval_id:
            raise ParameterError("Idempotency-Key", "must not come beside an eval_id")
        field = "eval_id" if asked.eval_id else "Idempotency-Key" if key else ""
        eval_id = asked.eval_id or (str(uuid.uuid5(_KEY_NAMESPACE, key)) if key else new_id())
        scoped = scoped_id(caller.tenant, eval_id)
        return Draft(asked, scoped, digest_of(asked), field, time.time_ns() // 1_000_000)

    def begin(
        self, caller: Principal, asked: EvalRequest, key: str | None, told: PublishCallback
    ) -> Draft:
        """Add one evaluation to the next flush; for callers that are not coroutines.

        Args:
            caller: whose it will be.
            asked: what to run.
            key: the client's ``Idempotency-Key``, instead of an id.
            told: called with the publish result. ``existing`` in it means that the id is known:
                nothing was pushed, and ``submit`` with the same finds the first evaluation.

        Raises:
            InputError: it could never run.
            BrokerUnavailable: this process is closing.
        """
        draft = self.draft(caller, asked, key)
        self._publisher.begin(*self._parts(draft), told)
        return draft

    def accepted(self, draft: Draft) -> str:
        """Count a submission that was begun and has been queued; the queue it is in."""
        self.submitted_total += 1
        queue = queue_of(draft.asked.priority)
        self.events.add(queued(draft, queue))
        return queue

    async def publish(self, draft: Draft) -> Record | None:
        """Queue a draft; where its id is known nothing is pushed, and the record is returned.

        Raises:
            BrokerError: as ``submit``.
        """
        raw, queue, priority, once = self._parts(draft)
        previous = await self._publisher.publish(
            raw, queue=queue, priority=priority, idempotency=once
        )
        if previous is None:
            self.accepted(draft)
            return None
        return decode_record(previous)

    def _parts(self, draft: Draft) -> tuple[bytes, str, int, IdempotencyRecord]:
        """Message, queue, Celery priority and idempotency record."""
        asked, eval_id = draft.asked, draft.eval_id
        queue, priority = queue_of(asked.priority), celery_priority(asked.priority)
        record = encode_record(draft.record("celery", queue))
        once = IdempotencyRecord(self._once_key(eval_id), record, self._record_ttl_s)
        return self._messages.render(eval_id, asked), queue, priority, once

    def _once_key(self, eval_id: str) -> str:
        return self._publisher.keys.idempotency(once_name(eval_id))

    async def look_up(self, caller: Principal, eval_id: str) -> Evaluation:
        """See ``EvaluationService``."""
        return shown(await self.find(scoped_id(caller.tenant, eval_id)))

    async def find(self, eval_id: str) -> Evaluation:
        """What is known of one evaluation; ``look_up`` with and of scoped ids."""
        stored, meta = await asyncio.gather(
            self._publisher.recall(self._once_key(eval_id)),
            self._publisher.results.meta(task_id_of(eval_id)),
        )
        if stored is None and meta is None:
            raise unknown(public_id(eval_id))
        record = decode_record(stored) if stored else None
        if record is not None and record.queue_system == "legacy":
            return await self._look_up_legacy(eval_id, record, meta)
        return evaluation_of(eval_id, record, meta)

    async def _look_up_legacy(self, eval_id: str, record: Record, copy: Meta | None) -> Evaluation:
        """An evaluation of a legacy queue that may be gone, from what was kept here of it.

        Args:
            eval_id: its id.
            record: its record.
            copy: the stored result of its copy, where dual write sent one.
        """
        kept = await self._publisher.recall(self._publisher.keys.legacy_result(eval_id))
        if kept is not None:
            return evaluation_of(eval_id, record, decode_kept(kept))
        if copy is not None and copy.status == SUCCESS:
            return evaluation_of(eval_id, record, copy)
        return lost_evaluation(eval_id, record)

    async def wait(self, caller: Principal, eval_id: str, timeout: float) -> bool:
        """See ``EvaluationService``."""
        return await self.wait_for(scoped_id(caller.tenant, eval_id), timeout)

    async def wait_for(self, eval_id: str, timeout: float) -> bool:
        """Whether an evaluation has ended; ``wait`` with a scoped id."""
        try:
            await self._publisher.results.wait(task_id_of(eval_id), timeout)
        except ResultTimeout:
            return False
        return True

    async def cancel(self, caller: Principal, eval_id: str) -> Evaluation:
        """See ``EvaluationService``."""
        return shown(await self.stop(scoped_id(caller.tenant, eval_id)))

    async def stop(self, eval_id: str) -> Evaluation:
        """Cancel one evaluation, with and of scoped ids; asking again is safe.

        A queued evaluation has ended when this returns. The worker of a running one has
        ``STOP_WAIT_S`` to stop the program and to store the result.
        """
        evaluation = await self.find(eval_id)
        if evaluation.status in ENDED:
            return evaluation
        await self._control.revoke([task_id_of(eval_id)], terminate=True, final=True)
        await self.wait_for(eval_id, STOP_WAIT_S)
        found = await self.find(eval_id)
        if found.status is Status.CANCELLED and evaluation.status is Status.QUEUED:
            # No worker has it, and perhaps none will for a long time.
            self.events.add(cancelled(Delivery(eval_id, evaluation.queue, None)))
            await self.notify(eval_id, found)
        return found

    async def notify(self, eval_id: str, found: Evaluation) -> None:
        """Send the webhooks of an end that no worker may have seen; of a repetition, nothing.

        Args:
            eval_id: the scoped id.
            found: the evaluation.

        Raises:
            BrokerError: they may or may not have been sent.
        """
        stored = await self._publisher.recall(self._once_key(eval_id))
        url = decode_record(stored).webhook_url if stored else None
        end = end_of(eval_id, found.status, found.verdict, url=url)
        for call in calls_of([end], self._webhooks):
            task_id = call.task_id or new_id()
            key = self._publisher.keys.idempotency(task_id)
            once = IdempotencyRecord(key, b"1", WEBHOOK_DELIVERED_TTL_S)
            raw = encode_call(call, task_id)
            await self._publisher.publish(raw, queue=call.queue, idempotency=once)
