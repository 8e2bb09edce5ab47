"""Flower behind ``/flower/``: a reverse proxy, so that it is one click away and needs a key.

Flower is started apart (``celery -A crucible.celery_app flower --url_prefix=flower``), and has
no login of its own here. A browser that opens a page sends no header field of ours: where there are
keys it sends a cookie, which the console gets with an admin's key and Flower never sees.
"""

from __future__ import annotations

import asyncio
import logging
import re
from base64 import b64encode
from contextlib import asynccontextmanager
from hashlib import sha256
from html import escape
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web

from crucible.console.assets import named
from crucible.console.pages import HEADERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from multidict import CIMultiDictProxy

log = logging.getLogger(__name__)

PREFIX = "/flower"
#: The cookie that stands for an admin's key below ``PREFIX``; other paths never see it.
COOKIE = "crucible_flower"
#: Seconds Flower has to begin its answer. It asks the workers for some of its pages.
_ANSWER_S = 20.0
_LARGEST_BODY = 1 << 20
#: Fields that belong to one connection (RFC 9110, 7.6.1), and those that are decided here.
_OWN = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
        "transfer-encoding", "upgrade", "host", "content-length", "content-encoding",
        "authorization", "x-api-key", "x-auth-token", "cookie", "set-cookie",
        "accept-encoding",
    }
)  # fmt: skip
#: The one script that Flower has in a page, with either of its values; Tornado takes the
#: indentation away. With its hash instead of ``unsafe-inline`` nothing that a task is named or
#: returns can run there.
_INLINE = tuple(f"\n{indent}var autorefresh = {on};\n" for indent in ("", "  ") for on in (0, 1))
_HASHES = " ".join(
    f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in _INLINE
)
_POLICY = (
    f"default-src 'none'; script-src 'self' {_HASHES}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_NONE = (
    "Start one with "
    "`celery -A crucible.celery_app flower --address=127.0.0.1 --url_prefix=flower`, "
    "set `CRUCIBLE_FLOWER_URL=http://127.0.0.1:5555`, and start the api again."
)
_AWAY = "Nothing answers at the URL in `CRUCIBLE_FLOWER_URL`, or too slowly. Is Flower running?"
_SOCKET = "websocket"


class FlowerProxy:
    """Passes requests on to one Flower. Made by ``open_flower``.

    Args:
        url: of Flower, without its prefix; empty where there is none.
        session: asks it.
    """

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url.rstrip("/")
        self._session = session

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """What Flower answers, or a page that says why it does not."""
        if not self._url:
            return explained(404, "No Flower is configured", _NONE)
        try:
            if request.headers.get("Upgrade", "").lower() == _SOCKET:
                return await self._socket(request)
            return await self._page(request)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.info("Flower at %s does not answer: %s", self._url, error)
            return explained(502, "Flower does not answer", _AWAY)

    async def _page(self, request: web.Request) -> web.StreamResponse:
        async with self._session.request(
            request.method,
            f"{self._url}{request.raw_path}",
            headers=_passed(request.headers),
            data=await _body_of(request),
            allow_redirects=False,
        ) as answer:
            fields = _passed(answer.headers) | {**HEADERS, "Content-Security-Policy": _POLICY}
            response = web.StreamResponse(status=answer.status, headers=fields)
            await response.prepare(request)
            try:
                async for part in answer.content.iter_chunked(1 << 16):
                    await response.write(part)
            except (aiohttp.ClientError, TimeoutError) as error:
                # It has begun: only the end of the connection can still say that it is not whole.
                log.info("Flower's answer broke off: %s", error)
                if request.transport is not None:
                    request.transport.abort()
                return response
            await response.write_eof()
            return response

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        async with self._session.ws_connect(f"{self._url}{request.raw_path}") as inner:
            outer = web.WebSocketResponse(heartbeat=30.0)
            await outer.prepare(request)
            ways = {
                asyncio.create_task(_copy(outer, inner), name="crucible-flower-in"),
                asyncio.create_task(_copy(inner, outer), name="crucible-flower-out"),
            }
            try:
                # Whichever side closes ends both.
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                await outer.close()
            return outer


async def _copy(source: Any, target: Any) -> None:
    async for message in source:
        if message.type is aiohttp.WSMsgType.TEXT:
            await target.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await target.send_bytes(message.data)


def _passed(fields: CIMultiDictProxy[str]) -> dict[str, str]:
    return {name: value for name, value in fields.items() if name.lower() not in _OWN}


async def _body_of(request: web.Request) -> bytes | None:
    if not request.can_read_body:
        return None
    if (request.content_length or 0) > _LARGEST_BODY:
        raise web.HTTPRequestEntityTooLarge(_LARGEST_BODY, request.content_length or 0)
    return await request.read()


@asynccontextmanager
async def open_flower(url: str) -> AsyncIterator[FlowerProxy]:
    """The proxy to a Flower; nothing is connected before it is asked for."""
    timeout = aiohttp.ClientTimeout(total=None, connect=5.0, sock_read=_ANSWER_S)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as one:
        yield FlowerProxy(url, one)


FLOWER = web.AppKey("flower", FlowerProxy)


async def enter(_: web.Request) -> web.StreamResponse:
    """``GET /flower``: to its first page."""
    raise web.HTTPFound(f"{PREFIX}/")


def admitting(credential: str, *, secure: bool) -> web.Response:
    """The answer that lets a browser open Flower's pages until it is closed.

    Args:
        credential: the admin's key; scripts cannot read the cookie, and other sites cannot have it
            sent.
        secure: the request came through TLS.
    """
    response = web.Response(status=204)
    response.set_cookie(
        COOKIE, credential, path=f"{PREFIX}/", httponly=True, samesite="Strict", secure=secure
    )
    return response


def credential_of(request: web.Request) -> str | None:
    """The key in the cookie of a request; None without one."""
    return request.cookies.get(COOKIE)


def explained(status: int, title: str, text: str) -> web.Response:
    """A page that says why there is nothing to see."""
    shown = re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))
    return web.Response(
        status=status,
        text=f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
        f'<link rel="stylesheet" href="/console/{named("css")}"></head>'
        f'<body><main class="explained"><h1>{escape(title)}</h1><p>{shown}</p>'
        f'<p><a href="/">To the console</a></p></main></body></html>',
        content_type="text/html",
        headers=HEADERS,
    )
