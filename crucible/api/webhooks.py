"""The handlers of ``/api/v1/webhooks``: who is notified when evaluations end."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from crucible.api.app_keys import WEBHOOKS
from crucible.api.callers import caller_of
from crucible.errors import Forbidden
from crucible.evaluation.request_errors import undecodable
from crucible.http.answers import json_answer
from crucible.http.body import read_body
from crucible.validation import input_error
from crucible.webhooks.registration import ALERT_TYPES

if TYPE_CHECKING:
    from crucible.webhooks.log import Attempt
    from crucible.webhooks.registration import Registration


class WebhookRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /api/v1/webhooks``.

    Attributes:
        url: where deliveries go.
        events: types of events that are delivered; the ends of evaluations where it is left out.
            ``dead_letters.growing`` needs a key with the scope ``admin``: it is of all tenants.
    """

    url: str
    events: list[str] | None = None


class WebhookShown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A webhook.

    Attributes:
        id: its id; ``default`` is the one whose secret signs what goes to a ``webhook_url``.
        url: where deliveries go; empty for ``default``.
        events: types of events that are delivered.
        created_at: when it was registered.
        enabled: whether anything is delivered to it.
        disabled_reason: why not; null while something is.
    """

    id: str
    url: str
    events: list[str]
    created_at: str
    enabled: bool
    disabled_reason: str | None


class WebhookCreated(WebhookShown, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A webhook with its new secret, which is not shown again.

    Attributes:
        secret: what deliveries are verified with (Standard Webhooks).
    """

    secret: str


class WebhookList(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``GET /api/v1/webhooks``.

    Attributes:
        webhooks: of the caller's tenant, the oldest first.
    """

    webhooks: list[WebhookShown]


class AttemptShown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One attempt of a delivery.

    Attributes:
        number: 1 for the first.
        at: when it began.
        url: where to.
        outcome: ``delivered``, ``retrying`` or ``failed``.
        status_code: HTTP status of the answer; null where there was none.
        detail: what went wrong, or the beginning of the answer.
        duration_ms: milliseconds it took.
        next_at: when it is tried again; null where it is not.
    """

    number: int
    at: str
    url: str
    outcome: str
    status_code: int | None
    detail: str
    duration_ms: int
    next_at: str | None


class DeliveryShown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A delivery.

    Attributes:
        id: the ``webhook-id``.
        webhook: id of the webhook.
        type: of the event.
        eval_id: the evaluation that ended.
        status: outcome of the latest attempt.
        attempts: the newest first.
    """

    id: str
    webhook: str
    type: str
    eval_id: str
    status: str
    attempts: list[AttemptShown]


class DeliveryList(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``GET /api/v1/webhooks/{webhook_id}/deliveries``.

    Attributes:
        deliveries: the latest, the newest first.
    """

    deliveries: list[DeliveryShown]


class DeliveryQueued(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a 202: a delivery is made once more.

    Attributes:
        id: the ``webhook-id``, the same as before.
        webhook: id of the webhook.
    """

    id: str
    webhook: str


_decode = msgspec.json.Decoder(WebhookRequest).decode


async def create(request: web.Request) -> web.Response:
    """``POST /api/v1/webhooks``: register one; its secret is shown in this answer only."""
    body = await read_body(request, "CRUCIBLE_MAX_BODY_KB")
    try:
        asked = _decode(body)
    except msgspec.ValidationError as error:
        raise input_error(error, WebhookRequest) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise undecodable(error, body) from None
    caller = caller_of(request)
    if not set(ALERT_TYPES).isdisjoint(asked.events or ()) and "admin" not in caller.scopes:
        raise Forbidden("admin")
    made = await request.app[WEBHOOKS].create(caller.tenant, asked.url, asked.events)
    return json_answer(_with_secret(made), status=201)


async def list_(request: web.Request) -> web.Response:
    """``GET /api/v1/webhooks``: those of the caller's tenant."""
    found = await request.app[WEBHOOKS].of_tenant(caller_of(request).tenant)
    return json_answer(WebhookList(webhooks=[WebhookShown(**_fields(one)) for one in found]))


async def delete(request: web.Request) -> web.Response:
    """``DELETE /api/v1/webhooks/{webhook_id}``: forget one."""
    webhook_id = request.match_info["webhook_id"]
    await request.app[WEBHOOKS].delete(caller_of(request).tenant, webhook_id)
    return web.Response(status=204)


async def rotate(request: web.Request) -> web.Response:
    """``POST /api/v1/webhooks/{webhook_id}/rotate``: a new secret, beside the old for a day."""
    webhook_id = request.match_info["webhook_id"]
    rotated = await request.app[WEBHOOKS].rotate(caller_of(request).tenant, webhook_id)
    return json_answer(_with_secret(rotated))


async def deliveries(request: web.Request) -> web.Response:
    """``GET /api/v1/webhooks/{webhook_id}/deliveries``: the latest, with their attempts."""
    webhook_id = request.match_info["webhook_id"]
    found = await request.app[WEBHOOKS].deliveries(caller_of(request).tenant, webhook_id)
    return json_answer(DeliveryList(deliveries=[_delivery(attempts) for attempts in found]))


async def replay(request: web.Request) -> web.Response:
    """``POST /api/v1/webhooks/deliveries/{delivery_id}/replay``: deliver once more."""
    delivery_id = request.match_info["delivery_id"]
    again = await request.app[WEBHOOKS].replay(caller_of(request).tenant, delivery_id)
    return json_answer(DeliveryQueued(id=again.id, webhook=again.webhook), status=202)


def _fields(webhook: Registration) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "url": webhook.url,
        "events": list(webhook.events),
        "created_at": _text(webhook.created_ms),
        "enabled": webhook.disabled is None,
        "disabled_reason": webhook.disabled,
    }


def _with_secret(webhook: Registration) -> WebhookCreated:
    return WebhookCreated(**_fields(webhook), secret=webhook.secrets[0].value)


def _delivery(attempts: list[Attempt]) -> DeliveryShown:
    latest = attempts[0]
    delivery = latest.delivery
    return DeliveryShown(
        id=delivery.id,
        webhook=delivery.webhook,
        type=delivery.end.type,
        eval_id=delivery.end.eval_id,
        status=latest.outcome,
        attempts=[_attempt(one) for one in attempts],
    )


def _attempt(attempt: Attempt) -> AttemptShown:
    return AttemptShown(
        number=attempt.number,
        at=_text(attempt.at_ms),
        url=attempt.url,
        outcome=attempt.outcome,
        status_code=attempt.status_code,
        detail=attempt.detail,
        duration_ms=attempt.duration_ms,
        next_at=None if attempt.next_at_ms is None else _text(attempt.next_at_ms),
    )


def _text(ms: int) -> str:
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
