"""The handler of ``/api/v1/queues``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.api.app_keys import ADMIN
from crucible.http.answers import json_answer
from crucible.settings import KNOWN_QUEUES

if TYPE_CHECKING:
    from aiohttp import web


async def show(request: web.Request) -> web.Response:
    """``GET /api/v1/queues``: how many messages wait in each queue."""
    return json_answer(await request.app[ADMIN].census(KNOWN_QUEUES))
