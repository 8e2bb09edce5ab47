"""The handler of ``/api/v1/migration/sides``: both queue systems beside each other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from crucible.api.app_keys import READINESS
from crucible.http.answers import json_answer

if TYPE_CHECKING:
    from aiohttp import web


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """Completions in one queue system since the beginning.

    Attributes:
        statuses: evaluations by the status they ended with.
        total_s: the sum of all durations, seconds.
        durations: how many took no longer than each upper bound, seconds; the last has no bound.
    """

    statuses: dict[str, int]
    total_s: float
    durations: list[tuple[str, int]]


class Sides(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``GET /api/v1/migration/sides``.

    Rates, and durations such as the 99th percentile of the last minute, are differences of two
    answers.

    Attributes:
        at: when it was read, seconds since the epoch.
        sides: by name: ``celery``, ``legacy``; without those where nothing has completed.
    """

    at: float
    sides: dict[str, Side]


async def show(request: web.Request) -> web.Response:
    """``GET /api/v1/migration/sides``."""
    counts = await request.app[READINESS].completions()
    sides = {
        name: Side(statuses=dict(side.statuses), total_s=side.total_s, durations=side.cumulative())
        for name, side in counts.items()
    }
    return json_answer(Sides(at=time.time(), sides=sides))
