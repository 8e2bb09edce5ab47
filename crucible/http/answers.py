"""Answers whose body is JSON, and answers as bytes."""

from __future__ import annotations

import msgspec
from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE


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


def rendered(response: web.Response) -> bytes:
    """A response whose body is bytes, the same that aiohttp would write."""
    body = response.body
    assert isinstance(body, bytes)
    fields = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
    return (
        f"HTTP/1.1 {response.status} {response.reason}\r\n{fields}Content-Length: {len(body)}\r\n"
        f"Date: {rfc822_formatted_time()}\r\nServer: {SERVER_SOFTWARE}\r\n\r\n"
    ).encode() + body
