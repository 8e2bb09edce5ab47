"""Answers whose body is JSON."""

from __future__ import annotations

import msgspec
from aiohttp import web


def json_answer(
    value: object, status: int = 200, *, headers: dict[str, str] | None = None
) -> web.Response:
    """A response with ``value`` as msgspec encodes it."""
    return web.Response(
        body=msgspec.json.encode(value),
        status=status,
        content_type="application/json",
        headers=headers,
    )
