"""``GET /`` and the files it loads.

Everything comes from this process. The Content-Security-Policy allows no inline script or style and
no ``eval``, so that nothing a program wrote could ever run as part of the page.
"""

from __future__ import annotations

from functools import cache
from html import escape
from typing import TYPE_CHECKING

from aiohttp import web

import crucible
from crucible.console.assets import assets, named, packed
from crucible.http.answers import json_answer
from crucible.http.problems import problem

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
#: Where else to go; ``/`` as JSON has them too.
LINKS = {
    "docs": "/docs",
    "openapi": "/openapi.json",
    "submit": "/api/eval",
    "ready": "/ready",
    "metrics": "/metrics",
}
#: The page may be kept, but is asked for again: it names the files of the version that runs.
_AGAIN = "no-cache"
#: A name stands for its contents.
_FOR_EVER = "public, max-age=31536000, immutable"


async def index(request: web.Request) -> web.Response:
    """``GET /``: the console for browsers, and where to go from here as JSON for programs."""
    if "text/html" not in request.headers.get("Accept", ""):
        return json_answer({"name": "crucible", "version": crucible.__version__, "links": LINKS})
    body, compressed = _page()
    return _answer(request, body, compressed, "text/html", {"Cache-Control": _AGAIN})


async def asset(request: web.Request) -> web.Response:
    """``GET /console/{name}``: a script or a style sheet."""
    found = assets().get(request.match_info["name"])
    if found is None:
        return problem(404, "Not found", "the console has no such file; load the page again")
    return _answer(request, found.body, found.packed, found.kind, {"Cache-Control": _FOR_EVER})


def _answer(
    request: web.Request, body: bytes, compressed: bytes, kind: str, fields: Mapping[str, str]
) -> web.Response:
    takes = "gzip" in request.headers.get("Accept-Encoding", "")
    coding = {"Content-Encoding": "gzip"} if takes else {}
    return web.Response(
        body=compressed if takes else body,
        content_type=kind,
        charset="utf-8",
        headers={**HEADERS, "Vary": "Accept, Accept-Encoding", **coding, **fields},
    )


@cache
def _page() -> tuple[bytes, bytes]:
    links = "".join(
        f'<li><a href="{path}">{path}</a> {escape(name)}</li>' for name, path in LINKS.items()
    )
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><title>Crucible</title>'
        f'<link rel="stylesheet" href="/console/{named("css")}"><link rel="icon" href="data:,">'
        f'<script type="module" src="/console/{named("js")}"></script></head><body>'
        f'<div id="console" data-version="{crucible.__version__}"></div>'
        f"<noscript><h1>Crucible {crucible.__version__}</h1>"
        f"<p>The console needs JavaScript; the API does not.</p><ul>{links}</ul></noscript>"
        "</body></html>"
    )
    body = text.encode()
    return body, packed(body)
