"""Clients that hang up while a stream is written to them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from support.listening import listening

from crucible.http.problems import problem_middleware

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from crucible.errors import CrucibleError

WAIT_S = 30.0


def translate(error: CrucibleError) -> web.Response:
    """Nothing here raises one."""
    raise AssertionError(error)


@pytest.mark.parametrize(("breaks", "logged"), [(False, 0), (True, 1)], ids=["lost", "broken"])
async def test_only_faults_of_ours_are_logged(
    caplog: pytest.LogCaptureFixture, *, breaks: bool, logged: int
) -> None:
    """Who hangs up is no fault; one that comes up at the same moment is."""
    ended = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one")
        async with asyncio.timeout(WAIT_S):
            while request.transport is not None and not request.transport.is_closing():
                await asyncio.sleep(0.01)
        if breaks:
            raise ZeroDivisionError
        await response.write(b"two")
        return response

    @web.middleware
    async def watched(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        finally:
            ended.set()

    application = web.Application(middlewares=[watched, problem_middleware(translate)])
    application.router.add_get("/", stream)
    async with listening(application) as url:
        with caplog.at_level(logging.ERROR):
            async with aiohttp.ClientSession(url) as client:
                async with client.get("/") as response:
                    assert await response.content.read(3) == b"one"
                    response.close()
                await asyncio.wait_for(ended.wait(), WAIT_S)
    assert len(caplog.records) == logged
