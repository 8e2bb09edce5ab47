"""Answers whose body is JSON, answers as bytes, and what browsers may do with any of them."""

from __future__ import annotations

import msgspec
from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE

#: With every answer of the api that says nothing else: it is no page, nobody may keep it or show it
#: in a frame, and its type is what it says.
SECURITY_FIELDS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


async def add_security_fields(_: web.Request, response: web.StreamResponse) -> None:
    """For ``on_response_prepare``: add them to an answer that is not a page of ours."""
    if "Content-Security-Policy" not in response.headers:
        for name, value in SECURITY_FIELDS.items():
            response.headers.setdefault(name, value)


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
    """A response whose body is bytes, the same that aiohttp would write for the api."""
    body = response.body
    assert isinstance(body, bytes)
    fields = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
    # aiohttp has what is added when a response is prepared behind its own fields.
    added = "".join(
        f"{name}: {value}\r\n"
        for name, value in SECURITY_FIELDS.items()
        if name not in response.headers
    )
    return (
        f"HTTP/1.1 {response.status} {response.reason}\r\n{fields}Content-Length: {len(body)}\r\n"
        f"Date: {rfc822_formatted_time()}\r\nServer: {SERVER_SOFTWARE}\r\n"
        f"{added}\r\n"
    ).encode() + body


def has_hung_up(request: web.Request) -> bool:
    """Whether the client is gone, so that nobody reads what is answered."""
    return request.transport is None or request.transport.is_closing()
