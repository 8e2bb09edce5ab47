"""Task messages as a stock producer writes them, byte for byte apart from ids.

Source: celery ``app/amqp.py`` ``as_task_v2`` (19 headers, one order since 5.3), kombu
``messaging.py`` and ``transport/virtual/base.py`` for the envelope around the body.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgpack

from crucible.broker.wire.call import TaskCall, TaskOptions
from crucible.broker.wire.compression import compress
from crucible.broker.wire.ids import default_origin, default_reply_to, new_tag
from crucible.broker.wire.jsontypes import dumps, dumps_texts, quote
from crucible.broker.wire.reprs import bounded_repr

__all__ = ["TaskCall", "TaskOptions", "TaskTemplate", "encode_call", "encode_task"]

_JSON = "application/json"
_MSGPACK = "application/x-msgpack"


#: Options that stock writes into the properties too, in the order they were given.
_LEAKED = frozenset({"argsrepr", "kwargsrepr", "origin"})
_NO_KWARGS = '"{}"'
_NO_EMBED = '{"callbacks": null, "errbacks": null, "chain": null, "chord": null}'


class TaskTemplate:
    """All of a plain message but its id, body, reprs and tag, encoded once.

    Args:
        name: the task's registered name.
        queue: list the messages go to.
        priority: as in ``TaskCall``.
        ignore_result: as in ``TaskCall``.
        origin: who sends; None is this process.
        reply_to: a UUID; None is this process's.
        time_limit: seconds until the worker kills the task, or None.
        soft_time_limit: seconds until the worker tells the task, or None.
    """

    __slots__ = ("_after_args", "_after_kwargs", "_before_tag", "_correlation", "_head")

    def __init__(
        self,
        name: str,
        queue: str = "celery",
        priority: int | None = None,
        *,
        ignore_result: bool | None = None,
        origin: str | None = None,
        reply_to: str | None = None,
        time_limit: float | None = None,
        soft_time_limit: float | None = None,
    ) -> None:
        _check_names(name, queue)
        self._head = (
            '", "content-encoding": "utf-8", "content-type": "application/json", '
            f'"headers": {{"lang": "py", "task": {quote(name)}, "id": '
        )
        limits = dumps([time_limit, soft_time_limit])
        self._after_args = (
            ', "shadow": null, "eta": null, "expires": null, "group": null, '
            f'"group_index": null, "retries": 0, "timelimit": {limits}, "root_id": '
        )
        self._after_kwargs = (
            f', "origin": {quote(origin or default_origin())}, '
            f'"ignore_result": {dumps(ignore_result)}, "replaced_task_nesting": 0, '
            '"stamped_headers": null, "stamps": {}'
        )
        self._correlation = '}, "properties": {"correlation_id": '
        self._before_tag = (
            f', "reply_to": {quote(reply_to or default_reply_to())}, "delivery_mode": 2, '
            f'"delivery_info": {{"exchange": "", "routing_key": {quote(queue)}}}, '
            f'"priority": {dumps(priority or 0)}, "body_encoding": "base64", "delivery_tag": "'
        )

    def render(
        self, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any], traceparent: str = ""
    ) -> bytes:
        """The message for one call.

        Args:
            task_id: its id.
            args: positional arguments.
            kwargs: keyword arguments.
            traceparent: a further header, where the call is traced.

        Raises:
            TypeError: arguments of a kind that JSON cannot carry.
            ValueError: a circular argument.
        """
        # Most calls have either positional or keyword arguments, and none of the embedded.
        shown = (dumps_texts(args) or dumps(args)) if args else "[]"
        return self.render_quoted(task_id, shown, quote(bounded_repr(args)), kwargs, traceparent)

    def render_quoted(
        self,
        task_id: str,
        args: str,
        args_repr: str,
        kwargs: Mapping[str, Any],
        traceparent: str = "",
    ) -> bytes:
        """The same for positional arguments that their caller has as JSON already.

        Args:
            task_id: its id.
            args: positional arguments, as JSON text.
            args_repr: what ``bounded_repr`` gives for them, as JSON text.
            kwargs: keyword arguments.
            traceparent: a further header, where the call is traced.

        Raises:
            TypeError: arguments of a kind that JSON cannot carry.
            ValueError: a circular argument.
        """
        shown_id = quote(task_id)
        content = f"[{args}, {dumps(kwargs) if kwargs else '{}'}, {_NO_EMBED}]"
        body = b2a_base64(content.encode(), newline=False).decode("ascii")
        return (
            f'{{"body": "{body}{self._head}{shown_id}{self._after_args}{shown_id}'
            f', "parent_id": null, "argsrepr": {args_repr}, '
            f'"kwargsrepr": {quote(bounded_repr(kwargs)) if kwargs else _NO_KWARGS}'
            f"{self._after_kwargs}{_trace_header(traceparent) if traceparent else ''}"
            f"{self._correlation}{shown_id}"
            f'{self._before_tag}{new_tag()}"}}}}'
        ).encode()


def _trace_header(traceparent: str) -> str:
    """It comes last among the headers, where stock's ``headers=`` option puts it."""
    return f', "traceparent": {quote(traceparent)}'


@lru_cache(maxsize=1024)
def _template(
    name: str,
    queue: str,
    priority: int | None,
    ignore_result: bool | None,
    origin: str,
    reply_to: str,
) -> TaskTemplate:
    return TaskTemplate(
        name, queue, priority, ignore_result=ignore_result, origin=origin, reply_to=reply_to
    )


def encode_call(call: TaskCall, task_id: str, origin: str = "", reply_to: str = "") -> bytes:
    """The message of one call under ``task_id``.

    Args:
        call: what to run; its own ``task_id`` is not looked at.
        task_id: the id to write.
        origin: who sends; empty is this process.
        reply_to: empty is this process's own UUID.

    Raises:
        TypeError: arguments of a kind that the serializer cannot carry.
        ValueError: an unknown serializer or compression, an empty name, a circular argument.
    """
    args, kwargs = call.args, call.kwargs or {}
    if not isinstance(args, (list, tuple)):
        raise TypeError("task args must be a list or tuple")
    if not isinstance(kwargs, Mapping):
        raise TypeError("task kwargs must be a mapping")
    if not call.options:
        template = _template(
            call.name,
            call.queue,
            call.priority,
            call.ignore_result,
            origin or default_origin(),
            reply_to or default_reply_to(),
        )
        return template.render(task_id, args or (), kwargs)
    return _encode_in_full(call, task_id, call.options, origin, reply_to)


def encode_task(
    name: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    task_id: str,
    queue: str = "celery",
    priority: int | None = None,
    ignore_result: bool | None = None,
    options: TaskOptions | None = None,
) -> bytes:
    """The message of one call; see ``encode_call`` for what it raises."""
    return encode_call(
        TaskCall(name, args, kwargs, None, queue, priority, ignore_result, options), task_id
    )


def _check_names(name: str, queue: str) -> None:
    if not name or not isinstance(name, str):
        raise ValueError("a task needs a name")
    if not queue or not isinstance(queue, str):
        raise ValueError("a task needs a queue")


def _encode_in_full(
    call: TaskCall, task_id: str, options: TaskOptions, origin: str, reply_to: str
) -> bytes:
    _check_names(call.name, call.queue)
    now = datetime.now(UTC)
    headers = _headers(call, task_id, options, origin, now)
    content_type, encoding, body = _body(call, options)
    if options.get("compression"):
        body, headers["compression"] = compress(body, str(options["compression"]))
    properties: dict[str, Any] = {
        "correlation_id": task_id,
        "reply_to": options.get("reply_to") or reply_to or default_reply_to(),
        **{name: value for name, value in options.items() if name in _LEAKED},
        "delivery_mode": 2,
        **expiration(options.get("expires"), now),
        "delivery_info": {"exchange": "", "routing_key": call.queue},
        "priority": call.priority or 0,
        "body_encoding": "base64",
        "delivery_tag": new_tag(),
    }
    envelope = {
        "body": b2a_base64(body, newline=False).decode(),
        "content-encoding": encoding,
        "content-type": content_type,
        "headers": headers,
        "properties": properties,
    }
    return dumps(envelope).encode()


def _headers(
    call: TaskCall, task_id: str, options: TaskOptions, origin: str, now: datetime
) -> dict[str, Any]:
    args, kwargs = call.args or (), call.kwargs or {}
    argsrepr, kwargsrepr = options.get("argsrepr"), options.get("kwargsrepr")
    countdown = options.get("countdown")
    eta = now + timedelta(seconds=countdown) if countdown else options.get("eta")
    headers = {
        "lang": "py",
        "task": call.name,
        "id": task_id,
        "shadow": options.get("shadow"),
        "eta": _iso(eta),
        "expires": _iso(_moment(options.get("expires"), now)),
        "group": options.get("group_id"),
        "group_index": options.get("group_index"),
        "retries": options.get("retries", 0),
        "timelimit": [options.get("time_limit"), options.get("soft_time_limit")],
        "root_id": options.get("root_id") or task_id,
        "parent_id": options.get("parent_id"),
        "argsrepr": bounded_repr(args) if argsrepr is None else argsrepr,
        "kwargsrepr": bounded_repr(kwargs) if kwargsrepr is None else kwargsrepr,
        "origin": options.get("origin") or origin or default_origin(),
        "ignore_result": call.ignore_result,
        "replaced_task_nesting": options.get("replaced_task_nesting", 0),
        "stamped_headers": options.get("stamped_headers"),
        "stamps": _stamps(options),
    }
    headers.update(options.get("headers") or {})
    return headers


def _stamps(options: TaskOptions) -> dict[str, Any]:
    stamps = options.get("stamps") or {}
    return {name: stamps[name] for name in options.get("stamped_headers") or ()}


def _moment(when: float | datetime | str | None, now: datetime) -> datetime | str | None:
    if isinstance(when, (int, float)):
        return now + timedelta(seconds=when)
    return when


def _iso(when: datetime | str | None) -> str | None:
    return when.isoformat() if isinstance(when, datetime) else when


def expiration(expires: float | datetime | str | None, now: datetime) -> dict[str, str]:
    """The AMQP property stock writes beside ``expires``: milliseconds left, never negative."""
    if expires is None:
        return {}
    moment = _moment(expires, now)
    until = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    if until is None:
        return {}
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return {"expiration": str(int(max(0.0, (until - now).total_seconds()) * 1000))}


def _body(call: TaskCall, options: TaskOptions) -> tuple[str, str, bytes]:
    """Content type, content encoding and bytes of ``[args, kwargs, embed]``."""
    embed = {
        "callbacks": _as_list(options.get("link")),
        "errbacks": _as_list(options.get("link_error")),
        "chain": options.get("chain"),
        "chord": options.get("chord"),
    }
    content = (call.args or (), call.kwargs or {}, embed)
    serializer = options.get("serializer", "json")
    if serializer in ("json", _JSON):
        return _JSON, "utf-8", dumps(content).encode()
    if serializer in ("msgpack", _MSGPACK):
        return _MSGPACK, "binary", msgpack.packb(content, use_bin_type=True)
    raise ValueError(f"unknown serializer {serializer!r}")


def _as_list(value: Any) -> Any:
    if value is None or isinstance(value, (list, tuple)):
        return value
    return [value]
