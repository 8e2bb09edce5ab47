"""The stream of one evaluation, from ``queued`` to its end."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from crucible.api.app_keys import SERVICE
from crucible.api.events.frames import HEARTBEAT, entry_frame, event_frame, opening
from crucible.api.events.stream import HEARTBEAT_S, Stream, catch_up
from crucible.errors import BrokerError, LegacyError, NotFound
from crucible.evaluation.transitions import as_read
from crucible.events.event import QUEUED, Event, Transition
from crucible.events.position import START, Position
from crucible.models import ENDED, Evaluation, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from crucible.events.hub import EventHub
    from crucible.events.reader import Entry
    from crucible.events.subscription import Subscription
    from crucible.identity.principal import Principal

#: Seconds to wait for the event of an end that is known, and may not be written yet.
_UNWRITTEN_S = 1.0
#: Milliseconds by which the clock of the bus may be behind that of an api process.
_SKEW_MS = 5_000


class EvaluationStream:
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
        self.stream = Stream(request, hub)
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
        reached = await catch_up(self.stream, self._hub, after, self._send, check=True)
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


def _ms_of(text: str | None) -> int:
    return 0 if text is None else int(datetime.fromisoformat(text).timestamp() * 1000)
