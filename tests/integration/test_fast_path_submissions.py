"""Submissions around aiohttp: nobody outside can tell, whatever bytes come in whatever pieces."""

from __future__ import annotations

import asyncio
import itertools
import re
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from stock_rig.mask import mask_message, mask_text
from support.api_rig import port_of, running_api
from support.listening import listening
from support.raw_http import LAST, connected, post, raw_post, sent

from crucible.api.problems import translate
from crucible.errors import BrokerError, BrokerUnavailable, QueueFull, QuotaExceeded
from crucible.evaluation.record import decode_record
from crucible.http.answers import add_security_fields, rendered
from crucible.redis_keys import EVENTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from crucible.embedded.server import EmbeddedServer

#: A port and its database, for the short way and the plain one.
Sides = dict[str, tuple[int, Redis]]
_DATE = re.compile(rb"\r\nDate: [^\r]*")
#: aiohttp's own refusal quotes the piece of the stream that it was reading, and closes.
_QUOTED = re.compile(rb"(400 Bad Request\r\nContent-Type: text/plain)(.*)", re.DOTALL)


def masked(answers: bytes) -> str:
    """Answers without ids and times."""
    answers = _QUOTED.sub(rb"\1", _DATE.sub(b"", answers))
    return mask_text(answers.decode())


async def stored(redis: Redis) -> dict[str, Any]:
    """What a server holds, ids and times masked; it is empty afterwards."""
    found: dict[str, Any] = {}
    records = []
    keys: list[Any] = await redis.keys("*")
    for key in sorted(keys):
        if key.startswith(EVENTS.encode()):
            continue  # the event bus is the same server here
        if await redis.type(key) == b"list":
            found[key.decode()] = [mask_message(raw) for raw in await redis.lrange(key, 0, -1)]
        else:
            value: Any = await redis.get(key)
            record = decode_record(value)
            records.append((record.digest, record.queue, record.language, record.metadata))
            assert await redis.pttl(key) > 0
    found["records"] = sorted(records, key=repr)
    await redis.flushdb()
    return found


@asynccontextmanager
async def both(server: EmbeddedServer, **flags: Any) -> AsyncIterator[Sides]:
    """An API that takes the short way and one that does not, each on a database of its own."""
    urls = [f"redis://127.0.0.1:{server.port}/{database}" for database in (14, 15)]
    async with (
        running_api(urls[0], **flags) as direct,
        running_api(urls[1], direct=False, **flags) as plain,
        Redis.from_url(urls[0]) as direct_redis,
        Redis.from_url(urls[1]) as plain_redis,
    ):
        await direct_redis.flushdb()
        await plain_redis.flushdb()
        yield {
            "direct": (port_of(direct), direct_redis),
            "plain": (port_of(plain), plain_redis),
        }


async def compare(sides: Sides, pieces: list[bytes], answered: int = 0) -> None:
    """Both sides answer and store the same."""
    answers = {
        name: masked(await sent(port, pieces, answered)) for name, (port, _) in sides.items()
    }
    assert answers["direct"] == answers["plain"]
    contents = {name: await stored(redis) for name, (_, redis) in sides.items()}
    assert contents["direct"] == contents["plain"]


BODIES = [
    b'{"code":"print(6 * 7)"}',
    b'{"code":"x","language":"bash","priority":9,"args":["a","b\'c"]}',
    b'{"code":"gr\\u00fcn \xe2\x82\xac","stdin":"\\n","env":{"A":"B"},"limits":{"pids":9}}',
    b'{"code":"x","eval_id":"one","metadata":{"k":[1,null]}}',
    b'{"code":"y","eval_id":"one"}',
    b'{"code":"x","eval_id":"two","priority":0}',
    b'{"code":"' + b"z" * 5000 + b'"}',
    b'{"code":"\\ud800"}',
    b'{"code":""}',
    b'{"code":5}',
    b'{"code":"x","nosuch":1}',
    b'{"code":"x","limits":{"memory_mb":-1}}',
    b"{",
    b"",
    b"\xff",
    b"[" * 2000,
]
WHOLE = (
    [post(body) for body in BODIES]
    + [post(BODIES[0], b"Idempotency-Key: " + key) for key in (b"k", b"k", b"l", b"k" * 256)]
    + [post(BODIES[1], b"Idempotency-Key: k"), post(BODIES[3], b"Idempotency-Key: k")]
    + [post(BODIES[0], target=target) for target in (b"/api/eval?wait=0", b"/api/eval/", b"/no")]
    + [post(BODIES[0], b"X-Other: y", b"Connection: keep-alive", b"User-Agent: z")]
    + [
        raw_post(b"Host: localhost", b"Content-Type: text/plain", b"Content-Length: 12"),
        raw_post(b"Host: localhost", b"Content-Length: 12"),
        raw_post(
            b"Host: localhost",
            b"Content-Type: application/json",
            b"Transfer-Encoding: chunked",
            body=b'c\r\n{"code":"x"}\r\n0\r\n\r\n',
        ),
        b"GET /api/eval/one HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /api/eval/nobody HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"DELETE /api/eval HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ]
)
#: What ends a connection with its answer.
LAST_ONES = [
    LAST,
    post(BODIES[0], b"Connection: close"),
    post(BODIES[0]).replace(b"HTTP/1.1", b"HTTP/1.0"),
]
GOOD = post(BODIES[0])
MALFORMED = [
    b"\r\n" + GOOD,
    b"\n" + GOOD,
    GOOD.replace(b"\r\n", b"\n"),
    GOOD.replace(b"Host: localhost\r\n", b"Host: localhost\n"),
    GOOD.replace(b"Host:", b"Host :"),
    GOOD.replace(b"Host: localhost\r\n", b""),
    *(
        post(BODIES[0], field)
        for field in (
            b"Content-Length: 23",
            b"Content-Length: 5",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding : chunked",
            b"transfer-encoding: xchunked",
            b" folded: x",
            b"X: y\r\n folded",
            b"X: y\0z",
            b"X: y\x01z",
            b"X: \xff",
            b"X y",
            b"X: y\rContent-Length: 5",
            b"X: " + b"y" * 9000,
        )
    ),
    post(BODIES[0], *[b"X%d: y" % number for number in range(200)]),
    *(
        GOOD.replace(b"Content-Length: 23", b"Content-Length: " + length)
        for length in (b"+23", b"-23", b"23, 23", b"0x17", b"023", b"23 ", b"2 3", b"9" * 25, b"")
    ),
]


@pytest.mark.parametrize("request_", MALFORMED, ids=range(len(MALFORMED)))
async def test_malformed_requests_get_what_aiohttp_has_for_them(
    redis_server: EmbeddedServer, request_: bytes
) -> None:
    """First or behind a good one, in one piece or many; what follows is not smuggled in.

    The good one is answered first: of requests that arrive in one piece with a malformed one
    aiohttp forgets those before it, which we need not copy.
    """
    async with both(redis_server) as sides:
        for first in ([], [GOOD]):
            await compare(sides, [*first, request_ + LAST], answered=len(first))
            stream = request_ + post(BODIES[5]) + LAST
            cut = [stream[at : at + 40] for at in range(0, len(stream), 40)]
            await compare(sides, [*first, *cut], answered=len(first))


class Rig:
    """Both sides on a loop of their own, for a test that hypothesis calls again and again."""

    def __init__(self, runner: asyncio.Runner, sides: Sides) -> None:
        self._runner = runner
        self._sides = sides

    def compare(self, pieces: list[bytes]) -> None:
        """See ``compare``."""
        self._runner.run(compare(self._sides, pieces))


@pytest.fixture
def rig(redis_server: EmbeddedServer) -> Iterator[Rig]:
    """Opened once for all examples."""
    stack = AsyncExitStack()
    with asyncio.Runner() as runner:
        sides = runner.run(stack.enter_async_context(both(redis_server)))
        yield Rig(runner, sides)
        runner.run(stack.aclose())


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    requests=st.lists(st.sampled_from(WHOLE), max_size=6),
    last=st.sampled_from(LAST_ONES),
    cuts=st.lists(st.floats(0, 1), max_size=8),
    apart=st.booleans(),
)
def test_nobody_outside_can_tell(
    rig: Rig, requests: list[bytes], last: bytes, cuts: list[float], apart: bool
) -> None:
    """Any requests on one connection, cut anywhere: equal answers in order, equal contents."""
    stream = b"".join(requests) + last
    bounds = {int(cut * len(stream)) for cut in cuts} | {0, len(stream)}
    if apart:
        at = 0
        for request_ in requests:
            bounds.add(at := at + len(request_))
    edges = sorted(bounds)
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    rig.compare(pieces)


async def test_a_full_queue_says_so_in_the_same_bytes(redis_server: EmbeddedServer) -> None:
    """Refusals of the queue server are answered as the handler answers them."""
    async with both(redis_server, queue_limit=2) as sides:
        requests = [post(BODIES[0])] * 4 + [post(BODIES[5]), LAST]
        await compare(sides, [b"".join(requests)])
        await compare(sides, requests)


@pytest.mark.parametrize(
    "error",
    [
        QueueFull("evaluation", 3),
        BrokerUnavailable("no answer"),
        BrokerError("refused \u20ac"),
        QuotaExceeded(1.5, 20.0, policy='"submit";q=1;w=1'),
    ],
    ids=repr,
)
async def test_errors_are_rendered_as_aiohttp_renders_them(error: BrokerError) -> None:
    """The same status line, fields in the same order, and body."""

    async def fail(request: web.Request) -> web.Response:
        return translate(error)

    app = web.Application()
    app.on_response_prepare.append(add_security_fields)
    app.router.add_get("/", fail)
    async with listening(app) as url:
        ask = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
        async with connected(int(url.rpartition(":")[2])) as client:
            client.transport.write(ask)
            await client.got(b'"status":')
            assert masked(client.received) == masked(rendered(translate(error)))
