"""Task messages as a worker reads them: strict about what is there, tolerant of what may be.

Every defect of a message is a ``MessageError`` with its reason. Stock workers lose such a message,
die of it or redeliver it for ever; here it becomes a dead letter.

Source: kombu ``transport/virtual/base.py`` and ``serialization.py``, celery ``worker/strategy.py``
(protocol 1 has no ``task`` header and a dictionary as its body).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from crucible.broker.wire.body import ACCEPTED, EMBED_KEYS, Content, content_of, payload
from crucible.broker.wire.compression import MAX_BODY_BYTES
from crucible.broker.wire.jsontypes import loads
from crucible.errors import MessageError


class Message:
    """One task message.

    The body is decoded at the first look at ``args``, ``kwargs`` or ``embed``, which then may
    raise MessageError; ``decode`` has decoded it already unless asked not to.

    Attributes:
        raw: the bytes as they came.
        headers: as written; empty for protocol 1, whose body carries what headers do later.
        properties: as written.
        id: the task's id.
        task: the task's registered name.
        queue: ``delivery_info.routing_key``.
        exchange: ``delivery_info.exchange``.
        delivery_tag: id of this publication.
        priority: as written, 0 where it is missing or no number.
        retries: how often the task was tried before.
        eta: seconds since the epoch before which it must not run, or None.
        expires: seconds since the epoch after which it must not run, or None.
        timelimit: hard and soft limit in seconds, each or None.
        content_type: of the body.
        content_encoding: of the body, in lower case.
        body_text: the body as it stands in the envelope.
        content: the decoded body once it was looked at.
        max_body_bytes: what a compressed body may grow to.
    """

    __slots__ = (
        "body_text",
        "content",
        "content_encoding",
        "content_type",
        "delivery_tag",
        "eta",
        "exchange",
        "expires",
        "headers",
        "id",
        "max_body_bytes",
        "priority",
        "properties",
        "queue",
        "raw",
        "retries",
        "task",
        "timelimit",
    )

    raw: bytes
    headers: dict[str, Any]
    properties: dict[str, Any]
    id: str
    task: str
    queue: str
    exchange: str
    delivery_tag: str
    priority: int
    retries: int
    eta: float | None
    expires: float | None
    timelimit: tuple[float | None, float | None]
    content_type: str
    content_encoding: str
    body_text: str
    content: Content | None
    max_body_bytes: int

    @property
    def args(self) -> list[Any]:
        """Positional arguments."""
        return self.decode_body()[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments."""
        return self.decode_body()[1]

    @property
    def embed(self) -> dict[str, Any]:
        """``callbacks``, ``errbacks``, ``chain`` and ``chord``; None where there is none."""
        return self.decode_body()[2]

    @property
    def root_id(self) -> str:
        """Id of the first task of the tree this one belongs to; its own where none is named."""
        return self.headers.get("root_id") or self.id

    @property
    def parent_id(self) -> str | None:
        """Id of the task that sent this one."""
        return self.headers.get("parent_id")

    @property
    def group(self) -> str | None:
        """Id of the group or chord it is part of."""
        return self.headers.get("group")

    @property
    def redelivered(self) -> bool:
        """A claim on it was given back before."""
        return bool(self.headers.get("redelivered"))

    def decode_body(self) -> Content:
        """``args``, ``kwargs`` and ``embed``, decoded once.

        Raises:
            MessageError: the body is not what its headers say.
        """
        if self.content is None:
            self.content = content_of(payload_of(self))
        return self.content


_decode_json = msgspec.json.Decoder().decode


def decode(raw: bytes, *, body: bool = True, max_body_bytes: int = MAX_BODY_BYTES) -> Message:
    """Read one list element.

    Args:
        raw: the element.
        body: decode the body too; False leaves that, and its defects, to the first access.
        max_body_bytes: what a compressed body may grow to.

    Raises:
        MessageError: naming the first defect found.
    """
    message = Message()
    message.raw = raw
    message.content = None
    message.max_body_bytes = max_body_bytes
    envelope = _read_envelope(message, raw)
    _read_properties(message, envelope)
    headers = envelope.get("headers")
    if headers is not None and not isinstance(headers, dict):
        raise MessageError("headers are not an object")
    message.headers = headers or {}
    if "task" in message.headers:
        _read_headers(message, message.headers)
        if body:
            message.decode_body()
    else:
        _read_protocol_1(message)
    return message


def _read_envelope(message: Message, raw: bytes) -> dict[str, Any]:
    try:
        envelope = _decode_json(raw)
    except (msgspec.DecodeError, RecursionError):
        # Lone surrogates and the like, which the standard library (and stock) lets pass.
        try:
            envelope = loads(raw)
        except ValueError as error:
            raise MessageError(f"not JSON: {error}") from error
    if not isinstance(envelope, dict):
        raise MessageError("not a JSON object")
    content = envelope.get("body")
    if not isinstance(content, str):
        raise MessageError("body is missing" if content is None else "body is not a string")
    message.body_text = content
    content_type = envelope.get("content-type")
    if not isinstance(content_type, str):
        raise MessageError("content-type is missing")
    if content_type not in ACCEPTED:
        raise MessageError(f"content-type {content_type!r} is refused")
    message.content_type = content_type
    encoding = envelope.get("content-encoding") or ""
    message.content_encoding = encoding.lower() if isinstance(encoding, str) else "?"
    return envelope


def _read_properties(message: Message, envelope: dict[str, Any]) -> None:
    properties = envelope.get("properties")
    if not isinstance(properties, dict):
        raise MessageError("properties are missing")
    message.properties = properties
    message.delivery_tag = _required_text(properties, "delivery_tag")
    info = properties.get("delivery_info")
    if not isinstance(info, dict):
        raise MessageError("delivery_info is missing")
    message.queue = _required_text(info, "routing_key")
    exchange = info.get("exchange")
    if exchange is not None and not isinstance(exchange, str):
        raise MessageError("exchange is not a string")
    message.exchange = exchange or ""
    priority = properties.get("priority")
    message.priority = priority if type(priority) is int else 0


def _required_text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise MessageError(f"{name} is missing")
    if not value.isascii():
        # It becomes part of a key; a lone surrogate has no bytes.
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise MessageError(f"{name} is not valid text") from error
    return value


def _read_headers(message: Message, fields: dict[str, Any]) -> None:
    message.id = _required_text(fields, "id")
    message.task = _required_text(fields, "task")
    retries = fields.get("retries")
    if retries is not None and (type(retries) is not int or retries < 0):
        raise MessageError("retries is not a count")
    message.retries = retries or 0
    for name in ("root_id", "parent_id", "group"):
        value = fields.get(name)
        if value is not None and not isinstance(value, str):
            raise MessageError(f"{name} is not a string")
    eta, expires = fields.get("eta"), fields.get("expires")
    message.eta = None if eta is None else _epoch(eta, "eta")
    message.expires = None if expires is None else _epoch(expires, "expires")
    message.timelimit = _limits(fields.get("timelimit"))


def _epoch(value: Any, name: str) -> float:
    """Seconds since the epoch; a time without a zone is UTC, as Celery's default has it."""
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError) as error:
        raise MessageError(f"{name} {value!r} is not an ISO 8601 time") from error


def _limits(value: Any) -> tuple[float | None, float | None]:
    if value is None:
        return None, None
    if not isinstance(value, list) or len(value) != 2:
        raise MessageError("timelimit is not a pair")
    for limit in value:
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, (int, float))):
            raise MessageError("timelimit is not a pair of numbers")
    return value[0], value[1]


def payload_of(message: Message) -> Any:
    """What the body holds, whatever it is; see ``body.payload`` for what it raises."""
    return payload(
        message.body_text,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        body_encoding=message.properties.get("body_encoding"),
        compression=message.headers.get("compression"),
        max_bytes=message.max_body_bytes,
    )


def _read_protocol_1(message: Message) -> None:
    """Protocol 1: the body is one dictionary that holds everything."""
    fields = payload_of(message)
    if not isinstance(fields, dict) or "task" not in fields:
        raise MessageError("no task header, and no protocol 1 body")
    fields = {**fields, "group": fields.get("taskset")}
    _read_headers(message, fields)
    embed = {name: fields.get(name) for name in EMBED_KEYS}
    message.content = content_of([fields.get("args") or [], fields.get("kwargs") or {}, embed])
