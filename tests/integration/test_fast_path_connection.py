"""A connection of ours over its life: order, silence, clients that leave, shutdown, idleness."""

from __future__ import annotations

import asyncio
import functools
import re
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis
from support.api_rig import port_of, queued, running_api
from support.faults import Fault, FaultProxy
from support.loop_turns import turns
from support.patience import PATIENCE_S
from support.raw_http import LAST, Client, connected, post

from crucible.api.fast_path.connection import Connection
from crucible.api.fast_path.server import FastPathRunner
from crucible.broker.publishing.group_commit import GroupCommit
from crucible.evaluation.celery_service import CeleryService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.embedded.server import EmbeddedServer

PLAIN = b'{"code":"print(6 * 7)"}'
NAMED = b'{"code":"x","eval_id":"two","priority":0}'


async def test_a_plain_submission_does_not_reach_the_handler(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The short way is taken, also when head and body come in two packets and behind a GET."""
    monkeypatch.setattr(CeleryService, "submit", None)
    async with running_api(redis_url) as api, connected(port_of(api)) as client:
        client.transport.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await client.got(b"ok")
        for times, cut in enumerate((None, -5, -23), 1):
            request_ = post(PLAIN)
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
    monkeypatch.setattr("crucible.evaluation.celery_service.digest_of", lambda asked: 1 / 0)
    async with running_api(redis_url) as api, api.post("/api/eval", json={"code": "x"}) as response:
        assert response.status == 500
        assert response.content_type == "application/problem+json"
    assert "unhandled error in POST /api/eval" in caplog.text


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No flush gives up: a test decides when the queue server answers."""
    opened = GroupCommit.__init__

    def init(outbox: GroupCommit, sender: Any, deadline_s: float, hook: Any = None) -> None:
        opened(outbox, sender, PATIENCE_S, hook)

    monkeypatch.setattr(GroupCommit, "__init__", init)


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
        await under_way(proxy, client, post(NAMED))
        client.transport.write(
            b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" + post(NAMED)[:70]
        )
        await turns(20)
        assert client.received == b""
        proxy.set(Fault.PASS)
        client.transport.write(post(NAMED)[70:] + LAST)
        statuses = re.findall(rb"HTTP/1.1 (\d+)", await client.end())
    assert statuses == [b"202", b"200", b"200", b"200"]


async def test_silence_of_the_queue_server_is_a_503_in_time(scratch_server: EmbeddedServer) -> None:
    """The deadline holds, the document is the usual one, and the connection goes on."""
    async with (
        slow_queue_server(scratch_server) as (url, proxy),
        running_api(url, publish_deadline_s=0.2) as api,
        connected(port_of(api)) as client,
    ):
        await under_way(proxy, client, post(PLAIN))
        await client.got(b"the queue server does not answer; nothing was queued")
        assert b"Retry-After: " in client.received
        proxy.set(Fault.PASS)
        client.transport.write(post(PLAIN))
        await client.got(b"202 Accepted")


@pytest.mark.usefixtures("patient")
async def test_a_client_that_goes_away_has_its_program_queued(
    scratch_server: EmbeddedServer,
) -> None:
    """As with aiohttp: what was taken is sent, whoever still listens."""
    async with slow_queue_server(scratch_server) as (url, proxy), Redis.from_url(url) as redis:
        async with running_api(url) as api:
            async with connected(port_of(api)) as client:
                await under_way(proxy, client, post(PLAIN))
            async with connected(port_of(api)) as client:
                client.transport.write(post(PLAIN)[:-1])
                await turns(20)
            proxy.set(Fault.PASS)
        assert len(await queued(redis)) == 1


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    ("before", "body", "status"),
    [(None, PLAIN, b"202"), (NAMED, NAMED, b"503")],
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
    kind = functools.partial(FastPathRunner, keepalive_timeout=0.05)
    monkeypatch.setattr("support.api_rig.FastPathRunner", kind)
    async with (
        slow_queue_server(scratch_server) as (url, proxy),
        running_api(url) as api,
        connected(port_of(api)) as client,
    ):
        client.transport.write(post(PLAIN)[:-1])
        async with asyncio.timeout(PATIENCE_S):
            while len(looked) < 3:
                await asyncio.sleep(0.01)
            proxy.set(Fault.STALL)
            client.transport.write(post(PLAIN)[-1:])
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
        client.transport.write(post(PLAIN))
        await client.got(b"202 Accepted")
        [connection] = connections
        connection.pause_writing()
        client.transport.write(post(PLAIN))
        await turns(20)
        client.transport.write(post(PLAIN) * 2)
        await turns(50)
        assert len(await queued(redis)) == 1
        connection.resume_writing()
        await client.got(b"202 Accepted", 4)
    assert len(await queued(redis)) == 4
