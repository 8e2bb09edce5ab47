"""Requests to receivers of every temper, and to addresses that may not be called."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from support.patience import PATIENCE_S
from support.receiver import Received, listening_receiver, verify
from support.unhindered import unhindered_s

from crucible.webhooks.addresses import AddressPolicy
from crucible.webhooks.connector import open_session
from crucible.webhooks.sender import MAX_ANSWER_BYTES, Sender
from crucible.webhooks.signing import new_secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LOOPBACK = AddressPolicy(["127.0.0.0/8"])
SECRET = new_secret()


class Names(AbstractResolver):
    """A name server that changes its mind with every question.

    Attributes:
        answers: addresses of the names, one list a question; the last one stays.
    """

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: int = socket.AF_INET
    ) -> list[ResolveResult]:
        """The next answer."""
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            ResolveResult(
                hostname=host, host=one, port=port, family=socket.AF_INET, proto=0, flags=0
            )
            for one in found
        ]

    async def close(self) -> None:
        """Nothing is open."""


@asynccontextmanager
async def sending(
    policy: AddressPolicy = LOOPBACK, names: AbstractResolver | None = None, timeout_s: float = 10.0
) -> AsyncIterator[Sender]:
    """A sender."""
    async with open_session(policy, names) as session:
        yield Sender(session, policy, timeout_s)


async def test_a_receiver_gets_and_verifies_the_exact_body() -> None:
    """Its answer is read, up to a bound."""
    async with listening_receiver() as received, sending() as sender:

        async def talk(_: web.Request) -> web.Response:
            return web.Response(text="thanks" * 1000)

        received.answer = talk
        answer = await sender.send(received.url, [SECRET], "msg_1", b'{"type":"x"}')
        [(headers, body)] = received.requests
    assert answer.accepted
    assert len(answer.detail) == MAX_ANSWER_BYTES
    assert headers["Content-Type"] == "application/json"
    assert verify(SECRET, headers, body) == {"type": "x"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_failures_and_are_not_followed(status: int) -> None:
    """Whoever redirects could point inside."""
    async with listening_receiver() as received, sending() as sender:

        async def redirect(_: web.Request) -> web.Response:
            return web.Response(status=status, headers={"Location": received.url})

        received.answer = redirect
        answer = await sender.send(received.url, [SECRET], "msg_1", b"{}")
        assert (answer.accepted, answer.status, len(received.requests)) == (False, status, 1)


async def test_a_receiver_that_does_not_answer_is_given_up() -> None:
    """After the time a request may take."""
    async with listening_receiver() as received, sending(timeout_s=0.2) as sender:
        never = asyncio.Event()

        async def wait(_: web.Request) -> web.Response:
            await never.wait()
            return web.Response()

        received.answer = wait
        answer = await sender.send(received.url, [SECRET], "msg_1", b"{}")
        never.set()
    assert (answer.status, answer.accepted, answer.ill) == (None, False, True)
    assert "0.2 s" in answer.detail


@pytest.mark.parametrize("pause_s", [0.0, 0.05])
async def test_an_endless_answer_counts_by_its_status(pause_s: float) -> None:
    """Fast or in drops; no more than a little of it is read."""
    async with listening_receiver() as received, sending() as sender:
        gone = asyncio.Event()

        async def talk(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            try:
                while True:
                    await response.write(b"x" if pause_s else b"x" * 65536)
                    await asyncio.sleep(pause_s)
            finally:
                gone.set()

        received.answer = talk
        began = unhindered_s()
        answer = await sender.send(received.url, [SECRET], "msg_1", b"{}")
        assert answer.accepted
        assert len(answer.detail) <= MAX_ANSWER_BYTES
        assert unhindered_s() - began < 8.0
        async with asyncio.timeout(PATIENCE_S):
            await gone.wait()


async def test_endless_headers_are_no_answer() -> None:
    """They are bounded too."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000)
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, sending(timeout_s=5.0) as sender:
        answer = await sender.send(f"http://127.0.0.1:{port}/", [SECRET], "msg_1", b"{}")
    assert (answer.status, answer.ill) == (None, True)


async def test_a_name_that_becomes_a_private_address_is_refused() -> None:
    """DNS rebinding: public when it was looked at, loopback when it is connected to."""
    async with listening_receiver() as received:
        port = urlsplit(received.url).port
        names = Names(["93.184.216.34"], ["127.0.0.1"])
        policy = AddressPolicy()
        assert policy.refusal((await names.resolve("rebind.example"))[0]["host"]) is None
        async with sending(policy, names) as sender:
            answer = await sender.send(f"http://rebind.example:{port}/", [SECRET], "m", b"{}")
        assert (answer.refused, answer.status, received.requests) == (True, None, [])
        assert "loopback" in answer.detail


async def test_one_private_address_among_public_ones_refuses_the_name() -> None:
    """The owner of a name could refuse connections to the others."""
    async with sending(AddressPolicy(), Names(["93.184.216.34", "10.0.0.1"])) as sender:
        answer = await sender.send("http://mixed.example/", [SECRET], "m", b"{}")
    assert answer.refused


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f.0.0.1", "[::ffff:127.0.0.1]", "localhost"]
)
async def test_spellings_of_loopback_are_refused(host: str) -> None:
    """By whoever would read them: the system's resolver, or nobody."""
    received: Received
    async with listening_receiver() as received, sending(AddressPolicy()) as sender:
        port = urlsplit(received.url).port
        answer = await sender.send(f"http://{host}:{port}/", [SECRET], "m", b"{}")
        assert (answer.refused, received.requests) == (True, [])


async def test_a_named_network_is_called_through_a_name() -> None:
    """The setting is about addresses, not names."""
    async with listening_receiver() as received, sending(names=Names(["127.0.0.1"])) as sender:
        port = urlsplit(received.url).port
        answer = await sender.send(f"http://inside.example:{port}/x", [SECRET], "m", b"{}")
        assert answer.accepted
        assert received.requests[0][0]["Host"] == f"inside.example:{port}"
