"""``/api/events`` and ``/api/eval/{eval_id}/events``: server-sent events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from crucible.api.app_keys import EVENT_HUB, SERVICE
from crucible.api.callers import caller_of
from crucible.api.events.evaluation import EvaluationStream
from crucible.api.events.frames import (
    CONTENT_TYPE,
    HEARTBEAT,
    entry_frame,
    opening,
    position_frame,
)
from crucible.api.events.stream import HEARTBEAT_S, Stream, catch_up
from crucible.errors import BrokerError, ParameterError
from crucible.events.position import Position
from crucible.http.problems import unavailable
from crucible.models import ENDED, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.events.hub import EventHub
    from crucible.events.reader import Entry

_RETRY_AFTER_S = 5
_STATUSES = frozenset(status.value for status in Status)
_NO_BUS = "there is no event bus (CRUCIBLE_EVENT_BUS_URL)"
_AWAY = "the event bus does not answer (CRUCIBLE_EVENT_BUS_URL)"


async def follow_all(request: web.Request) -> web.StreamResponse:
    """``GET /api/events[?status=]``: the events of all evaluations of the caller's tenant."""
    statuses = _statuses_of(request)
    resumed = last_event_id(request)
    tenant = caller_of(request).tenant
    hub = request.app.get(EVENT_HUB)
    if (answer := plain_answer(request, hub, tenant)) is not None:
        return answer
    assert hub is not None
    with hub.serving(tenant):
        try:
            position = await hub.follow()
        except BrokerError:
            return unavailable(_AWAY, _RETRY_AFTER_S)
        stream = Stream(request, hub)
        await stream.open()
        after = position if resumed is None else resumed
        await stream.send(opening(after))
        resuming = resumed is not None
        await _serve_all(stream, hub, after, tenant, statuses, resumed=resuming)
    return stream.response


async def _serve_all(
    stream: Stream,
    hub: EventHub,
    after: Position,
    tenant: str,
    statuses: frozenset[str],
    *,
    resumed: bool,
) -> None:
    async def send(entries: Sequence[Entry]) -> bool:
        wanted = (
            entry
            for entry in entries
            if entry.event.tenant == tenant and (not statuses or entry.event.status in statuses)
        )
        await stream.send(*map(entry_frame, wanted))
        return True

    reached = await catch_up(stream, hub, after, send, check=resumed)
    if reached is None:
        return
    subscription = hub.subscribe(after=reached, tenant=tenant, statuses=statuses)
    with stream.ending(subscription):
        await stream.send(position_frame(reached))
        while True:
            taken = await subscription.take(HEARTBEAT_S)
            if taken:
                await stream.send(*(frame for _, frame in taken))
            elif subscription.cut:
                await stream.say_cut(subscription)
                return
            else:
                # Nothing waits, so the client has everything up to there.
                await stream.send(HEARTBEAT, position_frame(max(reached, hub.position)))


async def follow_one(request: web.Request) -> web.StreamResponse:
    """``GET /api/eval/{eval_id}/events``: the events of one evaluation, up to its end.

    It begins with ``queued``, and has only events that are later than those before. 204 where a
    client that has seen the end asks again, as browsers do: that makes them stop.
    """
    caller, eval_id = caller_of(request), request.match_info["eval_id"]
    resumed = last_event_id(request)
    evaluation = await request.app[SERVICE].look_up(caller, eval_id)
    hub = request.app.get(EVENT_HUB)
    if (answer := plain_answer(request, hub, caller.tenant)) is not None:
        return answer
    assert hub is not None
    if resumed is not None and resumed.ended and evaluation.status in ENDED:
        return web.Response(status=204)
    with hub.serving(caller.tenant):
        one = EvaluationStream(request, hub, caller, evaluation)
        try:
            await hub.follow()
            if resumed is not None and await one.resume(resumed):
                return web.Response(status=204)
        except BrokerError:
            return unavailable(_AWAY, _RETRY_AFTER_S)
        await one.serve(resumed)
        return one.stream.response


def render(entry: Entry) -> bytes:
    """What the hub sends for an entry."""
    return entry_frame(entry)


def plain_answer(request: web.Request, hub: EventHub | None, tenant: str) -> web.Response | None:
    """The answer where no stream is served; None where one is."""
    if hub is None:
        return unavailable(_NO_BUS, _RETRY_AFTER_S)
    if refusal := hub.refusal(tenant):
        return unavailable(refusal, _RETRY_AFTER_S)
    if request.method == "HEAD":
        return web.Response(content_type=CONTENT_TYPE)
    return None


def last_event_id(request: web.Request) -> Position | None:
    """Where the client goes on from.

    Raises:
        ParameterError: it is no id of an event.
    """
    text = request.headers.get("Last-Event-ID")
    if not text:
        return None
    position = Position.parse(text)
    if position is None:
        raise ParameterError("Last-Event-ID", "must be the id of an event")
    return position


def _statuses_of(request: web.Request) -> frozenset[str]:
    """The statuses that are asked for; none for all.

    Raises:
        ParameterError: there is no such status.
    """
    text = request.query.get("status")
    if text is None:
        return frozenset()
    asked = frozenset(text.split(","))
    if not asked <= _STATUSES:
        raise ParameterError("status", f"must be of {', '.join(sorted(_STATUSES))}")
    return asked
