"""The head of an HTTP request, parsed so strictly that no two parsers can disagree about it.

Pure: bytes in, ``Found`` or None out. None does not mean malformed, only that aiohttp has to parse
it. Whatever is unusual (a repeated field, a transfer coding, a bare line feed, bytes beyond ASCII)
is left to aiohttp, so that nothing here decides what a malformed request should have meant.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from crucible.identity.secret import credential_in, digest_of
from crucible.tracing import TRACEPARENT

#: A longer head is left to aiohttp, which has bounds of its own.
MAX_HEAD_BYTES = 4096
MAX_FIELDS = 64
#: Characters of an ``Idempotency-Key``; longer ones are refused.
MAX_KEY_LENGTH = 255
#: Parsed heads that are remembered: those of one client differ in ``Content-Length`` at most.
_KNOWN_HEADS = 512

_HEAD = re.compile(
    rb"(GET|POST|PUT|DELETE|PATCH|HEAD|OPTIONS) (/[!-~]*) HTTP/1\.1\r\n"
    rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~]*\r\n)+"
)
_FIELD = re.compile(rb"\r\n([^:\r]+):[\t ]*([^\r]*)")
_LENGTH = re.compile(r"0|[1-9][0-9]{0,9}")
_JSON = re.compile(r"application/json(?:; ?charset=utf-8)?", re.IGNORECASE)
#: Fields that change where a request ends, what its bytes mean, or what follows it.
_BEYOND_US = frozenset(
    {
        "transfer-encoding",
        "content-encoding",
        "expect",
        "upgrade",
        "proxy-connection",
        "trailer",
        "te",
        "http2-settings",
        "sec-websocket-key1",
    }
)
#: A browser sends these; whether the page it shows may submit is decided by ``http.hosts``.
_OF_BROWSERS = frozenset({"origin", "sec-fetch-site"})


class Head(NamedTuple):
    """What is known from the head of a request.

    Attributes:
        length: bytes of its body.
        submits: it is a plain ``POST /api/eval`` of JSON.
        key: its ``Idempotency-Key``.
        host: its ``Host``.
        digest: hash of the key it came with; empty where that can be none, None without one.
        traceparent: of its trace, as its client sent it.
    """

    length: int
    submits: bool
    key: str | None
    host: str = ""
    digest: bytes | None = None
    traceparent: str | None = None


class Found(NamedTuple):
    """The first request of some bytes.

    Attributes:
        head: its parsed head.
        body_at: where its body begins.
        end: where it ends; beyond the bytes at hand while the rest has not arrived.
    """

    head: Head
    body_at: int
    end: int


def first_request(data: bytes) -> Found | None:
    """The request that ``data`` begins with; None where aiohttp has to parse it."""
    head_end = data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
    if head_end < 0:
        return None
    head = read_head(data[: head_end + 2])
    if head is None:
        return None
    body_at = head_end + 4
    return Found(head, body_at, body_at + head.length)


@lru_cache(_KNOWN_HEADS)
def read_head(text: bytes) -> Head | None:
    """Parse a head, from its first byte to the line end of its last field; None if unusual."""
    match = _HEAD.fullmatch(text)
    if match is None:
        return None
    pairs = _FIELD.findall(text)
    fields = {name.decode().lower(): value.decode().rstrip("\t ") for name, value in pairs}
    if len(fields) != len(pairs) or len(fields) > MAX_FIELDS or "host" not in fields:
        return None
    if not _BEYOND_US.isdisjoint(fields):
        return None
    if fields.get("connection", "keep-alive").lower() != "keep-alive":
        return None
    length = fields.get("content-length", "0")
    if not _LENGTH.fullmatch(length):
        return None
    key = fields.get("idempotency-key")
    submits = (
        match.group(1, 2) == (b"POST", b"/api/eval")
        and _JSON.fullmatch(fields.get("content-type", "")) is not None
        and (key is None or 0 < len(key) <= MAX_KEY_LENGTH)
        and _OF_BROWSERS.isdisjoint(fields)
    )
    credential = credential_in(fields.get("authorization"), fields.get("x-api-key"))
    digest = None if credential is None else digest_of(credential) or b""
    return Head(int(length), submits, key, fields["host"], digest, fields.get(TRACEPARENT))
