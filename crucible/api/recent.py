"""What waited and what completed in the last minutes, sampled by each api process for charts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from crucible.api.app_keys import ADMIN, READINESS
from crucible.errors import BrokerError
from crucible.http.answers import json_answer
from crucible.models import Status
from crucible.settings import KNOWN_QUEUES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

log = logging.getLogger(__name__)

#: Seconds between two samples, and how many are kept: ten minutes.
STEP_S, KEPT = 5.0, 120


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What there was at one moment.

    Attributes:
        at: when, seconds since the epoch.
        waiting: messages by queue.
        claimed: messages that workers hold.
        dead_letters: messages that could not be run.
        ended: evaluations that have ended since the beginning.
        failed: of those the ones that failed.
    """

    at: float
    waiting: dict[str, int]
    claimed: int
    dead_letters: int
    ended: int
    failed: int


class Recent(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``GET /api/v1/queues/recent``.

    Attributes:
        step_s: seconds between two samples, about.
        samples: the oldest first.
        oldest_age_s: seconds the next message of a queue has waited; without queues that are empty.
    """

    step_s: float
    samples: list[Sample]
    oldest_age_s: dict[str, float]


SAMPLES: web.AppKey[deque[Sample]] = web.AppKey("samples")


async def show(request: web.Request) -> web.Response:
    """``GET /api/v1/queues/recent``: the samples of this process, and one taken now."""
    app = request.app
    now, ages = await asyncio.gather(take(app), app[READINESS].ages(KNOWN_QUEUES))
    recent = Recent(step_s=STEP_S, samples=[*app[SAMPLES], now], oldest_age_s=ages)
    return json_answer(recent)


async def take(app: web.Application) -> Sample:
    """Count now.

    Raises:
        BrokerError: the queue server does not answer.
    """
    census, completions = await asyncio.gather(
        app[ADMIN].census(KNOWN_QUEUES), app[READINESS].completions()
    )
    sides = completions.values()
    return Sample(
        at=time.time(),
        waiting={queue.name: queue.waiting for queue in census.queues},
        claimed=census.claimed,
        dead_letters=census.dead_letters,
        ended=sum(counts.statuses.total() for counts in sides),
        failed=sum(counts.statuses[Status.FAILED] for counts in sides),
    )


@asynccontextmanager
async def sampling(app: web.Application) -> AsyncIterator[None]:
    """Keep taking samples while the context is open."""
    app[SAMPLES] = deque(maxlen=KEPT)
    task = asyncio.create_task(_keep_taking(app), name="crucible-samples")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _keep_taking(app: web.Application) -> None:
    while True:
        await asyncio.sleep(STEP_S)
        try:
            app[SAMPLES].append(await take(app))
        except BrokerError as error:
            # A gap in the chart says the same.
            log.debug("no sample now: %s", error)
