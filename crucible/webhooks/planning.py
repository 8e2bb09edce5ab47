"""What the end of an evaluation causes: one delivery for each webhook that asks for it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from crucible.broker.wire.call import TaskCall
from crucible.tracing import TRACEPARENT
from crucible.webhooks.registration import DEFAULT, AlertType, EventType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crucible.webhooks.registration import Registration

TASK, QUEUE = "tasks.deliver_webhook", "webhooks"


class End(msgspec.Struct, frozen=True, kw_only=True):
    """The end of an evaluation, as far as it must be known to notify somebody of it.

    Attributes:
        tenant: whose evaluation it was.
        eval_id: its id as clients know it.
        status: ``completed``, ``failed`` or ``cancelled``.
        verdict: how the program ended; None where that is not known.
        ended_ms: when, milliseconds since the epoch.
        attempt: how often it was started anew after it had ended.
        url: ``webhook_url`` of its submission.
        alert: the type, of what is no end of an evaluation but is delivered as one: ``eval_id`` is
            empty then, and ``ended_ms`` when it was found.
        facts: what is delivered of an alert.
    """

    tenant: str
    eval_id: str
    status: str
    verdict: str | None
    ended_ms: int
    attempt: int = 0
    url: str | None = None
    alert: AlertType | None = None
    facts: dict[str, Any] | None = None

    @property
    def type(self) -> EventType:
        """The type of event that it is."""
        if self.alert is not None:
            return self.alert
        if self.status == "completed":
            return "evaluation.completed"
        return "evaluation.cancelled" if self.status == "cancelled" else "evaluation.failed"


class Delivery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event for one receiver.

    Attributes:
        id: the ``webhook-id``: the same in every attempt, and where one end is reported twice.
        webhook: id of the webhook.
        end: what is reported.
        url: where it goes, for deliveries of ``DEFAULT``; else the webhook's own counts.
        method: of HTTP, by which it is sent.
        tries: attempts made so far.
        replayed: it was asked for again, and is made even if it was accepted before.
    """

    id: str
    webhook: str
    end: End
    url: str = ""
    method: Literal["POST", "PUT"] = "POST"
    tries: int = 0
    replayed: bool = False


def deliveries_of(end: End, registrations: Iterable[Registration]) -> list[Delivery]:
    """The deliveries that an end causes.

    Args:
        end: of an evaluation.
        registrations: the webhooks of its tenant that are not disabled.
    """
    found = [
        Delivery(id=_delivery_id(end, one.id), webhook=one.id, end=end)
        for one in registrations
        if end.type in one.events
    ]
    if end.url:
        own = Delivery(id=_delivery_id(end, DEFAULT), webhook=DEFAULT, end=end, url=end.url)
        found.append(own)
    return found


def _delivery_id(end: End, webhook_id: str) -> str:
    return _digest((end.tenant, end.eval_id, end.attempt, webhook_id))


def _digest(identity: tuple[object, ...]) -> str:
    return "msg_" + hashlib.blake2b(msgspec.json.encode(identity), digest_size=16).hexdigest()


def alerts_of(
    kind: AlertType,
    occasion: str,
    now_ms: int,
    facts: dict[str, Any],
    registrations: Iterable[Registration],
) -> list[Delivery]:
    """The deliveries of an alert.

    Args:
        kind: its type.
        occasion: the same where it is found again, so that it is delivered once.
        now_ms: when it was found, milliseconds since the epoch.
        facts: what is delivered.
        registrations: the webhooks there are, of all tenants.
    """
    return [
        Delivery(
            id=_digest((kind, occasion, one.tenant, one.id)),
            webhook=one.id,
            end=End(
                tenant=one.tenant,
                eval_id="",
                status="",
                verdict=None,
                ended_ms=now_ms,
                alert=kind,
                facts=facts,
            ),
        )
        for one in registrations
        if kind in one.events and one.url and one.disabled is None
    ]


def call_of(delivery: Delivery, traceparent: str = "") -> TaskCall:
    """The task that makes a delivery; ``traceparent`` where it is traced."""
    return TaskCall(
        TASK,
        kwargs={"delivery": msgspec.to_builtins(delivery)},
        task_id=f"webhook-{delivery.id}",
        queue=QUEUE,
        ignore_result=True,
        options={"headers": {TRACEPARENT: traceparent}} if traceparent else None,
    )
