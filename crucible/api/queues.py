"""The handlers of ``/api/v1/queues``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from crucible.api.app_keys import ADMIN, PURGED, READINESS
from crucible.errors import NotFound
from crucible.http.answers import json_answer
from crucible.settings import KNOWN_QUEUES
from crucible.validation import quoted

if TYPE_CHECKING:
    from aiohttp import web


GPU_QUEUE = "gpu_queue"
_NO_GPUS = "no worker with GPUs is there: start one with crucible worker --gpus"


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
    census = await request.app[ADMIN].census(KNOWN_QUEUES)
    if any(one.name == GPU_QUEUE and one.waiting for one in census.queues):
        heartbeats = await request.app[READINESS].heartbeats()
        if not any(beat.gauges.get("gpus") for beat in heartbeats):
            queues = [
                msgspec.structs.replace(one, why=_NO_GPUS)
                if one.name == GPU_QUEUE and one.waiting
                else one
                for one in census.queues
            ]
            census = msgspec.structs.replace(census, queues=queues)
    return json_answer(census)


async def purge(request: web.Request) -> web.Response:
    """``POST /api/v1/queues/{queue}/purge``: delete what waits in it; results become REVOKED."""
    queue = request.match_info["queue"]
    if queue not in KNOWN_QUEUES:
        raise NotFound(f"no queue has the name {quoted(queue)}")
    dropped = await request.app[ADMIN].purge(queue, request.app[PURGED])
    return json_answer(Purged(queue=queue, dropped=dropped))
