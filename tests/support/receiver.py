"""A receiver of webhooks on loopback, for tests."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web
from standardwebhooks import Webhook

from support.listening import listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]

WAIT_S = 60.0


class Received:
    """Keeps what arrives, and answers as it is told.

    Attributes:
        requests: headers (with ``x-method`` and ``x-path``) and body of each, in the order they
            came.
        answer: makes the answer; 204 by default.
        url: where it listens.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.answer: Answering | None = None
        self.url = ""
        self._news = asyncio.Condition()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Take one request."""
        body = await request.read()
        async with self._news:
            seen = {"x-method": request.method, "x-path": request.path}
            self.requests.append(({**request.headers, **seen}, body))
            self._news.notify_all()
        return web.Response(status=204) if self.answer is None else await self.answer(request)

    async def until(self, count: int) -> list[tuple[dict[str, str], bytes]]:
        """The requests, once there are so many."""
        async with asyncio.timeout(WAIT_S), self._news:
            await self._news.wait_for(lambda: len(self.requests) >= count)
        return self.requests

    def bodies(self) -> list[dict[str, Any]]:
        """The bodies, decoded."""
        return [msgspec.json.decode(body) for _, body in self.requests]

    def ids(self) -> list[str]:
        """The ``webhook-id`` of each."""
        return [headers["webhook-id"] for headers, _ in self.requests]


def verify(secret: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    """What a receiver makes of a request; raises what ``standardwebhooks`` raises."""
    verified: dict[str, Any] = Webhook(secret).verify(body.decode(), headers)
    return verified


@asynccontextmanager
async def listening_receiver(address: str = "127.0.0.1") -> AsyncIterator[Received]:
    """A receiver that listens while the context is open."""
    received = Received()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", received.handle)
    async with listening(app, address) as url:
        received.url = f"{url}/hook"
        yield received
