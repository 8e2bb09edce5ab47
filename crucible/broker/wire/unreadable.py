"""What can be read of a message that cannot be run: enough to store its failure.

A bad ``eta`` or time limit, a body that does not decode: the id is in the headers all the same, and
a client waits for the result of that id. Stock drops such a message without a result.
"""

from __future__ import annotations

from typing import Any

from crucible.broker.wire.body import EMBED_KEYS, Content, content_of
from crucible.broker.wire.compression import MAX_BODY_BYTES
from crucible.broker.wire.decode import Message, payload_of
from crucible.broker.wire.retry import parse
from crucible.errors import MessageError

#: Headers that are names; one that is none says nothing.
_NAMES = ("root_id", "parent_id", "group")


def identified(raw: bytes, queue: str) -> Message | None:
    """The message with what can be read of it; None where no task's id can.

    It is not delayed, does not expire and has no limits. Its arguments, callbacks, chain and chord
    are those of its body, none where that cannot be decoded.

    Args:
        raw: the bytes as they came.
        queue: where they came from.
    """
    try:
        envelope = parse(raw)
    except MessageError:
        return None
    message = _envelope_of(envelope, raw, queue)
    content: Content = ([], {}, dict.fromkeys(EMBED_KEYS))
    fields = message.headers
    try:
        body = payload_of(message)
        if "task" in fields:
            content = content_of(body)
        elif isinstance(body, dict):  # protocol 1
            fields = {**body, "group": body.get("taskset")}
            embed = {name: body.get(name) for name in EMBED_KEYS}
            content = content_of([body.get("args") or [], body.get("kwargs") or {}, embed])
    except MessageError:
        pass
    message.content = content
    task_id, task = _text(fields.get("id")), _text(fields.get("task"))
    message.id, message.task = task_id, task
    return message if task_id else None


def _envelope_of(envelope: dict[str, Any], raw: bytes, queue: str) -> Message:
    message = Message()
    message.raw, message.queue, message.exchange = raw, queue, ""
    headers, properties = envelope.get("headers"), envelope.get("properties")
    headers = dict(headers) if isinstance(headers, dict) else {}
    for name in _NAMES:
        if name in headers:
            headers[name] = _text(headers[name]) or None
    message.headers = headers
    message.properties = properties if isinstance(properties, dict) else {}
    message.delivery_tag = _text(message.properties.get("delivery_tag"))
    priority = message.properties.get("priority")
    message.priority = priority if type(priority) is int else 0
    retries = headers.get("retries")
    message.retries = retries if type(retries) is int and retries > 0 else 0
    message.eta = message.expires = None
    message.timelimit = (None, None)
    message.body_text = _text(envelope.get("body"))
    message.content_type = _text(envelope.get("content-type"))
    message.content_encoding = _text(envelope.get("content-encoding")).lower()
    message.max_body_bytes = MAX_BODY_BYTES
    return message


def _text(value: Any) -> str:
    """The value if it is text that has bytes; else empty."""
    if not isinstance(value, str):
        return ""
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return ""
    return value
