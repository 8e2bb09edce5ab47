"""The handlers of ``/api/v1/queues``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from crucible.api.app_keys import ADMIN, PURGED
from crucible.errors import NotFound
from crucible.http.answers import json_answer
from crucible.settings import KNOWN_QUEUES
from crucible.validation import quoted

if TYPE_CHECKING:
    from aiohttp import web


class Purged(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``POST /api/v1/queues/{queue}/purge``.

    Attributes:
        queue: its name.
        dropped: messages that were deleted.
    """

    queue: str
    dropped: int


async def show(request: web.Request) -> web.Response:
    """``GET /api/v1/queues``: how many messages wait in each queue."""
    return json_answer(await request.app[ADMIN].census(KNOWN_QUEUES))


async def purge(request: web.Request) -> web.Response:
    """``POST /api/v1/queues/{queue}/purge``: delete what waits in it; results become REVOKED."""
    queue = request.match_info["queue"]
    if queue not in KNOWN_QUEUES:
        raise NotFound(f"no queue has the name {quoted(queue)}")
    dropped = await request.app[ADMIN].purge(queue, request.app[PURGED])
    return json_answer(Purged(queue=queue, dropped=dropped))
