"""Envelopes of what is said to everybody who listens: events, control requests, their replies.

Kombu's fanout exchanges are channels on Redis, its envelope is the one of task messages with other
headers. Source: kombu ``pidbox.py`` and ``transport/redis.py``, celery ``events/dispatcher.py``.
"""

from __future__ import annotations

import binascii
from typing import Any

from crucible.broker.wire.ids import new_tag
from crucible.broker.wire.jsontypes import loads, quote
from crucible.errors import MessageError

#: kombu ``delivery_mode``: kept by nobody, and kept where the broker can.
TRANSIENT, PERSISTENT = 1, 2


class Envelope:
    """Everything of an envelope but its body, packed once.

    Args:
        exchange: where it is said.
        routing_key: to whom.
        headers: as JSON text.
        delivery_mode: ``TRANSIENT`` or ``PERSISTENT``.
    """

    __slots__ = ("_end", "_middle")

    def __init__(
        self, exchange: str, routing_key: str, headers: str, delivery_mode: int = TRANSIENT
    ) -> None:
        self._middle = (
            '", "content-encoding": "utf-8", "content-type": "application/json", '
            f'"headers": {headers}, "properties": {{"delivery_mode": {delivery_mode}, '
            f'"delivery_info": {{"exchange": {quote(exchange)}, '
            f'"routing_key": {quote(routing_key)}}}, "priority": 0, '
            '"body_encoding": "base64", "delivery_tag": "'
        )

    def pack(self, body: str) -> str:
        """The envelope around a JSON text."""
        content = binascii.b2a_base64(body.encode(), newline=False).decode()
        return f'{{"body": "{content}{self._middle}{new_tag()}"}}}}'


def unpack(raw: bytes) -> tuple[Any, dict[str, Any]]:
    """The body and the headers of an envelope.

    Raises:
        MessageError: it is none, or its body is not JSON.
    """
    try:
        envelope = loads(raw)
        body = envelope["body"]
        encoding = (envelope.get("properties") or {}).get("body_encoding")
        if not isinstance(body, str):
            # Kombu's own transports may leave a body that needs no encoding as it is.
            content = body
        else:
            content = loads(binascii.a2b_base64(body) if encoding == "base64" else body.encode())
        headers = envelope.get("headers") or {}
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise MessageError(f"not an envelope: {error}") from error
    if not isinstance(headers, dict):
        raise MessageError("headers are not an object")
    return content, headers
