"""``/api/events`` and ``/api/eval/{eval_id}/events``: server-sent events.

A stream is served in two phases. First it catches up: what follows the client's ``Last-Event-ID``
is read from the bus, page by page, at the speed at which the client reads. Once it has come to
where the hub is, it subscribes, without an await in between: every event is in exactly one of the
two.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, cast

from aiohttp import web

from crucible.api.app_keys import EVENT_HUB, SERVICE
from crucible.api.callers import caller_of
from crucible.api.event_frames import (
    CONTENT_TYPE,
    HEARTBEAT,
    entry_frame,
    event_frame,
    opening,
    position_frame,
    resync_frame,
)
from crucible.errors import BrokerError, LegacyError, NotFound, ParameterError
from crucible.evaluation.transitions import as_read
from crucible.events.event import QUEUED, Event, Transition
from crucible.events.position import START, Position
from crucible.http.problems import unavailable
from crucible.models import ENDED, Evaluation, Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from crucible.events.hub import EventHub, Subscription
    from crucible.events.reader import Entry
    from crucible.http.protocol import GuardedHandler
    from crucible.identity.principal import Principal

#: Seconds without an event after which a heartbeat is sent.
HEARTBEAT_S = 15.0
#: The same for one that has ended, whose event may not be written yet.
_UNWRITTEN_S = 1.0
#: Entries of the bus that are read for one client at most: half a second of work. Who has missed
#: more has to look the state up.
MAX_BACKLOG = 50_000
#: Bytes the process keeps of what a client has not read; the kernel keeps more.
_UNSENT_BYTES = 16 * 1024
#: Milliseconds by which the clock of the bus may be ahead of that of an api process.
_SKEW_MS = 5_000
_RETRY_AFTER_S = 5
_STATUSES = frozenset(status.value for status in Status)
_NO_BUS = "there is no event bus (CRUCIBLE_EVENT_BUS_URL)"
_AWAY = "the event bus does not answer (CRUCIBLE_EVENT_BUS_URL)"


class _Stream:
    """One client's stream of events.

    Args:
        request: of the client.
        hub: has the events.
    """

    def __init__(self, request: web.Request, hub: EventHub) -> None:
        self._request = request
        self._hub = hub
        self._response = web.StreamResponse(
            headers={
                "Content-Type": CONTENT_TYPE,
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
            }
        )

    @property
    def response(self) -> web.StreamResponse:
        """What the handler returns."""
        return self._response

    async def open(self) -> None:
        """Send the head."""
        transport = self._request.transport
        if transport is not None:
            transport.set_write_buffer_limits(high=_UNSENT_BYTES)
        await self._response.prepare(self._request)

    async def send(self, *frames: bytes) -> None:
        """Send frames; returns once the client reads fast enough."""
        if frames:
            await self._response.write(b"".join(frames))

    @contextmanager
    def ending(self, subscription: Subscription) -> Iterator[None]:
        """End a subscription when the client leaves, and when the context closes."""
        connection = cast("GuardedHandler", self._request.protocol)
        connection.on_lost = lambda: subscription.end("left")
        try:
            yield
        finally:
            connection.on_lost = None
            self._hub.unsubscribe(subscription)

    async def say_cut(self, subscription: Subscription) -> None:
        """Say why nothing more comes."""
        if subscription.cut == "slow":
            # The same id: the client resumes from the last event it got.
            await self.send(resync_frame("slow", None))
        elif subscription.cut == "gap":
            await self.send(resync_frame("trimmed", self._hub.position))


async def follow_all(request: web.Request) -> web.StreamResponse:
    """``GET /api/events[?status=]``: the events of all evaluations of the caller's tenant."""
    statuses = _statuses_of(request)
    resumed = _last_event_id(request)
    tenant = caller_of(request).tenant
    hub = request.app.get(EVENT_HUB)
    if (answer := _plain_answer(request, hub, tenant)) is not None:
        return answer
    assert hub is not None
    with hub.serving(tenant):
        try:
            position = await hub.follow()
        except BrokerError:
            return unavailable(_AWAY, _RETRY_AFTER_S)
        stream = _Stream(request, hub)
        await stream.open()
        after = position if resumed is None else resumed
        await stream.send(opening(after))
        resuming = resumed is not None
        await _serve_all(stream, hub, after, tenant, statuses, resumed=resuming)
    return stream.response


async def _serve_all(
    stream: _Stream,
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

    reached = await _catch_up(stream, hub, after, send, check=resumed)
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


async def _catch_up(
    stream: _Stream,
    hub: EventHub,
    after: Position,
    send: Callable[[Sequence[Entry]], Awaitable[bool]],
    *,
    check: bool,
) -> Position | None:
    """Send what the bus has behind ``after``, up to where the hub is at the return.

    Args:
        stream: of the client.
        hub: has the events.
        after: where to begin.
        send: sends entries; False where nothing more is to be sent.
        check: look whether entries are missing even where the hub is no further.

    Returns:
        Where it has come to; None where the stream is over. The client comes again then, and goes
        on from where it is.
    """
    backlog = 0
    while check or after < hub.position:
        check = False
        try:
            page = await hub.pages.page(after)
        except BrokerError:
            return None
        backlog += len(page.entries)
        if page.gap or backlog > MAX_BACKLOG:
            await stream.send(resync_frame("trimmed", None))
        if backlog > MAX_BACKLOG:
            return hub.position
        after = page.position
        if not await send(page.entries):
            return None
    return after


async def follow_one(request: web.Request) -> web.StreamResponse:
    """``GET /api/eval/{eval_id}/events``: the events of one evaluation, up to its end.

    It begins with ``queued``, and has only events that are later than those before. 204 where a
    client that has seen the end asks again, as browsers do: that makes them stop.
    """
    caller, eval_id = caller_of(request), request.match_info["eval_id"]
    resumed = _last_event_id(request)
    evaluation = await request.app[SERVICE].look_up(caller, eval_id)
    hub = request.app.get(EVENT_HUB)
    if (answer := _plain_answer(request, hub, caller.tenant)) is not None:
        return answer
    assert hub is not None
    if resumed is not None and resumed.ended and evaluation.status in ENDED:
        return web.Response(status=204)
    with hub.serving(caller.tenant):
        one = _OneEvaluation(request, hub, caller, evaluation)
        try:
            await hub.follow()
            if resumed is not None and await one.resume(resumed):
                return web.Response(status=204)
        except BrokerError:
            return unavailable(_AWAY, _RETRY_AFTER_S)
        await one.serve(resumed)
        return one.stream.response


class _OneEvaluation:
    """The stream of one evaluation.

    Args:
        request: of the client.
        hub: has the events.
        caller: whose evaluation it is.
        evaluation: as it was when the client asked.

    Attributes:
        stream: what the client gets.
    """

    def __init__(
        self, request: web.Request, hub: EventHub, caller: Principal, evaluation: Evaluation
    ) -> None:
        self.stream = _Stream(request, hub)
        self._service = request.app[SERVICE]
        self._hub = hub
        self._caller = caller
        self._eval_id = evaluation.eval_id
        self._evaluation = evaluation
        #: ``seq`` of the last event the client has seen; -1 for none.
        self._seen = -1

    async def resume(self, resumed: Position) -> bool:
        """Take up what the client has seen; whether that is everything there will be."""
        entry = await self._hub.pages.entry(resumed)
        # Whoever has an id has got the first frame, which is ``queued``.
        self._seen = QUEUED
        if entry is None or not self._is_ours(entry.event):
            return False
        self._seen = entry.event.seq
        return entry.event.terminal and self._evaluation.status in ENDED

    def _is_ours(self, event: Event) -> bool:
        return (
            event.eval_id == self._eval_id
            and event.tenant == self._caller.tenant
            # In dual write the copy in the other queue system has events too.
            and event.queue_system == self._evaluation.queue_system
        )

    async def serve(self, resumed: Position | None) -> None:
        """Send events until the end, or until the client leaves."""
        await self.stream.open()
        if resumed is None:
            if await self._send_end():
                return
            after = await self._begin()
            if after is None:
                return
        else:
            after = resumed
        reached = await _catch_up(self.stream, self._hub, after, self._send, check=True)
        if reached is None:
            return
        subscription = self._hub.subscribe(after=reached, eval_id=self._eval_id)
        with self.stream.ending(subscription):
            await self._follow(subscription)

    async def _begin(self) -> Position | None:
        """Send ``queued``; the position behind which all other events are, None without a bus."""
        created_ms = _ms_of(self._evaluation.created_at)
        after = Position(max(0, created_ms - _SKEW_MS), 0)
        try:
            page = await self._hub.pages.page(after, 1)
        except BrokerError:
            return None
        if page.first is None or page.first > after:
            after = START
        first = Event(
            self._eval_id,
            QUEUED,
            created_ms,
            Transition.QUEUED,
            Status.QUEUED.value,
            self._caller.tenant,
            self._evaluation.queue,
            self._evaluation.queue_system,
        )
        await self.stream.send(opening(after), event_frame(first, after))
        self._seen = QUEUED
        return after

    async def _send(self, entries: Sequence[Entry]) -> bool:
        """Send those that are later than what the client has seen; False after the end."""
        frames, ended = [], False
        for entry in entries:
            event = entry.event
            if self._is_ours(event) and event.seq > self._seen and not ended:
                self._seen, ended = event.seq, event.terminal
                frames.append(entry_frame(entry))
        await self.stream.send(*frames)
        return not ended

    async def _follow(self, subscription: Subscription) -> None:
        while True:
            has_ended = self._evaluation.status in ENDED
            taken = await subscription.take(_UNWRITTEN_S if has_ended else HEARTBEAT_S)
            if taken:
                if not await self._send([entry for entry, _ in taken]):
                    return
            elif subscription.cut:
                await self.stream.say_cut(subscription)
                return
            elif await self._send_end():
                return
            else:
                await self.stream.send(HEARTBEAT)
                await self._refresh()

    async def _refresh(self) -> None:
        """Look the evaluation up: its end may be lost with a worker that was killed."""
        with suppress(BrokerError, LegacyError, NotFound):
            self._evaluation = await self._service.look_up(self._caller, self._eval_id)

    async def _send_end(self) -> bool:
        """Send the end as the result says it; False where there is none."""
        end = as_read(self._evaluation, self._caller.tenant, max(self._seen, 0))
        if end is None:
            return False
        await self.stream.send(event_frame(end, self._hub.position.end_at()))
        return True


def render(entry: Entry) -> bytes:
    """What the hub sends for an entry."""
    return entry_frame(entry)


def _plain_answer(request: web.Request, hub: EventHub | None, tenant: str) -> web.Response | None:
    """The answer where no stream is served; None where one is."""
    if hub is None:
        return unavailable(_NO_BUS, _RETRY_AFTER_S)
    if refusal := hub.refusal(tenant):
        return unavailable(refusal, _RETRY_AFTER_S)
    if request.method == "HEAD":
        return web.Response(content_type=CONTENT_TYPE)
    return None


def _last_event_id(request: web.Request) -> Position | None:
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


def _ms_of(text: str | None) -> int:
    return 0 if text is None else int(datetime.fromisoformat(text).timestamp() * 1000)
