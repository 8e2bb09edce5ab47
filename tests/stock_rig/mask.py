"""Masks the volatile parts of what was written to Redis, so that two writers compare equal.

Ids are numbered in the order they appear, so that repeated ids are still compared. Values fixed by
a table of calls are kept: ids that start with eight zeros or are not UUIDs, and times from 2090 on.
Masking is idempotent.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import json
import lzma
import re
import zlib
from collections.abc import Callable
from typing import Any

import msgpack

_UUID = re.compile(r"\b(?!0{8})[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_OWN = {
    "delivery_tag": re.compile(r'("delivery_tag": ?)"[^"]*"'),
    "reply_to": re.compile(r'("reply_to": ?)"(?!0{8})(?:[0-9a-f]{8}-[0-9a-f-]{27})?"'),
    "ticket": re.compile(r'("ticket": ?)"[^"]*"'),
}
_TIME = re.compile(r"\b20[0-8]\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?([+-]\d\d:\d\d|Z)?")
_PROCESS = re.compile(r"\bgen\d+@[\w.-]+")
_NODE = re.compile(r"\b(?:celery|stock\d+|node\d*|crucible[\w-]*)@[\w.-]+")
#: Members of events, results and control replies that differ from one run to the next.
_NUMBERS = re.compile(
    r'("(?:pid|worker_pid|clock|timestamp|local_received|runtime|time_start|uptime|expires|'
    r'processed|freq|expiration)": ?)(?:-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|"\d+")'
)
_LOAD = re.compile(r'("loadavg": ?)\[[^\]]*\]')
_BODY = re.compile(r'"body": ?"(?P<base64>[A-Za-z0-9+/=]*)"')
_BASE64 = re.compile(r'"body_encoding": ?"base64"')
_DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "application/x-gzip": zlib.decompress,
    "application/gzip": gzip.decompress,
    "application/x-bz2": bz2.decompress,
    "application/x-lzma": lzma.decompress,
}


def mask_text(text: str) -> str:
    """``text`` with ids, process ids, nodes and times replaced; bodies are unchanged."""
    for name, pattern in _OWN.items():
        text = pattern.sub(rf'\1"<{name}>"', text)
    text = _TIME.sub(lambda match: f"<time{_zone(match[1])}>", text)
    text = _PROCESS.sub("<process>", text)
    text = _NODE.sub("<node>", text)
    text = _NUMBERS.sub(r"\1<number>", text)
    text = _LOAD.sub(r"\1<load>", text)
    seen: dict[str, str] = {}
    return _UUID.sub(lambda match: seen.setdefault(match[0], f"<id{len(seen) + 1}>"), text)


def _zone(offset: str | None) -> str:
    """A mask that keeps whether a time was naive, and the form of its offset."""
    return f" {offset}" if offset else ""


def decoded_body(message: dict[str, Any]) -> bytes:
    """The serialized body of an envelope, without base64 and compression."""
    raw: bytes = message["body"].encode()
    if message.get("properties", {}).get("body_encoding") == "base64":
        raw = base64.b64decode(raw)
    compression = message.get("headers", {}).get("compression")
    return _DECOMPRESS[compression](raw) if compression else raw


def mask_message(raw: str | bytes) -> str:
    """One list element, masked, byte for byte except that its body is decoded.

    JSON bodies are kept as text, with their spaces; msgpack bodies become the ``repr`` of their
    content. Text that is not an envelope is masked as text.
    """
    text = raw.decode() if isinstance(raw, bytes) else raw
    body = _BODY.search(text)
    if body is None or not _BASE64.search(text):
        return mask_text(text)
    message = json.loads(text)
    content = decoded_body(message)
    if message.get("content-type") == "application/x-msgpack":
        shown = repr(msgpack.unpackb(content, strict_map_key=False))
    else:
        shown = content.decode()
    # There are no ids before the body, so numbering starts with it on both sides.
    return mask_text(f'{text[: body.start()]}"body": {shown}{text[body.end() :]}')


def masked_structure(raw: str | bytes) -> dict[str, Any]:
    """One list element as a dict in its original order, with ``body`` decoded, all masked.

    For comparing content rather than bytes: spaces between JSON tokens do not matter.
    """
    message: dict[str, Any] = json.loads(raw)
    if "body" in message:
        content = decoded_body(message)
        packed = message.get("content-type") == "application/x-msgpack"
        message["body"] = (
            msgpack.unpackb(content, strict_map_key=False) if packed else json.loads(content)
        )
    masked: dict[str, Any] = _mask_tree(message, {})
    return masked


def _mask_tree(value: Any, seen: dict[str, str], name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _mask_tree(item, seen, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_mask_tree(item, seen) for item in value]
    if not isinstance(value, str):
        return value
    if name == "delivery_tag" or (name in _OWN and (not value or _UUID.fullmatch(value))):
        return f"<{name}>"
    value = _TIME.sub(lambda match: f"<time{_zone(match[1])}>", value)
    value = _NODE.sub("<node>", _PROCESS.sub("<process>", value))
    return _UUID.sub(lambda match: seen.setdefault(match[0], f"<id{len(seen) + 1}>"), value)
