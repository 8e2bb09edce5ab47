"""The handler of ``/api/v1/autoscale``: how many workers there should be."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec

from crucible.api.app_keys import ADMIN, AUTOSCALER, READINESS
from crucible.evaluation.fleet_load import load_of
from crucible.http.answers import json_answer
from crucible.scaling.policy import Load, Policy
from crucible.settings import KNOWN_QUEUES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from crucible.broker.admin.census import Census
    from crucible.evaluation.fleet_load import FleetLoad
    from crucible.settings import Settings


class Autoscale(msgspec.Struct, frozen=True, kw_only=True):
    """A decision, and what it was made from. KEDA's ``metrics-api`` reads ``desired_workers``.

    Attributes:
        desired_workers: how many there should be.
        workers: async workers that live.
        waiting: messages in all queues.
        claimed: messages that async workers hold.
        oldest_age_s: seconds the longest waiting next message waits; null if not known.
        service_s: seconds a task takes on average; null if not known.
        min_workers: the least the policy asks for.
        max_workers: the most.
    """

    desired_workers: int
    workers: int
    waiting: int
    claimed: int
    oldest_age_s: float | None
    service_s: float | None
    min_workers: int
    max_workers: int


def policy_of(settings: Settings) -> Policy:
    """The policy of an installation."""
    return Policy(
        least=settings.autoscale_min,
        most=settings.autoscale_max,
        up_above=settings.autoscale_up,
        down_under=settings.autoscale_down,
        target_age_s=settings.autoscale_target_age_s,
        hold_s=settings.autoscale_hold_s,
    )


async def show(request: web.Request) -> web.Response:
    """``GET /api/v1/autoscale``: measure, and decide."""
    app = request.app
    readiness = app[READINESS]
    census, ages, heartbeats = await asyncio.gather(
        app[ADMIN].census(KNOWN_QUEUES), readiness.ages(KNOWN_QUEUES), readiness.heartbeats()
    )
    return json_answer(decide(app, census, ages, load_of(heartbeats)))


def decide(
    app: web.Application, census: Census, ages: Mapping[str, float], fleet: FleetLoad
) -> Autoscale:
    """Decide by what was measured; every decision is remembered for the next ones."""
    scaler = app[AUTOSCALER]
    waiting = sum(queue.waiting for queue in census.queues)
    oldest_s = max(ages.values(), default=None)
    load = Load(
        waiting=waiting,
        claimed=fleet.claimed,
        slots=max(1, fleet.slots // max(1, fleet.workers)),
        oldest_s=oldest_s,
        service_s=fleet.service_s,
    )
    return Autoscale(
        desired_workers=scaler.decide(load, time.monotonic()),
        workers=fleet.workers,
        waiting=waiting,
        claimed=fleet.claimed,
        oldest_age_s=oldest_s,
        service_s=fleet.service_s,
        min_workers=scaler.policy.least,
        max_workers=scaler.policy.most,
    )
