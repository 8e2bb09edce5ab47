"""Clients that are slow, many, silent, gone, or speak no HTTP: what they cost, what they hear."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from support.api_rig import port_of, queued, running_api
from support.patience import PATIENCE_S
from support.raw_http import Client, connected, post

from crucible.broker.results.meta import SUCCESS, encode_meta
from crucible.evaluation.record import task_id_of

if TYPE_CHECKING:
    import aiohttp
    from redis.asyncio import Redis

BODY = b'{"code":"print(6 * 7)"}'
HASTY = {"head_timeout_s": 0.2, "transfer_grace_s": 0.3, "transfer_rate_kb": 1000.0}
CHUNKED = (
    b"POST /api/eval HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n5\r\n"
)


async def faults_of(api: aiohttp.ClientSession) -> dict[str, int]:
    """Connections that ended for a fault, by reason."""
    async with api.get("/metrics") as response:
        text = await response.text()
    found = re.findall(r'^http_connection_faults_total\{reason="(\w+)"\} (\d+)', text, re.MULTILINE)
    return {reason: int(count) for reason, count in found if int(count)}


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "handler"])
@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"G", "head_timeout"),
        (b"POST /api/eval HTTP/1.1\r\nHost: localh", "head_timeout"),
        (post(BODY)[:-1], "body_timeout"),
        (post(BODY, target=b"/api/eval?wait=5")[:-1], "body_timeout"),
        (CHUNKED, "body_timeout"),
        (CHUNKED + b'{"cod', "body_timeout"),
    ],
    ids=["byte", "head", "body", "body-of-handler", "no-chunk", "chunk"],
)
async def test_half_a_request_is_not_waited_for(
    redis_url: str, redis: Redis, sent: bytes, reason: str, direct: bool
) -> None:
    """408 as a problem document, the connection closed, and nothing queued."""
    async with running_api(redis_url, direct=direct, **HASTY) as api:
        async with connected(port_of(api)) as client:
            client.transport.write(sent)
            answer = await client.end()
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert b"Connection: close\r\n" in answer
        assert b'"status":408' in answer
        assert await faults_of(api) == {reason: 1}
    assert await queued(redis) == []


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "handler"])
async def test_half_a_request_behind_a_whole_one(redis_url: str, direct: bool) -> None:
    """The whole one is answered first."""
    async with (
        running_api(redis_url, direct=direct, **HASTY) as api,
        connected(port_of(api)) as client,
    ):
        client.transport.write(post(BODY) + post(BODY)[:-3])
        statuses = re.findall(rb"HTTP/1.1 (\d+)", await client.end())
    assert statuses == [b"202", b"408"]


@pytest.mark.parametrize("sent", [b"", post(BODY)], ids=["never", "once"])
async def test_an_idle_connection_is_closed(redis_url: str, sent: bytes) -> None:
    """Without a word: its client may be about to send."""
    async with (
        running_api(redis_url, idle_timeout_s=0.2) as api,
        connected(port_of(api)) as client,
    ):
        client.transport.write(sent)
        answers = re.findall(rb"HTTP/1.1 (\d+)", await client.end())
        assert answers == ([b"202"] if sent else [])
        assert await faults_of(api) == {}


@pytest.mark.parametrize("target", [b"/api/eval", b"/api/eval?wait=1"], ids=["direct", "handler"])
async def test_unfinished_bodies_hold_no_more_than_the_bound(
    redis_url: str, redis: Redis, target: bytes
) -> None:
    """The oldest hear 503 and when to come back, and those that are finished are taken."""
    big = b'{"code":"' + b"x" * 900_000 + b'"}'
    async with (
        running_api(redis_url, max_body_kb=1000, max_unfinished_mb=2) as api,
        AsyncExitStack() as stack,
    ):
        clients: list[Client] = []
        for _ in range(4):
            client = await stack.enter_async_context(connected(port_of(api)))
            client.transport.write(post(big, target=target)[:-1])
            clients.append(client)
            async with asyncio.timeout(PATIENCE_S):
                while client.transport.get_write_buffer_size():
                    await asyncio.sleep(0.01)
        for client in clients[:2]:
            answer = await client.end()
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"Retry-After: " in answer
            assert b"CRUCIBLE_MAX_UNFINISHED_MB" in answer
        clients[3].transport.write(b"}")
        await clients[3].got(b"202 Accepted")
        assert await faults_of(api) == {"unfinished_bodies": 2}
    assert len(await queued(redis)) == 1


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"max_connections": 3}, "connections"),
        ({"max_connections_per_address": 3}, "connections_of_address"),
    ],
)
async def test_connections_are_bounded(redis_url: str, flags: dict[str, Any], reason: str) -> None:
    """One too many hears 503 and when to come back; once another has left, there is room."""
    async with running_api(redis_url, **flags) as api, AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(connected(port_of(api)))
        async with connected(port_of(api)) as third:
            third.transport.write(post(BODY))
            await third.got(b"202 Accepted")
            async with connected(port_of(api)) as client:
                client.transport.write(post(BODY))
                answer = await client.end()
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"Retry-After: " in answer
        async with asyncio.timeout(PATIENCE_S):
            while True:
                async with connected(port_of(api)) as client:
                    client.transport.write(post(BODY))
                    await client.got(b"HTTP/1.1 ")
                    if b" 202 " in client.received:
                        break
        await stack.aclose()
        async with asyncio.timeout(PATIENCE_S):
            while not (found := await faults_of(api)):  # refused until the server noticed
                await asyncio.sleep(0.01)
        assert set(found) == {reason}


@pytest.mark.parametrize(
    "limits",
    [
        {"transfer_grace_s": 0.3, "transfer_rate_kb": 1_000_000.0},
        {"max_body_kb": 512, "max_unfinished_mb": 1},
    ],
    ids=["time", "bytes"],
)
async def test_a_client_that_does_not_read_is_left(redis_url: str, limits: dict[str, Any]) -> None:
    """Answers that pile up, in bytes or for long, end the connection; others are served."""
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with running_api(redis_url, **limits) as api, AsyncExitStack() as stack:
        clients: list[Client] = []
        for _ in range(1 if "transfer_grace_s" in limits else 20):
            client = await stack.enter_async_context(connected(port_of(api)))
            client.transport.pause_reading()
            client.transport.write(ask * 1000)
            clients.append(client)
        reason = "answer_timeout" if "transfer_grace_s" in limits else "unread_answers"
        async with asyncio.timeout(PATIENCE_S):
            while reason not in await faults_of(api):
                await asyncio.sleep(0.05)
        async with api.post("/api/eval", json={"code": "x"}) as response:
            assert response.status == 202


async def test_an_answer_above_the_bound_arrives(redis_url: str, redis: Redis) -> None:
    """A result that is larger than all unread answers may be can be fetched all the same."""
    output = "x" * (12 << 20)
    async with running_api(redis_url, max_body_kb=512, max_unfinished_mb=1) as api:
        async with api.post("/api/eval", json={"code": "x"}) as response:
            eval_id = (await response.json())["eval_id"]
        result = {"eval_id": eval_id, "status": "completed", "verdict": "ok", "output": output}
        task_id = task_id_of(eval_id)
        await redis.set(f"celery-task-meta-{task_id}", encode_meta(task_id, SUCCESS, result))
        async with api.get(f"/api/eval/{eval_id}") as response:
            assert len((await response.json())["output"]) == len(output)
        assert await faults_of(api) == {}


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "handler"])
@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (post(BODY)[:-1], "hung_up"),
        (post(BODY, target=b"/api/eval?wait=5")[:-1], "hung_up"),
        (CHUNKED + b'{"cod', "hung_up"),
        (b"POST /api/eval HT", "hung_up"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "tls"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http2"),
        (b"\x05\x01\x00", "malformed"),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", "malformed"),
        (CHUNKED + b"zzzzzzzz\r\n", "malformed"),
    ],
)
async def test_what_is_no_request_is_no_error_of_ours(
    redis_url: str, caplog: pytest.LogCaptureFixture, sent: bytes, reason: str, direct: bool
) -> None:
    """One line for those who look for it, a count, and nothing that looks like a defect."""
    caplog.set_level(logging.DEBUG)
    async with running_api(redis_url, direct=direct) as api:
        caplog.clear()  # of what the start says about the server of the tests
        async with connected(port_of(api)) as client:
            client.transport.write(sent)
            if reason == "hung_up":
                await asyncio.sleep(0)
                client.transport.close()
            await client.end()
        async with asyncio.timeout(PATIENCE_S):
            while not (found := await faults_of(api)):
                await asyncio.sleep(0.01)
        assert found == {reason: 1}
    told = [r for r in caplog.records if r.name == "crucible.http.guard"]
    assert [(r.levelno, r.exc_info) for r in told] == [(logging.DEBUG, None)]
    assert [r for r in caplog.records if r.levelno > logging.INFO] == []
