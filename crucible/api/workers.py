"""The handler of ``/api/v1/workers``: every worker, with what it runs and measures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from crucible.api.app_keys import FLEET
from crucible.broker.admin.fleet import WorkerInfo  # noqa: TC001 - msgspec reads the annotation
from crucible.http.answers import json_answer

if TYPE_CHECKING:
    from aiohttp import web


class WorkerList(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``GET /api/v1/workers``.

    Attributes:
        workers: by name.
    """

    workers: list[WorkerInfo]


async def list_(request: web.Request) -> web.Response:
    """``GET /api/v1/workers``: as they described themselves a second ago at most."""
    return json_answer(WorkerList(workers=await request.app[FLEET].workers()))
