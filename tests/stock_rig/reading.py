"""Extracts messages, results and events from a trace (the commands of a scenario).

Used for both sides of a comparison: it does not matter whether a command came from a client or a
script.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stock_rig.mask import decoded_body

if TYPE_CHECKING:
    from collections.abc import Sequence

_RESULT = "celery-task-meta-"


def messages(trace: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """``(list, raw message)`` of every task message pushed, in order."""
    return [
        (words[1], raw)
        for words in trace
        if words[0] in ("LPUSH", "RPUSH")
        for raw in words[2:]
        if raw.startswith("{") and "task" in json.loads(raw).get("headers", {})
    ]


def results(trace: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Every result published with ``PUBLISH``, in order, as the stored dict."""
    return [
        json.loads(words[2])
        for words in trace
        if words[0] == "PUBLISH" and _RESULT in words[1] and words[2].startswith("{")
    ]


def events(trace: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Every event, in order; batches are split."""
    found: list[dict[str, Any]] = []
    for words in trace:
        if words[0] == "PUBLISH" and ".celeryev/" in words[1]:
            content = json.loads(decoded_body(json.loads(words[2])))
            found += content if isinstance(content, list) else [content]
    return found


def replies(trace: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Every remote control reply pushed to a client's reply queue, as ``{node: reply}``."""
    return [
        json.loads(decoded_body(json.loads(words[2])))
        for words in trace
        if words[0] == "LPUSH" and words[1].endswith(".reply.celery.pidbox")
    ]
