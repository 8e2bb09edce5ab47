"""The handler of ``/api/v1/me``: who asks, and what there is here for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from crucible.api.app_keys import EVENT_HUB, HISTORY, MIGRATION, SETTINGS
from crucible.api.callers import CALLERS, caller_of
from crucible.evaluation.limits import ceilings_of
from crucible.http.answers import json_answer
from crucible.identity.principal import Scope  # noqa: TC001 - msgspec reads the annotation
from crucible.models import Isolation, Limits, Tier  # noqa: TC001 - msgspec reads them

if TYPE_CHECKING:
    from aiohttp import web


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``GET /api/v1/me``.

    Attributes:
        key_id: id of the key; empty without keys.
        tenant: whose evaluations the caller has.
        scopes: what the caller may do.
        tier: premium, standard or bulk; null without keys.
        keyed: keys are in use here.
        history: evaluations are listed here.
        events: evaluations can be followed here.
        legacy: there is a legacy queue.
        flower: there is a Flower behind ``/flower/``.
        isolations: those that submissions may ask for.
        ceilings: the most that the installation allows a program.
    """

    key_id: str
    tenant: str
    scopes: list[Scope]
    tier: Tier | None
    keyed: bool
    history: bool
    events: bool
    legacy: bool
    flower: bool
    isolations: list[Isolation]
    ceilings: Limits


async def show(request: web.Request) -> web.Response:
    """``GET /api/v1/me``."""
    app, caller, settings = request.app, caller_of(request), request.app[SETTINGS]
    return json_answer(
        Me(
            key_id=caller.key_id,
            tenant=caller.tenant,
            scopes=sorted(caller.scopes),
            tier=caller.tier,
            keyed=app[CALLERS].table.made,
            history=HISTORY in app,
            events=EVENT_HUB in app,
            legacy=MIGRATION in app,
            flower=bool(settings.flower_url),
            isolations=list(settings.isolations),
            ceilings=ceilings_of(settings),
        )
    )
