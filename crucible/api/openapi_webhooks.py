"""Webhooks in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from crucible.api.openapi_forms import Responses, Schemas, content, response, some
from crucible.api.webhooks import (
    DeliveryList,
    DeliveryQueued,
    WebhookCreated,
    WebhookList,
    WebhookRequest,
    WebhookShown,
)
from crucible.webhooks.addresses import MAX_URL_BYTES
from crucible.webhooks.registration import ALERT_TYPES, EVENT_TYPES

_PATH = "/api/v1/webhooks"


def webhook_paths(of: Schemas, errors: Responses) -> dict[str, Any]:
    """Paths for those who want to be notified.

    Args:
        of: references to schemas.
        errors: the error responses.
    """
    return {**_registrations(of, errors), **_deliveries(of, errors)}


def _registrations(of: Schemas, errors: Responses) -> dict[str, Any]:
    one = _one("webhook_id")
    listed = {"200": response("Those of the tenant.", of[WebhookList])}
    made = {"201": response("With its secret, shown once.", of[WebhookCreated])}
    rotated = {"200": response("With its new secret, shown once.", of[WebhookCreated])}
    missing = some(errors, "404", "503")
    return {
        _PATH: {
            "get": {"summary": "Webhooks", "responses": {**listed, **some(errors, "503")}},
            "post": {
                "summary": "Register a webhook",
                "requestBody": {"required": True, "content": content(of[WebhookRequest])},
                "responses": {**made, **some(errors, "400", "409", "413", "415", "422", "503")},
            },
        },
        f"{_PATH}/{{webhook_id}}": {
            "delete": {
                "summary": "Forget a webhook",
                "parameters": [one],
                "responses": {"204": {"description": "Forgotten."}, **missing},
            }
        },
        f"{_PATH}/{{webhook_id}}/rotate": {
            "post": {
                "summary": "Give a webhook a new secret; the old one goes on signing for a day",
                "parameters": [one],
                "responses": {**rotated, **missing},
            }
        },
    }


def _deliveries(of: Schemas, errors: Responses) -> dict[str, Any]:
    latest = {"200": response("The newest first.", of[DeliveryList])}
    queued = {"202": response("It is made once more.", of[DeliveryQueued])}
    missing = some(errors, "404", "503")
    return {
        f"{_PATH}/{{webhook_id}}/deliveries": {
            "get": {
                "summary": "The latest deliveries of a webhook, with their attempts",
                "parameters": [_one("webhook_id")],
                "responses": {**latest, **missing},
            }
        },
        f"{_PATH}/deliveries/{{delivery_id}}/replay": {
            "post": {
                "summary": "Deliver once more, under the same webhook-id",
                "parameters": [_one("delivery_id")],
                "responses": {**queued, **missing, **some(errors, "409")},
            }
        },
    }


def _one(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def narrow_webhooks(components: dict[str, dict[str, Any]], url_pattern: str) -> None:
    """What the types cannot say: which URLs there are, and which events.

    Args:
        components: the schemas, changed in place.
        url_pattern: what every URL matches.
    """
    asked = components[WebhookRequest.__name__]["properties"]
    asked["url"] |= {"minLength": 1, "maxLength": MAX_URL_BYTES, "pattern": url_pattern}
    asked["events"]["anyOf"] = [
        {"type": "array", "items": {"enum": [*EVENT_TYPES, *ALERT_TYPES]}, "minItems": 1},
        {"type": "null"},
    ]


TYPES = (WebhookRequest, WebhookShown, WebhookCreated, WebhookList, DeliveryList, DeliveryQueued)
