"""The body of a task message: from the text in its envelope to arguments."""

from __future__ import annotations

import binascii
from typing import Any

import msgpack

from crucible.broker.wire.compression import decompress
from crucible.broker.wire.jsontypes import loads
from crucible.errors import MessageError

#: Names for JSON and msgpack; whatever else a body may be is refused, pickle above all.
_JSON_TYPES = frozenset({"application/json", "json"})
_MSGPACK_TYPES = frozenset({"application/x-msgpack", "application/msgpack", "msgpack"})
ACCEPTED = _JSON_TYPES | _MSGPACK_TYPES
_TEXT_CODECS = frozenset({"", "utf-8", "utf8", "ascii", "us-ascii", "binary", "latin-1"})
EMBED_KEYS = ("callbacks", "errbacks", "chain", "chord")

#: ``args``, ``kwargs`` and ``embed``.
Content = tuple[list[Any], dict[str, Any], dict[str, Any]]


def payload(
    text: str,
    *,
    content_type: str,
    content_encoding: str,
    body_encoding: Any,
    compression: Any,
    max_bytes: int,
) -> Any:
    """What a body holds, whatever it is.

    Args:
        text: the body as it stands in the envelope.
        content_type: one of ``ACCEPTED``.
        content_encoding: in lower case; empty where there is none.
        body_encoding: ``base64``, ``utf-8`` or None.
        compression: the header of that name, or None.
        max_bytes: what a compressed body may grow to.

    Raises:
        MessageError: it is not what the envelope says.
    """
    if content_encoding not in _TEXT_CODECS:
        raise MessageError(f"content-encoding {content_encoding!r} is not supported")
    data = _bytes_of(text, body_encoding)
    if compression is not None:
        if not isinstance(compression, str):
            raise MessageError("compression is not a string")
        data = decompress(data, compression, max_bytes)
    try:
        if content_type in _MSGPACK_TYPES:
            return msgpack.unpackb(data, raw=False)
        if content_encoding == "latin-1":
            data = data.decode("latin-1").encode()
        return loads(data)
    except (ValueError, msgpack.UnpackException, RecursionError, OverflowError) as error:
        raise MessageError(f"body is not {content_type}: {error}") from error


def _bytes_of(text: str, encoding: Any) -> bytes:
    try:
        if encoding == "base64":
            return binascii.a2b_base64(text)
        if encoding is None or encoding == "utf-8":
            return text.encode()
    except ValueError as error:
        raise MessageError(f"body is not {encoding or 'text'}: {error}") from error
    raise MessageError(f"body_encoding {encoding!r} is not supported")


def content_of(payload: Any) -> Content:
    """``args``, ``kwargs`` and ``embed`` of a decoded body.

    Raises:
        MessageError: it is none.
    """
    if not isinstance(payload, list) or len(payload) != 3:
        raise MessageError("body is not [args, kwargs, embed]")
    args, kwargs, embed = payload
    if not isinstance(args, list):
        raise MessageError("args are not a list")
    if not isinstance(kwargs, dict) or (kwargs and not all(type(key) is str for key in kwargs)):
        raise MessageError("kwargs are not an object")
    if embed is None:
        embed = {}
    if not isinstance(embed, dict):
        raise MessageError("embed is not an object")
    return args, kwargs, {**dict.fromkeys(EMBED_KEYS), **embed}
