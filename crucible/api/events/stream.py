"""One client's stream of events.

A stream is served in two phases. First it catches up: what follows the client's ``Last-Event-ID``
is read from the bus, page by page, at the speed at which the client reads. Once it has come to
where the hub is, it subscribes, without an await in between: every event is in exactly one of the
two.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from aiohttp import web

from crucible.api.callers import CALLERS
from crucible.api.events.frames import CONTENT_TYPE, KEY_ENDED, resync_frame
from crucible.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from crucible.events.hub import EventHub
    from crucible.events.position import Position
    from crucible.events.reader import Entry
    from crucible.events.subscription import Subscription
    from crucible.http.protocol import GuardedHandler

#: Seconds without an event after which a heartbeat is sent.
HEARTBEAT_S = 15.0
#: Entries of the bus that are read for one client at most: half a second of work. Who has missed
#: more has to look the state up.
MAX_BACKLOG = 50_000
#: Bytes the process keeps of what a client has not read; the kernel keeps more.
_UNSENT_BYTES = 16 * 1024
#: Bytes of frames, about, that are written at once: each client's are a copy.
_PART_BYTES = 4 * 1024


class Stream:
    """One client's stream of events.

    Args:
        request: of the client.
        hub: has the events.
    """

    def __init__(self, request: web.Request, hub: EventHub) -> None:
        self._request = request
        self._hub = hub
        self._callers = request.app[CALLERS]
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
        part: list[bytes] = []
        size = 0
        for frame in frames:
            part.append(frame)
            size += len(frame)
            if size >= _PART_BYTES:
                await self._response.write(b"".join(part))
                part, size = [], 0
        if part:
            await self._response.write(b"".join(part))

    @contextmanager
    def ending(self, subscription: Subscription) -> Iterator[None]:
        """End a subscription when the client leaves or its key ends, and when this closes."""
        connection = cast("GuardedHandler", self._request.protocol)
        connection.on_lost = lambda: subscription.end("left")
        try:
            with self._callers.watching(self._request, lambda: subscription.end("key")):
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
        elif subscription.cut == "key":
            await self.send(KEY_ENDED)

    async def has_lost_key(self) -> bool:
        """Whether the client's key is not valid any more; it is said then."""
        if self._callers.still_admitted(self._request):
            return False
        await self.send(KEY_ENDED)
        return True


async def catch_up(
    stream: Stream,
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
        if await stream.has_lost_key():
            return None
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
