"""The bearer token of a service that has one secret for all of its clients."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from aiohttp import web

from crucible.http.problems import problem

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

#: Answered without a token: whoever asks for it only learns that the process lives.
OPEN_PATH = "/health"


def bearer_guard(token: str) -> Middleware:
    """A middleware that answers 401 to requests without ``token``, except for ``/health``."""
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        # aiohttp decodes bytes that are not UTF-8 to surrogates: a wrong token like any other.
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        # Compared in constant time, so that the answer's delay tells nothing about the token.
        if request.path != OPEN_PATH and not hmac.compare_digest(given, expected):
            return problem(
                401,
                "Unauthorized",
                "a bearer token is required",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return await handler(request)

    return guard
