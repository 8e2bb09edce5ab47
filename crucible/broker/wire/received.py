"""Marks delayed messages whose ``task-received`` event was sent: it is sent once, as from stock.

The mark is the publication's own tag, so that the next try of a task, a publication of its own, has
an event of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.broker.wire.jsontypes import dumps
from crucible.broker.wire.retry import parse

if TYPE_CHECKING:
    from crucible.broker.wire.decode import Message

_RECEIVED = "crucible_received"


def mark_received(message: Message) -> bytes:
    """The message with the mark."""
    envelope = parse(message.raw)
    headers = envelope.get("headers")
    if isinstance(headers, dict):
        headers[_RECEIVED] = message.delivery_tag
    return dumps(envelope).encode()


def was_received(message: Message) -> bool:
    """Whether the event was sent for this delivery; a redelivery has another one."""
    return message.headers.get(_RECEIVED) == message.delivery_tag and not message.redelivered
