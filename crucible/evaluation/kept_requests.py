"""What an evaluation ran, kept beside how it ended, so that it can be run again.

It is a part of the task's result, so it costs no command of its own, is there as soon as the result
is, and goes with it. A program that is too large for that is not kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from crucible.evaluation.request import EvalRequest, celery_priority

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crucible.broker.results.meta import Meta
    from crucible.broker.wire.decode import Message

#: Bytes of JSON; results are kept for a day by default, and there may be millions of them.
MAX_KEPT_BYTES = 16 << 10
_FIELD = "request"


def kept_request(
    code: str, language: str, options: Mapping[str, Any], priority: int
) -> dict[str, Any]:
    """What to add to a result; nothing where it is too large.

    Args:
        code: source text.
        language: its name.
        options: what came with it.
        priority: the Celery priority of its message.
    """
    if len(code) > MAX_KEPT_BYTES:
        return {}
    asked = {"code": code, "language": language, "priority": celery_priority(priority), **options}
    return {_FIELD: asked} if len(msgspec.json.encode(asked)) <= MAX_KEPT_BYTES else {}


def request_of_meta(meta: Meta | None) -> EvalRequest | None:
    """What was kept in a stored result; None where there is none."""
    result = meta.result if meta is not None else None
    if isinstance(result, dict) and isinstance(left := result.get("left"), dict):
        # Stopped while it ran: its result is beside that.
        result = left
    return _request(result.get(_FIELD)) if isinstance(result, dict) else None


def request_of_message(message: Message) -> EvalRequest | None:
    """What a message of ``tasks.evaluate_code`` asks for; None where it is none.

    Raises:
        MessageError: its body cannot be decoded.
    """
    names = ("eval_id", "code", "language")
    arguments = {**dict(zip(names, message.args, strict=False)), **message.kwargs}
    arguments.pop("eval_id", None)
    return _request({"priority": celery_priority(message.priority), **arguments})


def _request(stored: Any) -> EvalRequest | None:
    try:
        return msgspec.convert(stored, EvalRequest)
    except msgspec.ValidationError:
        return None
