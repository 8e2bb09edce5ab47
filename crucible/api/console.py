"""The console's files and the way to Flower: what is served beside the API, and not part of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from crucible.api.app_keys import SETTINGS
from crucible.api.callers import CALLERS
from crucible.console import flower, pages
from crucible.errors import Forbidden, Unauthenticated
from crucible.identity.secret import credential_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_NOT_LET_IN = (
    "Flower is for keys with the scope admin. Open the console, enter such a key, "
    "and choose Flower there."
)


def add_console(app: web.Application) -> None:
    """Add the paths that are no part of the API."""
    app.router.add_get("/console/{name}", pages.asset)
    app.router.add_get(flower.PREFIX, flower.enter)
    for method in ("GET", "POST"):
        app.router.add_route(method, f"{flower.PREFIX}/{{tail:.*}}", flower_page)
    app.cleanup_ctx.append(_flower)


async def _flower(app: web.Application) -> AsyncIterator[None]:
    async with flower.open_flower(app[SETTINGS].flower_url) as proxy:
        app[flower.FLOWER] = proxy
        yield


async def admit_to_flower(request: web.Request) -> web.Response:
    """``POST /api/v1/flower``: let the browser of an admin open Flower's pages.

    A page that is opened carries no key, so the key goes into a cookie for those pages alone.
    """
    given = credential_in(request.headers.get("Authorization"), request.headers.get("X-API-Key"))
    if given is None:
        return web.Response(status=204)  # there are no keys, and none is needed
    secure = request.secure or request.headers.get("X-Forwarded-Proto") == "https"
    return flower.admitting(given, secure=secure)


async def flower_page(request: web.Request) -> web.StreamResponse:
    """``/flower/…``: for admins, by a key in a field or in the cookie."""
    try:
        await request.app[CALLERS].admit(request, "admin", flower.credential_of(request))
    except (Unauthenticated, Forbidden) as error:
        status = 403 if isinstance(error, Forbidden) else 401
        return flower.explained(status, "Not let in", _NOT_LET_IN)
    return await request.app[flower.FLOWER].answer(request)
