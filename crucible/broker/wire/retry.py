"""Messages that are published again: as redelivered, counted, or as the next try of a task."""

from __future__ import annotations

import json
from binascii import b2a_base64
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from crucible.broker.wire.call import TaskCall, TaskOptions
from crucible.broker.wire.decode import Message, decode, payload_of
from crucible.broker.wire.encode import encode_call, expiration
from crucible.broker.wire.ids import default_reply_to, new_tag
from crucible.broker.wire.jsontypes import dumps
from crucible.broker.wire.reprs import bounded_repr
from crucible.errors import MessageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Header that counts deliveries which ended with their worker.
DELIVERIES = "crucible_deliveries"
#: Header that says why a message must not run any more; the next worker settles it.
LOST = "crucible_lost"
#: Header that counts how often a task was started anew after it had ended.
ATTEMPT = "crucible_attempt"
#: Everything in the headers that is about earlier deliveries.
_MARKS = frozenset({"redelivered", DELIVERIES, LOST})


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOptions:
    """What the next try has of its own; None leaves it as it is.

    Attributes:
        args: positional arguments.
        kwargs: keyword arguments.
        expires: when it expires.
        time_limit: hard limit in seconds.
        soft_time_limit: soft limit in seconds.
        queue: queue it goes to.
        shadow: the name that events and logs show.
        headers: headers to add to the message.
    """

    args: Sequence[Any] | None = None
    kwargs: Mapping[str, Any] | None = None
    expires: datetime | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    queue: str | None = None
    shadow: str | None = None
    headers: Mapping[str, Any] | None = None


#: The next try is this one once more.
UNCHANGED = RetryOptions()


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
    return deliveries_in(envelope.get("headers"))


def deliveries_in(headers: object) -> int:
    """The same, by the message's headers."""
    return _count(headers, DELIVERIES)


def redelivered(
    envelope: dict[str, Any], deliveries: int | None = None, lost: str | None = None
) -> bytes:
    """The message with kombu's redelivered flags, its count of lost deliveries, and why it is lost.

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


def attempt_of(headers: object) -> int:
    """How often a task was started anew after it had ended, by its headers."""
    return _count(headers, ATTEMPT)


def _count(headers: object, name: str) -> int:
    count = headers.get(name) if isinstance(headers, dict) else 0
    return count if isinstance(count, int) and count > 0 else 0


def counted_anew(raw: bytes) -> bytes:
    """The message without its counts of deliveries; as it is where there are none.

    Raises:
        MessageError: not a JSON object.
    """
    envelope = parse(raw)
    headers = envelope.get("headers")
    if not isinstance(headers, dict) or not _MARKS & headers.keys():
        return raw
    _unmark(envelope)
    return dumps(envelope).encode()


def next_attempt(raw: bytes) -> bytes:
    """The message of a task that had ended and is to run again, counted in its headers.

    A task of protocol 1 has no headers of its own, so its attempts are not counted.

    Raises:
        MessageError: not a JSON object.
    """
    envelope = parse(raw)
    headers = envelope.get("headers")
    if not isinstance(headers, dict) or "task" not in headers:
        return raw
    headers[ATTEMPT] = attempt_of(headers) + 1
    return dumps(envelope).encode()


def _unmark(envelope: dict[str, Any]) -> None:
    """Remove what earlier deliveries added."""
    headers, properties = envelope.get("headers"), envelope.get("properties")
    info = properties.get("delivery_info") if isinstance(properties, dict) else None
    for part, names in ((headers, _MARKS), (info, ("redelivered",))):
        if isinstance(part, dict):
            for name in names:
                part.pop(name, None)


def next_try(raw: bytes, eta: float | None, options: RetryOptions = UNCHANGED) -> bytes:
    """The message of the next try, due at ``eta`` (seconds since the epoch; None: at once).

    What ``options`` does not name stays as it is; so do chain, chord and callbacks. Its parent
    becomes the task itself where it had none, as stock's ``retry`` leaves it; a try is a new
    publication with a tag of its own, and repeats the origin among the properties, as stock does by
    accident. A task of protocol 1 becomes one of protocol 2, as from stock: the tries are counted
    in its headers.

    Raises:
        MessageError: it is no task.
        TypeError: the arguments of ``options`` are of a kind that JSON cannot carry.
        ValueError: these arguments are circular.
    """
    envelope = parse(raw)
    _unmark(envelope)
    headers = envelope.get("headers")
    if not isinstance(headers, dict) or "task" not in headers:
        return _upgraded(raw, headers or {}, eta, options)
    if options != UNCHANGED:
        _change(envelope, raw, options)
    headers["retries"] = (headers.get("retries") or 0) + 1
    headers["eta"] = None if eta is None else _moment(eta).isoformat()
    if not headers.get("parent_id"):
        headers["parent_id"] = headers.get("id")
    envelope["properties"] = _properties(envelope["properties"], headers)
    return dumps(envelope).encode()


def _change(envelope: dict[str, Any], raw: bytes, options: RetryOptions) -> None:
    """Write what the options name into the envelope of a task of protocol 2."""
    headers: dict[str, Any] = envelope["headers"]
    if options.args is not None or options.kwargs is not None:
        _change_body(envelope, raw, options)
    if options.expires is not None:
        headers["expires"] = options.expires.isoformat()
    if options.time_limit is not None or options.soft_time_limit is not None:
        hard_s, soft_s = headers.get("timelimit") or (None, None)
        headers["timelimit"] = list(_limits(hard_s, soft_s, options))
    if options.shadow is not None:
        headers["shadow"] = options.shadow
    if options.queue is not None:
        envelope["properties"]["delivery_info"] |= {"exchange": "", "routing_key": options.queue}
    headers.update(options.headers or {})


def _change_body(envelope: dict[str, Any], raw: bytes, options: RetryOptions) -> None:
    """Other arguments, as JSON and not compressed: as from stock, whatever the body was before."""
    message = decode(raw)
    args, kwargs = _arguments(message, options)
    body = dumps([args, kwargs, message.embed]).encode()
    envelope |= {
        "body": b2a_base64(body, newline=False).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
    }
    envelope["properties"]["body_encoding"] = "base64"
    envelope["headers"].pop("compression", None)
    envelope["headers"] |= {"argsrepr": bounded_repr(args), "kwargsrepr": bounded_repr(kwargs)}


def _arguments(
    message: Message, options: RetryOptions
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    args = message.args if options.args is None else options.args
    return tuple(args), message.kwargs if options.kwargs is None else options.kwargs


def _limits(
    hard_s: float | None, soft_s: float | None, options: RetryOptions
) -> tuple[float | None, float | None]:
    return (
        hard_s if options.time_limit is None else options.time_limit,
        soft_s if options.soft_time_limit is None else options.soft_time_limit,
    )


def _properties(before: dict[str, Any], headers: dict[str, Any]) -> dict[str, Any]:
    """The properties of a try, in stock's order."""
    origin = headers.get("origin")
    properties = {
        "correlation_id": before.get("correlation_id"),
        "reply_to": before.get("reply_to") or default_reply_to(),
        **({} if origin is None else {"origin": origin}),
        "delivery_mode": before.get("delivery_mode", 2),
        **expiration(headers.get("expires"), datetime.now(UTC)),
    }
    properties |= {
        name: value
        for name, value in before.items()
        if name not in properties and name not in ("expiration", "origin", "delivery_tag")
    }
    properties["delivery_tag"] = new_tag()
    return properties


def _upgraded(
    raw: bytes, headers: dict[str, Any], eta: float | None, changed: RetryOptions
) -> bytes:
    message = decode(raw)
    fields = payload_of(message)
    hard_s, soft_s = _limits(*message.timelimit, changed)
    options: TaskOptions = {
        "retries": message.retries + 1,
        "parent_id": message.id,
        "root_id": message.id,
        "link": message.embed["callbacks"],
        "link_error": message.embed["errbacks"],
        "chain": message.embed["chain"],
        "chord": message.embed["chord"],
        "group_id": fields.get("taskset"),
        "time_limit": hard_s,
        "soft_time_limit": soft_s,
        "shadow": changed.shadow,
        "headers": {**headers, **(changed.headers or {})},
    }
    if eta is not None:
        options["eta"] = _moment(eta)
    if changed.expires is not None:
        options["expires"] = changed.expires
    elif message.expires is not None:
        options["expires"] = _moment(message.expires)
    args, kwargs = _arguments(message, changed)
    queue = changed.queue or message.queue
    call = TaskCall(message.task, args, kwargs, None, queue, message.priority, None, options)
    return encode_call(call, message.id)


def _moment(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC)
