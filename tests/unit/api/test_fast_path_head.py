"""The strict reader of request heads: what it takes, and all that it leaves to aiohttp."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from crucible.api.fast_path.head import MAX_HEAD_BYTES, Found, Head, first_request, read_head

LINE = b"POST /api/eval HTTP/1.1\r\n"
PLAIN = b"Host: x\r\nContent-Type: application/json\r\n"


def head_of(*fields: bytes, line: bytes = LINE, plain: bytes = PLAIN) -> Head | None:
    """What is read of a head with further fields."""
    return read_head(line + plain + b"".join(field + b"\r\n" for field in fields))


def test_a_plain_submission_is_recognised() -> None:
    """Its body's length and its key are what aiohttp would take them for."""
    assert head_of(b"Content-Length: 12") == Head(12, True, None, "x")
    assert head_of(b"content-LENGTH:12\t", b"idempotency-key: \t a b ") == Head(
        12, True, "a b", "x"
    )
    assert head_of(b"Content-Length: 0", b"Connection: Keep-Alive", b"X:") == Head(
        0, True, None, "x"
    )
    typed = b"Host: x\r\nContent-Type: Application/JSON; charset=UTF-8\r\n"
    assert head_of(b"Content-Length: 1", plain=typed) == Head(1, True, None, "x")


def test_where_a_request_ends() -> None:
    """The end counts from the start of the bytes, whether or not all of them have come."""
    head = LINE + PLAIN + b"Content-Length: 5\r\n\r\n"
    for rest in (b"", b"12345", b"12345POST"):
        assert first_request(head + rest) == Found(
            Head(5, True, None, "x"), len(head), len(head) + 5
        )
    assert first_request(head[:-1]) is None
    assert first_request(b"") is None
    padded = LINE + PLAIN + b"X: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n"
    assert first_request(padded) is None


@pytest.mark.parametrize(
    "line",
    [
        b"POST /api/eval?wait=1 HTTP/1.1\r\n",
        b"POST /api/eval/ HTTP/1.1\r\n",
        b"POST /api/%65val HTTP/1.1\r\n",
        b"POST /API/EVAL HTTP/1.1\r\n",
        b"POST /api/eval# HTTP/1.1\r\n",
        b"GET /api/eval HTTP/1.1\r\n",
        b"PUT /api/eval HTTP/1.1\r\n",
    ],
)
def test_other_requests_are_understood_and_left_alone(line: bytes) -> None:
    """Their end is known, so that what follows them may be ours again."""
    assert head_of(b"Content-Length: 3", line=line) == Head(3, False, None, "x")


@pytest.mark.parametrize(
    "field",
    [
        b"Content-Type: text/plain",
        b"Content-Type: application/problem+json",
        b"Content-Type: application/json; charset=latin-1",
        b"Content-Type: application/json, text/plain",
        b"Content-Type:",
        b"Accept: application/json",
        b"Content-Type: application/json\r\nIdempotency-Key:",
        b"Content-Type: application/json\r\nIdempotency-Key: " + b"k" * 256,
    ],
)
def test_what_the_handler_would_judge_is_left_to_it(field: bytes) -> None:
    """Other types of content and bad keys are understood, not taken."""
    head = head_of(field, b"Content-Length: 3", plain=b"Host: x\r\n")
    assert head == Head(3, False, head.key if head else None, "x")


MALFORMED = [
    b"Content-Length: 3\r\nContent-Length: 3",
    b"Content-Length: 3\r\nContent-Length: 4",
    b"Content-Length: 3\r\ncontent-length: 4",
    b"Content-Length: +3",
    b"Content-Length: -3",
    b"Content-Length: 03",
    b"Content-Length: 0x3",
    b"Content-Length: 3,3",
    b"Content-Length: 3 3",
    b"Content-Length: 3.0",
    b"Content-Length:",
    b"Content-Length: " + b"9" * 30,
    b"Content-Length: \xb2",
    b"Content-Length : 3",
    b"Content-Length\t: 3",
    b" Content-Length: 3",
    b"Content-Length: 3\r\n folded: x",
    b"X: y\r\n\tfolded\r\nContent-Length: 3",
    b"Content-Length: 3\nX: y",
    b"X: y\nContent-Length: 3",
    b"X: y\rContent-Length: 3",
    b"X: y\0\r\nContent-Length: 3",
    b"X\0: y\r\nContent-Length: 3",
    b"X: y\x7f\r\nContent-Length: 3",
    b"X: \xc3\xbc\r\nContent-Length: 3",
    b"X\xc3\xbc: y\r\nContent-Length: 3",
    b": y\r\nContent-Length: 3",
    b"no colon\r\nContent-Length: 3",
    b"X(y): z\r\nContent-Length: 3",
    b"Host: y\r\nContent-Length: 3",
    b"Content-Type: text/plain\r\nContent-Length: 3",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 3",
    b"transfer-encoding: identity\r\nContent-Length: 3",
    b"Transfer-Encoding : chunked\r\nContent-Length: 3",
    b"Content-Encoding: gzip\r\nContent-Length: 3",
    b"Expect: 100-continue\r\nContent-Length: 3",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 3",
    b"Connection: close\r\nContent-Length: 3",
    b"Connection: keep-alive, Upgrade\r\nContent-Length: 3",
    b"Connection: keep-alive\r\nConnection: close\r\nContent-Length: 3",
    b"Proxy-Connection: close\r\nContent-Length: 3",
    b"Trailer: X\r\nContent-Length: 3",
    b"\r\nContent-Length: 3",
    b"\r\n".join(b"X%d: y" % n for n in range(100)) + b"\r\nContent-Length: 3",
]


@pytest.mark.parametrize("fields", MALFORMED)
def test_whatever_is_not_plain_is_not_understood(fields: bytes) -> None:
    """Two readers might disagree about each of these: aiohttp alone decides."""
    assert head_of(fields) is None


@pytest.mark.parametrize(
    "line",
    [
        b"\r\nPOST /api/eval HTTP/1.1\r\n",
        b"POST /api/eval HTTP/1.0\r\n",
        b"POST /api/eval HTTP/1.1 \r\n",
        b"POST  /api/eval HTTP/1.1\r\n",
        b"POST /api/eval\tHTTP/1.1\r\n",
        b"POST /api/eval HTTP/1.1\n",
        b"POST /api/eval\r\n",
        b"post /api/eval HTTP/1.1\r\n",
        b"POST http://x/api/eval HTTP/1.1\r\n",
        b"CONNECT x:1 HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"POST /api/\xc3\xbc HTTP/1.1\r\n",
    ],
)
def test_other_request_lines_are_not_understood(line: bytes) -> None:
    """Other versions, forms and spellings of the line are aiohttp's."""
    assert head_of(b"Content-Length: 3", line=line) is None


def test_a_request_without_a_host_is_not_understood() -> None:
    """aiohttp refuses it and closes."""
    assert head_of(b"Content-Length: 3", plain=b"Content-Type: application/json\r\n") is None


class _Silent(BaseProtocol):
    """What aiohttp's parser wants to report to."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)


def aiohttp_reads(data: bytes) -> list[Any]:
    """The requests aiohttp's parser finds."""
    loop = asyncio.new_event_loop()
    try:
        parser = HttpRequestParser(_Silent(loop), loop, 2**16)
        return list(parser.feed_data(data)[0])
    finally:
        loop.close()


_PIECES = st.sampled_from(
    [
        *(LINE, b"GET / HTTP/1.1\r\n", b"Host: x\r\n", b"Content-Type: application/json\r\n"),
        *(b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"X: y\r\n", b"\r\n", b"abc"),
        *(b"Transfer-Encoding: chunked\r\n", b"Idempotency-Key: k\r\n", b"Connection: close\r\n"),
        *(b"Connection: keep-alive\r\n", b"Expect: 100-continue\r\n", b"\n", b" ", b":", b"\t"),
        *(b"\r", b"\0", b"5", b"+", b"\xff"),
    ]
)


@given(st.lists(_PIECES, max_size=12).map(b"".join) | st.binary(max_size=60).map(LINE.__add__))
def test_what_is_understood_is_what_aiohttp_understands(data: bytes) -> None:
    """A request found here is the first one that aiohttp finds, of the same length and key."""
    found = first_request(data)
    if found is None:
        return
    whole = data[: found.body_at] + b"x" * found.head.length
    messages = aiohttp_reads(whole)
    assert len(messages) == 1
    message, body = messages[0]
    assert body.is_eof()
    assert body.total_bytes == found.head.length
    assert not message.chunked
    assert not message.upgrade
    assert not message.should_close
    assert message.headers.get("Idempotency-Key") == found.head.key
    if found.head.submits:
        assert (message.method, message.path) == ("POST", "/api/eval")


@pytest.mark.parametrize("fields", MALFORMED[:5])
def test_the_list_above_holds_what_aiohttp_refuses_too(fields: bytes) -> None:
    """Not all of it is refused, but a length twice or with a sign is."""
    with pytest.raises(HttpProcessingError):
        aiohttp_reads(LINE + PLAIN + fields + b"\r\n\r\nabc")
