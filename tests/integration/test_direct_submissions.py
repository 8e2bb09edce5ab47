"""Submissions around aiohttp: nobody outside can tell, whatever bytes come in whatever pieces."""

from __future__ import annotations

import asyncio
import functools
import itertools
import re
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest
from aiohttp import web
from api_rig import port_of, queued, running_api
from faults import Fault, FaultProxy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from stock_rig.mask import mask_message, mask_text

from crucible.api.direct.answer import rendered
from crucible.api.direct.connection import Connection
from crucible.api.direct.server import DirectRunner
from crucible.api.gateway import Gateway
from crucible.api.problems import translate
from crucible.broker.producing.outbox import Outbox
from crucible.errors import BrokerError, BrokerUnavailable, QueueFull
from crucible.evaluation.record import decode_record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from crucible.embedded.server import EmbeddedServer

#: A port and its database, for the short way and the plain one.
Sides = dict[str, tuple[int, Redis]]
#: Longest an answer may take; nothing but a hang comes near.
PATIENCE_S = 20.0
LAST = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
_DATE = re.compile(rb"\r\nDate: [^\r]*")
#: aiohttp's own refusal quotes the piece of the stream that it was reading, and closes.
_QUOTED = re.compile(rb"(400 Bad Request\r\nContent-Type: text/plain)(.*)", re.DOTALL)


def post(body: bytes, *fields: bytes, target: bytes = b"/api/eval") -> bytes:
    """A submission."""
    lines = [b"Host: x", b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
    return b"POST %s HTTP/1.1\r\n%s\r\n\r\n%s" % (target, b"\r\n".join([*lines, *fields]), body)


def raw_post(*fields: bytes, body: bytes = b'{"code":"x"}') -> bytes:
    """A submission whose fields are all given."""
    return b"POST /api/eval HTTP/1.1\r\n" + b"".join(f + b"\r\n" for f in fields) + b"\r\n" + body


class Client(asyncio.Protocol):
    """One connection, all that it was sent, and what became of it."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.received = b""
        self.changed = asyncio.Event()
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Keep it."""
        self.received += data
        self.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """However it ended: what came before counts."""
        self.closed.set_result(None)

    async def got(self, text: bytes, times: int = 1) -> None:
        """Wait until something was received so many times."""
        async with asyncio.timeout(PATIENCE_S):
            while self.received.count(text) < times:
                self.changed.clear()
                await self.changed.wait()

    async def end(self) -> bytes:
        """Wait until the server closes; everything received."""
        async with asyncio.timeout(PATIENCE_S):
            await self.closed
        return self.received


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    """A connection to the API."""
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_connection(Client, "127.0.0.1", port)
    try:
        yield client
    finally:
        transport.abort()


async def turns(count: int = 3) -> None:
    """Turns of the loop that we share with the server."""
    for _ in range(count):
        await asyncio.sleep(0)


async def sent(port: int, pieces: list[bytes], answered: int = 0) -> bytes:
    """All that is answered to bytes sent piece by piece, until the server closes.

    So many of the first pieces are requests whose answers are waited for.
    """
    async with connected(port) as client:
        for number, piece in enumerate(pieces):
            if 0 < number <= answered:
                await client.got(b"HTTP/1.1 ", number)
            client.transport.write(piece)
            # Enough for the server to read each piece by itself.
            await turns()
        return await client.end()


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
        raw_post(b"Host: x", b"Content-Type: text/plain", b"Content-Length: 12"),
        raw_post(b"Host: x", b"Content-Length: 12"),
        raw_post(
            b"Host: x",
            b"Content-Type: application/json",
            b"Transfer-Encoding: chunked",
            body=b'c\r\n{"code":"x"}\r\n0\r\n\r\n',
        ),
        b"GET /api/eval/one HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /api/eval/nobody HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
        b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n",
        b"DELETE /api/eval HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
)
#: What ends a connection with its answer.
LAST_ONES = [
    LAST,
    post(BODIES[0], b"Connection: close"),
    post(BODIES[0]).replace(b"HTTP/1.1", b"HTTP/1.0"),
]
MALFORMED = [
    b"\r\n" + post(BODIES[0]),
    b"\n" + post(BODIES[0]),
    post(BODIES[0]).replace(b"\r\n", b"\n"),
    post(BODIES[0]).replace(b"Host: x\r\n", b"Host: x\n"),
    post(BODIES[0]).replace(b"Host:", b"Host :"),
    post(BODIES[0]).replace(b"Host: x\r\n", b""),
    post(BODIES[0], b"Content-Length: 23"),
    post(BODIES[0], b"Content-Length: 5"),
    post(BODIES[0], b"Transfer-Encoding: chunked"),
    post(BODIES[0], b"Transfer-Encoding : chunked"),
    post(BODIES[0], b"transfer-encoding: xchunked"),
    post(BODIES[0], b" folded: x"),
    post(BODIES[0], b"X: y\r\n folded"),
    post(BODIES[0], b"X: y\0z"),
    post(BODIES[0], b"X: y\x01z"),
    post(BODIES[0], b"X: \xff"),
    post(BODIES[0], b"X y"),
    post(BODIES[0], b"X: y\rContent-Length: 5"),
    post(BODIES[0], b"X: " + b"y" * 9000),
    post(BODIES[0], *[b"X%d: y" % number for number in range(200)]),
    *(
        post(BODIES[0]).replace(b"Content-Length: 23", b"Content-Length: " + length)
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
        for first in ([], [post(BODIES[0])]):
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


async def test_a_plain_submission_does_not_reach_the_handler(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The short way is taken, also when head and body come in two packets and behind a GET."""
    monkeypatch.setattr(Gateway, "submit", None)
    async with running_api(redis_url) as api, connected(port_of(api)) as client:
        client.transport.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.got(b"ok")
        for times, cut in enumerate((None, -5, -23), 1):
            request_ = post(BODIES[0])
            client.transport.write(request_[:cut])
            if cut:
                await turns()
                client.transport.write(request_[cut:])
            await client.got(b"202 Accepted", times)
        async with api.get("/metrics") as response:
            assert 'tasks_submitted_total{queue_system="celery"} 3.0' in await response.text()
    assert len(await queued(redis)) == 3


async def test_a_defect_is_the_500_that_it_is_elsewhere(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What breaks on the short way breaks on the other too, is logged there and answered."""
    monkeypatch.setattr("crucible.api.gateway.digest_of", lambda asked: 1 / 0)
    async with running_api(redis_url) as api, api.post("/api/eval", json={"code": "x"}) as response:
        assert response.status == 500
        assert response.content_type == "application/problem+json"
    assert "unhandled error in POST /api/eval" in caplog.text


async def test_a_full_queue_says_so_in_the_same_bytes(redis_server: EmbeddedServer) -> None:
    """Refusals of the queue server are answered as the handler answers them."""
    async with both(redis_server, queue_limit=2) as sides:
        requests = [post(BODIES[0])] * 4 + [post(BODIES[5]), LAST]
        await compare(sides, [b"".join(requests)])
        await compare(sides, requests)


@pytest.mark.parametrize(
    "error",
    [QueueFull("evaluation", 3), BrokerUnavailable("no answer"), BrokerError("refused \u20ac")],
    ids=repr,
)
async def test_errors_are_rendered_as_aiohttp_renders_them(error: BrokerError) -> None:
    """The same status line, fields in the same order, and body."""

    async def fail(request: web.Request) -> web.Response:
        return translate(error)

    app = web.Application()
    app.router.add_get("/", fail)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ask = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        async with connected(runner.addresses[0][1]) as client:
            client.transport.write(ask)
            await client.got(b'"status":')
            assert masked(client.received) == masked(rendered(translate(error)))
    finally:
        await runner.cleanup()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No flush gives up: a test decides when the queue server answers."""
    opened = Outbox.__init__

    def init(outbox: Outbox, sender: Any, deadline_s: float, hook: Any = None) -> None:
        opened(outbox, sender, PATIENCE_S, hook)

    monkeypatch.setattr(Outbox, "__init__", init)


@asynccontextmanager
async def slow_queue_server(server: EmbeddedServer) -> AsyncIterator[tuple[str, FaultProxy]]:
    """A server that can be made to keep its answers back."""
    async with FaultProxy("127.0.0.1", server.port) as proxy:
        yield f"redis://127.0.0.1:{proxy.port}/0", proxy


async def under_way(proxy: FaultProxy, client: Client, request_: bytes) -> None:
    """Send a request and return while it waits for the queue server."""
    proxy.set(Fault.STALL)
    client.transport.write(request_)
    await turns(20)


@pytest.mark.usefixtures("patient")
async def test_answers_keep_the_order_of_their_requests(scratch_server: EmbeddedServer) -> None:
    """What arrives while a submission is under way is held and answered after it."""
    async with (
        slow_queue_server(scratch_server) as (url, proxy),
        running_api(url) as api,
        connected(port_of(api)) as client,
    ):
        await under_way(proxy, client, post(BODIES[5]))
        client.transport.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" + post(BODIES[5])[:70])
        await turns(20)
        assert client.received == b""
        proxy.set(Fault.PASS)
        client.transport.write(post(BODIES[5])[70:] + LAST)
        statuses = re.findall(rb"HTTP/1.1 (\d+)", await client.end())
    assert statuses == [b"202", b"200", b"200", b"200"]


async def test_silence_of_the_queue_server_is_a_503_in_time(scratch_server: EmbeddedServer) -> None:
    """The deadline holds, the document is the usual one, and the connection goes on."""
    async with (
        slow_queue_server(scratch_server) as (url, proxy),
        running_api(url, publish_deadline_s=0.2) as api,
        connected(port_of(api)) as client,
    ):
        await under_way(proxy, client, post(BODIES[0]))
        await client.got(b"the queue server does not answer; nothing was queued")
        assert b"Retry-After: " in client.received
        proxy.set(Fault.PASS)
        client.transport.write(post(BODIES[0]))
        await client.got(b"202 Accepted")


@pytest.mark.usefixtures("patient")
async def test_a_client_that_goes_away_has_its_program_queued(
    scratch_server: EmbeddedServer,
) -> None:
    """As with aiohttp: what was taken is sent, whoever still listens."""
    async with slow_queue_server(scratch_server) as (url, proxy), Redis.from_url(url) as redis:
        async with running_api(url) as api:
            async with connected(port_of(api)) as client:
                await under_way(proxy, client, post(BODIES[0]))
            async with connected(port_of(api)) as client:
                client.transport.write(post(BODIES[0])[:-1])
                await turns(20)
            proxy.set(Fault.PASS)
        assert len(await queued(redis)) == 1


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    ("before", "body", "status"),
    [(None, BODIES[0], b"202"), (BODIES[5], BODIES[5], b"503")],
    ids=["new", "repeated"],
)
async def test_stopping_answers_what_is_under_way(
    scratch_server: EmbeddedServer, before: bytes | None, body: bytes, status: bytes
) -> None:
    """A submission sent to the queue server gets its answer; then the connection closes.

    One whose id is known would have to be looked up: it is told to come back.
    """
    async with slow_queue_server(scratch_server) as (url, proxy), AsyncExitStack() as stack:
        running = AsyncExitStack()
        api = await running.enter_async_context(running_api(url))
        client = await stack.enter_async_context(connected(port_of(api)))
        idle = await stack.enter_async_context(connected(port_of(api)))
        if before:
            async with api.post("/api/eval", data=before, headers={"Content-Type": "a/b+json"}):
                pass
        await under_way(proxy, client, post(body))
        stopping = asyncio.create_task(running.aclose())
        assert await idle.end() == b""
        assert client.received == b""
        proxy.set(Fault.PASS)
        await stopping
        assert re.findall(rb"HTTP/1.1 (\d+)", await client.end()) == [status]


@pytest.mark.usefixtures("patient")
async def test_only_idle_connections_are_closed_for_idleness(
    scratch_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a request under way nor one half received, however long it takes."""
    looked: list[Connection] = []
    look = Connection._process_keepalive

    def process(connection: Connection) -> None:
        looked.append(connection)
        look(connection)

    monkeypatch.setattr(Connection, "_process_keepalive", process)
    kind = functools.partial(DirectRunner, keepalive_timeout=0.05)
    monkeypatch.setattr("api_rig.DirectRunner", kind)
    async with (
        slow_queue_server(scratch_server) as (url, proxy),
        running_api(url) as api,
        connected(port_of(api)) as client,
    ):
        client.transport.write(post(BODIES[0])[:-1])
        async with asyncio.timeout(PATIENCE_S):
            while len(looked) < 3:
                await asyncio.sleep(0.01)
            proxy.set(Fault.STALL)
            client.transport.write(post(BODIES[0])[-1:])
            while len(looked) < 6:
                await asyncio.sleep(0.01)
        assert not client.closed.done()
        proxy.set(Fault.PASS)
        assert (await client.end()).startswith(b"HTTP/1.1 202 ")


async def test_a_client_that_does_not_read_is_not_read_from(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once its answers pile up nothing more of it begins; when it reads again, all of it does."""
    connections: list[Connection] = []
    made = Connection.connection_made

    def connection_made(connection: Connection, transport: asyncio.BaseTransport) -> None:
        connections.append(connection)
        made(connection, transport)

    monkeypatch.setattr(Connection, "connection_made", connection_made)
    async with running_api(redis_url) as api, connected(port_of(api)) as client:
        client.transport.write(post(BODIES[0]))
        await client.got(b"202 Accepted")
        [connection] = connections
        connection.pause_writing()
        client.transport.write(post(BODIES[0]))
        await turns(20)
        client.transport.write(post(BODIES[0]) * 2)
        await turns(50)
        assert len(await queued(redis)) == 1
        connection.resume_writing()
        await client.got(b"202 Accepted", 4)
    assert len(await queued(redis)) == 4
