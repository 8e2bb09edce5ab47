"""Bytes that are no request, and requests no handler was written for: problem documents too."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from support.api_rig import port_of, queued, running_api
from support.raw_http import LAST, post, raw_post, sent

from crucible.api.routes import ROUTES, Route
from crucible.embedded.server import free_port

if TYPE_CHECKING:
    from redis.asyncio import Redis

HOST = b"Host: localhost\r\n"
CODE = b'{"code":"x"}'
CHUNKED = (b"Host: localhost", b"Content-Type: application/json", b"Transfer-Encoding: chunked")
LONG = b"x" * 9000
JSON = {"Content-Type": "application/json"}


class Ids(dict[str, str]):
    """An id that nothing has, by the name of its parameter; most kinds take any word."""

    def __missing__(self, name: str) -> str:
        return "nobody"


IDS = Ids(letter_id="1-1", task_id="eval-nobody", key_id="key_000000000000")


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
        (b"gzip", gzip.compress(CODE, mtime=0)[:-1], 400),
        (b"gzip", gzip.compress(CODE, mtime=0)[:-8], 400),
        (b"gzip", gzip.compress(CODE, mtime=0) + b"x", 400),
        (b"gzip", gzip.compress(CODE[:4], mtime=0) * 20, 400),
        (b"deflate", zlib.compress(CODE)[:-1], 400),
        (b"deflate", zlib.compress(CODE) + b"x", 400),
        (b"br", CODE, 415),
        (b"gzip", gzip.compress(CODE, mtime=0), 202),
        (b"GZIP", gzip.compress(CODE, mtime=0), 202),
        (b"deflate", zlib.compress(CODE), 202),
        (b"deflate", zlib.compress(CODE, wbits=-15), 202),
        (b"gzip", gzip.compress(CODE[:4], mtime=0) + gzip.compress(CODE[4:], mtime=0), 202),
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
            refused, head = await answered(port_of(api), request_, goes_on=True)
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
    path = path.format_map(IDS)
    async with running_api(redis_url) as api:
        async with api.get(path) as response:
            expected = (response.status, response.content_type)
        async with api.head(path) as response:
            assert (response.status, response.content_type) == expected
            assert await response.read() == b""


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "handler"])
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ((b"Host: evil.example", b"Origin: http://evil.example"), 421),
        ((b"Host: evil.example:8000",), 421),
        ((b"Host: localhost", b"Origin: http://evil.example"), 403),
        ((b"Host: localhost", b"Origin: null"), 403),
        ((b"Host: localhost", b"Sec-Fetch-Site: cross-site"), 403),
        ((b"Host: localhost:1", b"Origin: http://localhost:1"), 202),
        ((b"Host: crucible.example", b"Origin: https://crucible.example"), 202),
        ((b"Host: 127.0.0.1", b"Origin: https://crucible.example"), 202),
    ],
)
async def test_a_page_of_another_origin_may_do_nothing(
    redis_url: str, redis: Redis, fields: tuple[bytes, ...], status: int, direct: bool
) -> None:
    """Neither across origins nor by a name that was pointed to loopback (DNS rebinding)."""
    request_ = raw_post(*fields, b"Content-Type: application/json", b"Content-Length: 12")
    async with running_api(redis_url, direct=direct, allowed_hosts=("crucible.example",)) as api:
        got = await sent(port_of(api), [request_, LAST], answered=1)
        assert got.startswith(b"HTTP/1.1 %d " % status), got
        assert b"Access-Control" not in got
        read = b"GET /api/eval/one HTTP/1.1\r\n%s\r\n\r\n" % b"\r\n".join(fields[:1])
        got = await sent(port_of(api), [read, LAST], answered=1)
        assert got.startswith(b"HTTP/1.1 %d " % (421 if status == 421 else 404))
    assert len(await queued(redis)) == (status == 202)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_a_parameter_that_nobody_knows_is_refused(redis_url: str, route: Route) -> None:
    """A misspelt one is named; so is one that comes twice."""
    path = route.path.format_map(IDS)
    async with running_api(redis_url) as api:
        twice = [f"{name}=1&{name}=1" for name in route.query]
        for query in ("wiat=5", *twice):
            async with api.request(route.method, f"{path}?{query}", json={"code": "x"}) as answer:
                document = await answer.json(content_type="application/problem+json")
                assert answer.status == 422
                assert document["field"] == query.partition("=")[0]
                assert "pointer" not in document["errors"][0]


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        (b"{", "#", "the body is not valid JSON"),
        (b'{"code":"x","limits":{"memory_mb":"a"}}', "#/limits/memory_mb",
         "must be a whole number or null, not a string"),
        (b'{"code":"x","limits":{"memory_mb":1}}', "#/limits/memory_mb", "must be between 16"),
        (b'{"code":"x","limits":{"wall_time_s":true}}', "#/limits/wall_time_s",
         "must be a number or null, not true or false"),
        (b'{"code":"x","files":[{"name":"a"}]}', "#/files/0/content", "is missing"),
        (b'{"code":"x","a/b~c.d[0]":1}', "#/a~1b~0c.d%5B0%5D", "is no field that is known here"),
        (b'{"code":"x","env":{"A.B/C":1}}', "#/env/A.B~1C", "must be a string"),
        (b'{"code":"x","metadata":{"a.b":[{"c":NaN}]}}', "#/metadata/a.b/0/c", "must be a finite"),
        (b'{"code":"x","eval_id":"a b"}', "#/eval_id",
         "must be a string that matches the pattern ^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"),
        (b'{"code":"x","priority":11}', "#/priority", "must be a whole number of at most 9"),
        ('{"code":"x","language":"ì"}'.encode(), "#/language", '"ì" is unknown'),
        (b'{"code":"\xff"}', "#", "is not"),
        (b"{\"metadata\":{\"a\":" + b"[" * 100_000, "#", "the body is nested too deeply"),
        (b'{"code":"' + b"x" * 3_000_000 + b'"}', "#", "2048 KiB (CRUCIBLE_MAX_BODY_KB)"),
    ],
    ids=range(14),
)  # fmt: skip
async def test_a_field_is_pointed_at_in_the_words_of_json(
    redis_url: str, body: bytes, pointer: str, detail: str
) -> None:
    """With a pointer (RFC 6901) beside the path, and no word of Python."""
    headers = {"Content-Type": "application/json"}
    async with running_api(redis_url) as api:
        async with api.post("/api/eval", data=io.BytesIO(body), headers=headers) as response:
            document = await response.json(content_type="application/problem+json")
    [error] = document["errors"]
    assert error["pointer"] == pointer
    assert error["field"] == document["field"]
    assert detail in error["detail"]


@pytest.mark.parametrize(
    "request_",
    [ask(b"/api/eval/" + LONG), ask(b"/health", b"X: " + LONG), ask(b"/health", LONG + b": x"),
     ask(b"/health", b"X: a\0b"), *(request_ for request_, _ in MALFORMED)],
    ids=range(4 + len(MALFORMED)),
)  # fmt: skip
async def test_malformed_bytes_are_not_repeated_as_python_writes_them(
    redis_url: str, request_: bytes
) -> None:
    """A client may be written in anything."""
    async with running_api(redis_url) as api:
        got = await sent(port_of(api), [request_])
    detail = msgspec.json.decode(got.partition(b"\r\n\r\n")[2]).get("detail", "")
    assert not re.search(r"bytearray|\bb['\"]|\\x|\\Z", detail)


async def test_a_parameter_without_a_name_is_refused_as_one(redis_url: str) -> None:
    """Not as a body that cannot be read."""
    async with running_api(redis_url) as client:
        for method, path in (("GET", "/tasks"), ("DELETE", "/api/eval/e"), ("GET", "/api/eval")):
            async with client.request(method, f"{path}?=x") as response:
                assert (response.status, (await response.json())["field"]) == (422, "?")


async def test_what_no_json_has_is_named_in_every_body(redis_url: str) -> None:
    """NaN and halves of surrogate pairs are 422 with their place; no UTF-8 has its byte."""
    named = {
        "/api/eval": "code",
        "/assessments": "name",
        "/api/v1/workflows": "name",
        "/api/v1/webhooks": "url",
        "/api/v1/keys": "name",
        "/api/v1/sessions": "environment",
    }
    async with running_api(redis_url) as api:
        for path, field in named.items():
            for value in (b"NaN", b'"\\ud800"'):
                body = b'{"%s":%s}' % (field.encode(), value)
                async with api.post(path, data=body, headers=JSON) as response:
                    answer = await response.json()
                    assert (response.status, answer["field"]) == (422, field), answer
                    assert answer["errors"][0]["pointer"] == f"#/{field}"
            body = b'{"%s":"a\xff"}' % field.encode()
            async with api.post(path, data=body, headers=JSON) as response:
                answer = await response.json()
                assert (response.status, answer["field"]) == (400, "body")
                assert answer["detail"] == f"the body is not UTF-8 (byte {len(field) + 6})"
