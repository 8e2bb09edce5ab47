"""The service of an installation whose evaluations all go to Celery queues.

``submit`` is for coroutines. ``begin`` and ``accepted`` are its two halves for the connections of
``api.fast_path``, which are called back when the message is queued.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from crucible.broker import IdempotencyRecord
from crucible.broker.results.meta import SUCCESS
from crucible.broker.wire.ids import new_id
from crucible.errors import BrokerError, ParameterError, QuotaExceeded, ResultTimeout
from crucible.evaluation.bulk import Bulk
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
    tenant_of,
    unended_ttl_s,
    unknown,
)
from crucible.evaluation.request import (
    celery_priority,
    digest_of,
    is_plain,
    options_of,
    queue_of,
)
from crucible.evaluation.service import Submitted
from crucible.evaluation.submission import Draft, check_same, with_id
from crucible.evaluation.transitions import Delivery, cancelled, queued
from crucible.evaluation.view import evaluation_of, shown
from crucible.evaluation.webhook_ends import end_of
from crucible.evaluation.webhook_notifier import WebhookNotifier
from crucible.events.writer import NoEvents
from crucible.models import ENDED, Status
from crucible.tracing import current, publishing_many
from crucible.webhooks.addresses import AddressPolicy, check_url
from crucible.webhooks.subscriptions import Subscriptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crucible.broker import Publisher
    from crucible.broker.control.client import ControlClient
    from crucible.broker.publishing.group_commit import PublishCallback, PublishResult
    from crucible.broker.results.meta import Meta
    from crucible.errors import CrucibleError
    from crucible.evaluation.allowance import Allowance
    from crucible.evaluation.in_flight import InFlightSets
    from crucible.evaluation.record import Record
    from crucible.evaluation.request import EvalRequest
    from crucible.events.writer import EventSink
    from crucible.identity.principal import Principal
    from crucible.identity.rates import KeyRates, RateStatus
    from crucible.models import Evaluation, Tier

#: Seconds a request to cancel waits for a running program to be stopped.
STOP_WAIT_S = 5.0
#: Turns an ``Idempotency-Key`` into an evaluation id (RFC 9562, version 5).
_KEY_NAMESPACE = uuid.UUID("6f0f6b0e-3c35-5d7c-9d0b-52a8ff1d3f5c")


class CeleryService:
    """Implements ``EvaluationService`` over Celery queues.

    Args:
        publisher: publishes messages and reads results.
        control: sends remote control commands to workers.
        allowed: what callers of each tier may ask for.
        rates: of keys.
        in_flight: what has not ended of each tenant.
        result_ttl_s: seconds a result is kept; a submission is remembered for at least as long.
        offered: isolations that workers' machines can give programs.
        events: takes the events of submissions and cancellations; None drops them.
        webhooks: sends the webhooks of cancellations; None sends none.
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
        allowed: Mapping[Tier | None, Allowance],
        rates: KeyRates,
        in_flight: InFlightSets,
        result_ttl_s: int,
        offered: OfferedIsolations | None = None,
        events: EventSink | None = None,
        webhooks: WebhookNotifier | None = None,
        addresses: AddressPolicy | None = None,
    ) -> None:
        self._publisher = publisher
        self._control = control
        self._allowed = allowed
        self._rates = rates
        self._in_flight = in_flight
        self._offered = offered or OfferedIsolations()
        self._result_ttl_s = result_ttl_s
        self._record_ttl_s = unended_ttl_s(result_ttl_s)
        # A plain number and no metric: this is the hot path, and a scrape can read it.
        self.submitted_total = 0
        self.events: EventSink = events or NoEvents()
        self._webhooks = webhooks or WebhookNotifier(publisher, Subscriptions())
        self._addresses = addresses or AddressPolicy()
        self._messages = EvalMessages()

    def submitted(self) -> dict[str, int]:
        """Evaluations accepted since the start, by queue system."""
        return {"celery": self.submitted_total, "legacy": 0}

    async def submit(
        self, caller: Principal, asked: EvalRequest, key: str | None = None, retry_of: str = ""
    ) -> Submitted:
        """See ``EvaluationService``."""
        draft = self.draft(caller, asked, key)
        draft.retry_of = retry_of
        return await self._submit(draft)

    async def _submit(self, draft: Draft) -> Submitted:
        eval_id = public_id(draft.eval_id)
        first, rate = await self.publish(draft)
        if first is None:
            return Submitted(eval_id, queue_of(draft.asked.priority), True, rate=rate)
        check_same(draft, first)
        return Submitted(eval_id, first.queue, False, first.queue_system, rate)

    async def submit_and_wait(
        self, caller: Principal, asked: EvalRequest, key: str | None, timeout: float
    ) -> tuple[Submitted, Evaluation | None]:
        """See ``EvaluationService``. Waits from before the message is sent, so no end is missed."""
        draft = self.draft(caller, asked, key)
        results, task_id = self._publisher.results, task_id_of(draft.eval_id)
        with results.expecting(task_id) as coming:
            submitted = await self._submit(draft)
            if not submitted.new:
                # It may have ended long ago, and nothing more be published.
                with suppress(ResultTimeout, BrokerError):
                    await results.wait(task_id, timeout)
                return submitted, None
            try:
                async with asyncio.timeout(timeout):
                    meta = await coming
            except (TimeoutError, BrokerError):
                return submitted, None
        # The same as ``look_up`` would find: this record, and the result just received.
        record = draft.record("celery", submitted.queue)
        return submitted, shown(evaluation_of(draft.eval_id, record, meta))

    async def submit_many(
        self, caller: Principal, asked: Sequence[EvalRequest], keys: Sequence[str | None]
    ) -> list[Submitted | CrucibleError]:
        """See ``EvaluationService``; all go into the next flushes together."""
        with publishing_many(len(asked)):
            bulk = Bulk(self, caller)
            for one, key in zip(asked, keys, strict=True):
                bulk.begin(one, key)
            return await bulk.outcomes()

    def draft(self, caller: Principal, asked: EvalRequest, key: str | None) -> Draft:
        """A submission, checked and given its id; nothing is sent.

        Raises:
            InputError: it could never run, or has an id and a key.
            QuotaExceeded: a submission of the caller was refused just now, and so would this be.
        """
        rate = self._rates.of(caller)
        if rate is not None:
            rate.check()
        plain = is_plain(asked)
        admitted = self._allowed[caller.tier].admit(asked, plain=plain)
        plain, asked = plain and admitted is asked, admitted
        if asked.isolation is not None:
            self._offered.check(asked.isolation)
        if asked.webhook_url is not None:
            check_url(asked.webhook_url, self._addresses, "webhook_url")
        if key and asked.eval_id:
            raise ParameterError("Idempotency-Key", "must not come beside an eval_id")
        field = "eval_id" if asked.eval_id else "Idempotency-Key" if key else ""
        eval_id = asked.eval_id or (str(uuid.uuid5(_KEY_NAMESPACE, key)) if key else new_id())
        scoped = scoped_id(caller.tenant, eval_id)
        now_ms = time.time_ns() // 1_000_000
        options = {} if plain else options_of(asked)
        digest = digest_of(asked, plain=not options)
        draft = Draft(asked, scoped, digest, field, now_ms, rate=rate, options=options)
        trace = current.get()
        if trace is not None:
            draft.publication = trace.publishing(queue_of(asked.priority), task_id_of(scoped))
        return draft

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
            QuotaExceeded: the caller's rate is used up.
            BrokerUnavailable: this process is closing.
        """
        draft = self.draft(caller, asked, key)
        self.send(draft, told)
        return draft

    def send(self, draft: Draft, told: PublishCallback) -> None:
        """Add a draft to the next flush, as ``begin`` does; again where it was refused.

        Raises:
            BrokerUnavailable: this process is closing.
        """
        quota = None if draft.rate is None else draft.rate.quota
        self._publisher.begin(*self._parts(draft), told, quota)

    def accepted(self, draft: Draft) -> str:
        """Count a submission that was begun and has been queued; the queue it is in."""
        self.submitted_total += 1
        queue = queue_of(draft.asked.priority)
        self.events.add(queued(draft, queue))
        if draft.publication is not None:
            draft.publication.ended()
        return queue

    async def publish(self, draft: Draft) -> tuple[Record | None, RateStatus | None]:
        """Queue a draft; where its id is known nothing is pushed.

        Returns:
            The record of the submission that used its id first, None where this one did; and what
            is left to the caller's key, where it has a rate.

        Raises:
            BrokerError: as ``submit``.
        """
        result = await self._published(draft)
        # Some may have ended a moment ago, or not have been seen to end.
        full = isinstance(result.error, QuotaExceeded) and result.error.in_flight
        if full and await self.release_ended(draft):
            result = await self._published(draft)
        if result.error is not None:
            if draft.publication is not None:
                draft.publication.ended(result.error)
            if isinstance(result.error, QuotaExceeded) and draft.rate is not None:
                draft.rate.refused(result.error)
            raise with_id(result.error, draft)
        status = None
        if draft.rate is not None and result.quota is not None:
            status = draft.rate.status(result.quota)
        if result.existing is not None:
            return decode_record(result.existing), status
        self.accepted(draft)
        return None, status

    async def _published(self, draft: Draft) -> PublishResult:
        quota = None if draft.rate is None else draft.rate.quota
        return await self._publisher.add(*self._parts(draft), quota)

    async def release_ended(self, draft: Draft) -> bool:
        """Whether there is room for a draft again that had too much in flight before it.

        Raises:
            BrokerError: the server does not answer.
        """
        bound = None if draft.rate is None else draft.rate.quota.in_flight
        if bound is None:
            return True
        return await self._in_flight.release_ended(tenant_of(draft.eval_id), bound.limit)

    def _parts(self, draft: Draft) -> tuple[bytes, str, int, IdempotencyRecord]:
        """Message, queue, Celery priority and idempotency record."""
        asked, eval_id = draft.asked, draft.eval_id
        queue, priority = queue_of(asked.priority), celery_priority(asked.priority)
        record = encode_record(draft.record("celery", queue))
        ttl_s = max(self._record_ttl_s, asked.result_ttl_s or 0)
        once = IdempotencyRecord(self._once_key(eval_id), record, ttl_s)
        raw = self._messages.render(
            eval_id, asked, traceparent=draft.traceparent, options=draft.options
        )
        return raw, queue, priority, once

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
        if record is not None and record.purged:
            raise unknown(public_id(eval_id))
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
        ``STOP_WAIT_S`` to stop the program and to store the result; an end that comes later is
        reported by that worker alone.
        """
        evaluation = await self.find(eval_id)
        if evaluation.status in ENDED:
            if evaluation.status is Status.CANCELLED:
                # The api that cancelled it may have been killed before it reported that.
                await self._report_cancelled(eval_id, evaluation)
            return evaluation
        await self._control.revoke([task_id_of(eval_id)], terminate=True, final=True)
        await self.wait_for(eval_id, STOP_WAIT_S)
        found = await self.find(eval_id)
        if found.status is Status.CANCELLED:
            await self._report_cancelled(eval_id, found)
        return found

    async def _report_cancelled(self, eval_id: str, found: Evaluation) -> None:
        """Report an end now: a worker may not have it for a long time, and then does the same.

        An end that is reported twice has the same ids.
        """
        self.events.add(cancelled(Delivery(eval_id, found.queue, None)))
        await self._notify(eval_id, found)

    async def _notify(self, eval_id: str, found: Evaluation) -> None:
        """Send the webhooks of an end that no worker may have seen."""
        stored = await self._publisher.recall(self._once_key(eval_id))
        url = decode_record(stored).webhook_url if stored else None
        await self._webhooks.notify([end_of(eval_id, found.status, found.verdict, url=url)])
