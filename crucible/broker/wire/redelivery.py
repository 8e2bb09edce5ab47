"""Messages that go out again: marked as redelivered, counted, or as the next try."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from crucible.broker.wire.ids import new_id
from crucible.broker.wire.jsontypes import dumps
from crucible.errors import MessageError

#: Header that counts deliveries which ended with their worker.
DELIVERIES = "crucible_deliveries"
#: Header that says why a message is not to be run any more; whoever takes it ends it.
LOST = "crucible_lost"


def parse(raw: bytes) -> dict[str, Any]:
    """The envelope as plain JSON: typed values stay as they are written.

    Raises:
        MessageError: not a JSON object.
    """
    try:
        envelope = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"not JSON: {error}") from error
    if not isinstance(envelope, dict):
        raise MessageError("not a JSON object")
    return envelope


def deliveries_of(envelope: dict[str, Any]) -> int:
    """How many deliveries of it ended with their worker so far."""
    headers = envelope.get("headers")
    count = headers.get(DELIVERIES) if isinstance(headers, dict) else 0
    return count if isinstance(count, int) and count > 0 else 0


def redelivered(
    envelope: dict[str, Any], deliveries: int | None = None, lost: str | None = None
) -> bytes:
    """The message with kombu's redelivered flags, its count of lost deliveries, and their end.

    Where there are no headers and something is to be counted there will be some: to a consumer
    none and empty ones are the same.

    Source: kombu ``transport/redis.py`` ``_do_restore_message``.
    """
    if deliveries is not None and envelope.get("headers") is None:
        envelope["headers"] = {}
    headers, properties = envelope.get("headers"), envelope.get("properties")
    if isinstance(headers, dict):
        headers["redelivered"] = True
        if deliveries is not None:
            headers[DELIVERIES] = deliveries
        if lost is not None:
            headers[LOST] = lost
        info = properties.get("delivery_info") if isinstance(properties, dict) else None
        if isinstance(info, dict):
            info["redelivered"] = True
    return dumps(envelope).encode()


def next_try(raw: bytes, eta: float) -> bytes:
    """The message of the next try, due at ``eta`` (seconds since the epoch).

    Body, chain, chord and callbacks stay as they are. Its parent becomes the task itself where it
    had none, as stock's ``retry`` leaves it; a try is a new publication with a tag of its own.
    """
    envelope = parse(raw)
    headers = envelope["headers"]
    headers["retries"] = (headers.get("retries") or 0) + 1
    headers["eta"] = datetime.fromtimestamp(eta, UTC).isoformat()
    if not headers.get("parent_id"):
        headers["parent_id"] = headers.get("id")
    for name in ("redelivered", DELIVERIES, LOST):
        headers.pop(name, None)
    properties = envelope["properties"]
    properties["delivery_info"].pop("redelivered", None)
    properties["delivery_tag"] = new_id()
    return dumps(envelope).encode()
