"""Cancelling many evaluations: those of a tenant that match filters, a part at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from crucible.broker.admin.listing import Listed, Place
from crucible.broker.results.meta import RETRY, REVOKED, STARTED
from crucible.broker.wire.retry import attempt_of
from crucible.evaluation.record import (
    TASK_ID_PREFIX,
    Record,
    decode_record,
    once_name,
    public_id,
)
from crucible.evaluation.task_directory import is_of_tenant
from crucible.evaluation.transitions import Delivery, scoped_of
from crucible.evaluation.transitions import cancelled as cancelled_event
from crucible.evaluation.webhook_ends import end_of
from crucible.events.event import QUEUED, Event, Transition
from crucible.history.labels import label_rows
from crucible.models import Status, Verdict
from crucible.settings import KNOWN_QUEUES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker import Publisher
    from crucible.broker.admin.operator import Admin
    from crucible.broker.control.client import ControlClient
    from crucible.broker.results.meta import Meta
    from crucible.evaluation.webhook_notifier import WebhookNotifier
    from crucible.events.writer import EventSink
    from crucible.history.filters import Filters

#: Parts of queues that one call looks at, some hundred messages each.
_PARTS = 40


def is_meant(filters: Filters, one: Listed, record: Record, meta: Meta | None) -> bool:
    """Whether an evaluation that has not ended fits, as the list of the history would have it."""
    return (
        not filters.verdict
        and (not filters.status or _status_of(one, meta).value in filters.status)
        and (filters.queue is None or filters.queue == one.queue)
        and (filters.language is None or filters.language == record.language)
        and (filters.since_ms is None or record.created_ms >= filters.since_ms)
        and (filters.until_ms is None or record.created_ms < filters.until_ms)
        and _has_labels(filters, one, record)
    )


def _has_labels(filters: Filters, one: Listed, record: Record) -> bool:
    asked = filters.labels()
    if not asked:
        return True
    eval_id = public_id(scoped_of(one.message.id))
    # As it was when it was queued: that event is what the history has its labels of.
    event = Event(eval_id, QUEUED, record.created_ms, Transition.QUEUED, "queued")
    event = msgspec.structs.replace(event, metadata=record.metadata)
    return set(asked) <= {(row["name"], row["value"]) for row in label_rows(event)}


def _status_of(one: Listed, meta: Meta | None) -> Status:
    state = meta.status if meta is not None else ""
    if state == RETRY:
        return Status.RETRYING
    return Status.RUNNING if one.claimed and state == STARTED else Status.QUEUED


class Cancellation:
    """Cancels what matches.

    Args:
        publisher: reads results.
        control: sends remote control commands to workers.
        admin: reads queues.
        events: takes the events of those that no worker had.
        webhooks: sends the webhooks of these.
    """

    def __init__(
        self,
        publisher: Publisher,
        control: ControlClient,
        admin: Admin,
        events: EventSink,
        webhooks: WebhookNotifier,
    ) -> None:
        self._publisher = publisher
        self._control = control
        self._admin = admin
        self._events = events
        self._webhooks = webhooks

    async def cancel(self, filters: Filters, place: Place | None) -> tuple[int, Place | None]:
        """Cancel some more of what matches.

        Args:
            filters: which evaluations, and whose.
            place: where to begin; None is the beginning.

        Returns:
            How many were cancelled: those that wait have ended, workers were asked to stop those
            that run. And where to go on; None at the end.

        Raises:
            BrokerError: the server failed; what was cancelled before is.
            ParameterError: a filter cannot be used.
        """
        filters.labels()  # refused before anything is cancelled
        cancelled = 0
        at: Place | None = place or Place()
        for _ in range(_PARTS):
            if at is None:
                break
            listed, at = await self._admin.messages(KNOWN_QUEUES, at)
            found = await self._matching(filters, listed)
            if found:
                ids = [one.message.id for one, _ in found]
                await self._control.revoke(ids, terminate=True, final=True)
                await self._report_cancelled([(one, r) for one, r in found if not one.claimed])
                cancelled += len(found)
        return cancelled, at

    async def _report_cancelled(self, waiting: Sequence[tuple[Listed, Record]]) -> None:
        """Report the ends of those that waited: no worker may have them for a long time."""
        metas = await self._publisher.results.metas([one.message.id for one, _ in waiting])
        ends = []
        for (one, record), meta in zip(waiting, metas, strict=True):
            # One that was claimed and ended meanwhile has its event from its worker.
            if meta is not None and meta.status == REVOKED:
                scoped, message = scoped_of(one.message.id), one.message
                attempt = attempt_of(message.headers)
                delivery = Delivery(scoped, one.queue, None, message.retries, attempt)
                self._events.add(cancelled_event(delivery))
                url, verdict = record.webhook_url, Verdict.CANCELLED
                ends.append(end_of(scoped, Status.CANCELLED, verdict, attempt=attempt, url=url))
        await self._webhooks.notify(ends)

    async def _matching(
        self, filters: Filters, listed: Sequence[Listed]
    ) -> list[tuple[Listed, Record]]:
        own = [
            one
            for one in listed
            if one.message.id.startswith(TASK_ID_PREFIX)
            and is_of_tenant(filters.tenant, one.message.id)
        ]
        ids = [one.message.id for one in own]
        names = [once_name(task_id.removeprefix(TASK_ID_PREFIX)) for task_id in ids]
        records = await self._admin.values(list(map(self._publisher.keys.idempotency, names)))
        metas = await self._publisher.results.metas(ids)
        return [
            (one, record)
            for one, stored, meta in zip(own, records, metas, strict=True)
            if stored is not None
            and not (meta is not None and meta.ready)
            and is_meant(filters, one, record := decode_record(stored), meta)
        ]
