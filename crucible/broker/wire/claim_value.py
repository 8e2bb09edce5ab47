"""The value of a claim in ``unacked``: ``[message, exchange, routing_key]``.

It is built and taken apart without decoding the message, whose bytes stay as they are.
"""

from __future__ import annotations

import json
from typing import Any


def join(raw: bytes, queue: str) -> bytes:
    """The value of a message; ``queue`` is the queue's name as JSON."""
    return b"[" + raw + b', "", ' + queue.encode() + b"]"


def split(value: bytes) -> tuple[bytes, str]:
    """Message and queue of a value that ``join`` or a script of ours made."""
    raw, _, queue = value[1:-1].rpartition(b', "", ')
    return raw, json.loads(queue)


def read(value: bytes) -> tuple[Any, Any, Any]:
    """Message, exchange and routing key of a value that anybody wrote, decoded.

    Raises:
        ValueError: it is no list of three.
    """
    try:
        parts = json.loads(value)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(parts, list) or len(parts) != 3:
        raise ValueError("no list of three")
    return parts[0], parts[1], parts[2]


def cut_out(value: bytes) -> bytes:
    """The message's own bytes in a value that ``read`` can read."""
    text = value.decode()
    inside = text.lstrip()[1:].lstrip()
    _, end = json.JSONDecoder().raw_decode(inside)
    return inside[:end].encode()


def is_restorable(raw: bytes) -> bool:
    """Whether a stock sweep could put the message back into its list.

    Source: kombu ``transport/redis.py`` ``_do_restore_message``, which drops what it cannot mark.
    """
    try:
        message = json.loads(raw)
    except (ValueError, RecursionError):
        return False
    if not isinstance(message, dict) or not isinstance(message.get("headers", {}), dict):
        return False
    properties = message.get("properties", {})
    return isinstance(properties, dict) and isinstance(properties.get("delivery_info", {}), dict)
