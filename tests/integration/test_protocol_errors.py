"""Bytes that are no request, and requests no handler was written for: problem documents too."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from support.api_rig import port_of, queued, running_api
from support.raw_http import LAST, post, raw_post, sent

from crucible.api.app import ROUTES
from crucible.embedded.server import free_port

if TYPE_CHECKING:
    from redis.asyncio import Redis

HOST = b"Host: x\r\n"
CODE = b'{"code":"x"}'
CHUNKED = (b"Host: x", b"Content-Type: application/json", b"Transfer-Encoding: chunked")
LONG = b"x" * 9000


def ask(target: bytes, *fields: bytes) -> bytes:
    """A request for something there may be."""
    return b"GET %s HTTP/1.1\r\n%s%s\r\n" % (target, HOST, b"".join(f + b"\r\n" for f in fields))


#: What ends the connection with its answer, and the status of that.
MALFORMED = [
    (b"FOO /health HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    (b"GET /health HTTP/9.1\r\n" + HOST + b"\r\n", 400),
    (b"\x16\x03\x01\x02\r\n\r\n", 400),
    (b"GET /health HTTP/1.1\r\n\r\n", 400),
    (ask(b"/health", b"X: a\0b"), 400),
    (ask(b"/health?a=\xff"), 400),
    (raw_post(*CHUNKED, body=b"zz\r\n"), 400),
    (ask(b"/api/eval/" + LONG), 414),
    (ask(b"/health", b"X: " + LONG), 431),
    (ask(b"/health", LONG + b": x"), 431),
]


async def answered(port: int, request_: bytes, *, goes_on: bool) -> tuple[int, bytes]:
    """Status and head of an answer, which must be a problem document of that status."""
    got = await sent(port, [request_, LAST] if goes_on else [request_], answered=int(goes_on))
    head, _, rest = got.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    assert b"Content-Type: application/problem+json" in head, got
    assert rest.startswith(b'{"type":"about:blank","title":"'), got
    assert b'"status":%d' % status in rest
    assert b"Server: " in head
    assert (b"HTTP/1.1 200 OK" in rest) == goes_on
    return status, head


@pytest.mark.parametrize(("request_", "status"), MALFORMED, ids=range(len(MALFORMED)))
@pytest.mark.parametrize("legacy", [False, True], ids=["celery", "both"])
async def test_bytes_that_are_no_request(
    redis_url: str, request_: bytes, status: int, legacy: bool
) -> None:
    """The parser's refusals are problem documents, whichever connections the mode has."""
    flags: dict[str, Any] = (
        {"queue_service_url": f"http://127.0.0.1:{free_port()}"} if legacy else {}
    )
    async with running_api(redis_url, **flags) as api:
        got, _ = await answered(port_of(api), request_, goes_on=False)
        assert got == status


@pytest.mark.parametrize("target", [b"/health", b"/nowhere"])
async def test_an_expectation_that_is_not_known(redis_url: str, target: bytes) -> None:
    """417, also where nothing is; the one that is known is met."""
    async with running_api(redis_url) as api:
        port = port_of(api)
        assert (await answered(port, ask(target, b"Expect: foo"), goes_on=True))[0] == 417
        got = await sent(port, [post(CODE, b"Expect: 100-continue"), LAST], answered=2)
        assert got.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted")


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        (b"foo", CODE, 415),
        (b"gzip, gzip", CODE, 415),
        (b"gzip", CODE, 400),
        (b"deflate", CODE, 400),
        (b"gzip", gzip.compress(CODE, mtime=0), 202),
        (b"GZIP", gzip.compress(CODE, mtime=0), 202),
        (b"deflate", zlib.compress(CODE), 202),
        (b"identity", CODE, 202),
    ],
)
async def test_a_content_coding_is_undone_or_refused(
    redis_url: str, redis: Redis, coding: bytes, body: bytes, status: int
) -> None:
    """A body is never taken for what it is not: 415 for unknown codings, 400 for broken ones."""
    async with running_api(redis_url) as api:
        request_ = post(body, b"Content-Encoding: " + coding)
        if status == 202:
            got = await sent(port_of(api), [request_, LAST], answered=1)
            assert got.startswith(b"HTTP/1.1 202 Accepted")
        else:
            refused, head = await answered(port_of(api), request_, goes_on=status == 415)
            assert refused == status
            assert (b"\r\nAccept-Encoding: gzip, deflate" in head) == (status == 415)
    assert len(await queued(redis)) == (status == 202)


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "handler"])
@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (CODE, (b"Idempotency-Key: \xff",)),
        (CODE, (b"Idempotency-Key: a", b"Idempotency-Key: b")),
        (CODE, (b"Idempotency-Key: a", b"Idempotency-Key: a")),
        (CODE, (b"Idempotency-Key:",)),
        (b'{"code":"x","eval_id":"one"}', (b"Idempotency-Key: a",)),
    ],
    ids=["bytes", "two", "twice", "empty", "id"],
)
async def test_one_thing_names_an_evaluation(
    redis_url: str, redis: Redis, body: bytes, fields: tuple[bytes, ...], direct: bool
) -> None:
    """A key that cannot be read, or is not the only name, is refused: 422 that names it."""
    async with running_api(redis_url, direct=direct) as api:
        got = await sent(port_of(api), [post(body, *fields), LAST], answered=1)
        assert got.startswith(b"HTTP/1.1 422 ")
        assert b'"field":"Idempotency-Key"' in got
        key = post(CODE, "Idempotency-Key: schlüssel".encode())
        assert (await sent(port_of(api), [key, LAST], answered=1)).startswith(b"HTTP/1.1 202 ")
    assert len(await queued(redis)) == 1


@pytest.mark.parametrize("path", [route.path for route in ROUTES if route.method == "GET"])
async def test_whatever_can_be_read_has_a_head(redis_url: str, path: str) -> None:
    """HEAD has the status and type of GET and no body."""
    path = path.format(eval_id="nobody", letter_id="1-1")
    async with running_api(redis_url) as api:
        async with api.get(path) as response:
            expected = (response.status, response.content_type)
        async with api.head(path) as response:
            assert (response.status, response.content_type) == expected
            assert await response.read() == b""
