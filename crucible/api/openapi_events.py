"""Events in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from crucible.api.events.frames import CONTENT_TYPE, EventShown, Resync
from crucible.api.openapi_forms import Responses, Schemas, response, some
from crucible.models import Status

#: The header with which a client goes on where it was.
RESUME = {
    "name": "Last-Event-ID",
    "in": "header",
    "schema": {"type": "string", "pattern": "^([0-9]{1,19}-[0-9]{1,19})?$"},
    "description": "Goes on behind this event; an event `resync` says where that is impossible.",
}


def event_shape(*names: str, data: list[dict[str, Any]]) -> dict[str, Any]:
    """The schema of one server-sent event.

    Args:
        names: what it may be called.
        data: schemas, one of which its data fits.
    """
    shape = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"oneOf": data},
    }
    properties = {
        "event": {"enum": list(names)},
        "id": {"type": "string"},
        "retry": {"type": "integer"},
        "data": shape,
    }
    return {"type": "object", "properties": properties}


def event_paths(of: Schemas, errors: Responses, eval_id: dict[str, Any]) -> dict[str, Any]:
    """Paths of server-sent events. Their schema describes one event, as OpenAPI 3.2 has it.

    Args:
        of: references to schemas.
        errors: the error responses.
        eval_id: the parameter ``eval_id``.
    """
    event = event_shape("evaluation", "resync", data=[of[EventShown], of[Resync]])
    statuses = "|".join(status.value for status in Status)
    status = {
        "name": "status",
        "in": "query",
        "schema": {"type": "string", "pattern": f"^({statuses})(,({statuses}))*$"},
        "description": "Only events with one of these, separated by commas.",
    }
    text = "Events `evaluation` and `resync`, as they happen; a comment every 15 s without any."
    stream = {"200": response(text, event, CONTENT_TYPE)}
    seen = {"204": {"description": "The client has seen the end, and need not ask again."}}
    return {
        "/api/eval/{eval_id}/events": {
            "get": {
                "summary": "Follow an evaluation up to its end",
                "parameters": [eval_id, RESUME],
                "responses": {**stream, **seen, **some(errors, "404", "422", "503")},
            }
        },
        "/api/events": {
            "get": {
                "summary": "Follow all evaluations",
                "parameters": [status, RESUME],
                "responses": {**stream, **some(errors, "422", "503")},
            }
        },
    }
