"""``GET /api/eval/{eval_id}/output/{name}``: a large output, from the object store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from crucible.api.app_keys import OBJECTS, SERVICE
from crucible.api.callers import caller_of
from crucible.errors import NotFound
from crucible.evaluation.large_outputs import NAME, folder_of
from crucible.evaluation.record import scoped_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: Says that the receiver decompresses it itself.
ENCODING = "zstd"


async def show(request: web.Request) -> web.StreamResponse:
    """The bytes of one output, as the program wrote them; in parts, whatever its size.

    Compressed where the client accepts it. Only what the evaluation names is served: not what is
    left of another run, nor of a result that is gone.
    """
    caller, eval_id = caller_of(request), request.match_info["eval_id"]
    name = request.match_info["name"]
    store = request.app.get(OBJECTS)
    found = await request.app[SERVICE].look_up(caller, eval_id)
    if store is None or not NAME.match(name) or request.path not in found.links():
        raise NotFound("the evaluation has no such output")
    size, parts = await store.open(f"{folder_of(scoped_id(caller.tenant, eval_id))}/{name}")
    response = web.StreamResponse(headers={"Vary": "Accept-Encoding"})
    response.content_type = "application/octet-stream"
    if _accepts(request):
        response.headers["Content-Encoding"] = ENCODING
        response.content_length = size
    else:
        parts = _decompressed(parts)
    await response.prepare(request)
    async for part in parts:
        await response.write(part)
    await response.write_eof()
    return response


def _accepts(request: web.Request) -> bool:
    asked = request.headers.get("Accept-Encoding", "")
    # Each with its weight, of which zero refuses it.
    weights = {
        name.strip().lower(): weight.strip()
        for name, _, weight in (one.partition(";") for one in asked.split(","))
    }
    return ENCODING in weights and weights[ENCODING] not in ("q=0", "q=0.0")


def _decompressed(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    from crucible.objects.compressed import decompressed

    return decompressed(parts)
