"""Who makes a request: found out once, before its handler is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from crucible.identity.principal import LOCAL, Principal

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

_CALLER = web.RequestKey("caller", Principal)


@web.middleware
async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The middleware that puts the caller on the request."""
    request[_CALLER] = LOCAL
    return await handler(request)


def caller_of(request: web.Request) -> Principal:
    """Who makes a request."""
    return request[_CALLER]
