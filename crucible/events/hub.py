"""Follows the stream once for all clients of an api process.

The hub reads while anybody subscribes, so that a process without such clients spends nothing on
events it does not need. A subscription has a bounded queue of frames, rendered once for all that
get them. One that is not emptied in time is cut: its queue is dropped and its client, which can
resume from the bus, has to ask again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

from crucible.broker.redis.connection import open_client
from crucible.errors import BrokerError
from crucible.events.position import START, Position
from crucible.events.reader import EventReader
from crucible.events.subscription import Subscription
from crucible.fail_fast_lock import FailFastLock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from crucible.events.reader import Entry
    from crucible.redis_keys import Keys

log = logging.getLogger(__name__)

#: Entries a subscription may have in its queue.
QUEUE_LIMIT = 1000
#: Milliseconds a read waits for an entry, and seconds until one that was not answered is given up.
_BLOCK_MS, _READ_S = 5_000, 10.0
#: Seconds between attempts while the bus is away.
_AWAY_S = 0.5
#: Seconds a hub goes on reading when the last client has left: many come again at once.
_LINGER_S = 5.0


class Frames(Protocol):
    """Renders entries for clients."""

    def __call__(self, entry: Entry) -> bytes:
        """The bytes that clients get for an entry."""


class EventHub:
    """Fans the stream out to subscriptions; opened with ``open_hub``.

    Args:
        live: reads what is new, on a connection that may block.
        pages: reads what clients missed.
        render: renders entries for clients.
        limit: subscriptions at once, 0 for no limit.
        limit_of_tenant: the same of one tenant.

    Attributes:
        pages: reads what clients missed.
        position: the last entry that was fanned out.
        totals: subscriptions that were cut, by reason.
        lag_s: seconds between the last entry's time and its reading.
    """

    def __init__(
        self,
        live: EventReader,
        pages: EventReader,
        render: Frames,
        *,
        limit: int = 0,
        limit_of_tenant: int = 0,
    ) -> None:
        self.pages = pages
        self.position = START
        self.totals: Counter[str] = Counter()
        self.lag_s = 0.0
        self._live = live
        self._render = render
        self._limit = limit
        self._limit_of_tenant = limit_of_tenant
        self._by_eval: dict[str, set[Subscription]] = {}
        self._by_tenant: dict[str | None, set[Subscription]] = {}
        self._admitted: Counter[str] = Counter()
        self._following: asyncio.Task[None] | None = None
        self._starting = FailFastLock()
        self._closed = False

    @property
    def clients(self) -> int:
        """Clients that are being served."""
        return self._admitted.total()

    def refusal(self, tenant: str) -> str:
        """Why no more clients of ``tenant`` are served, for people; empty where they are."""
        if self._limit and self.clients >= self._limit:
            return "too many streams of events are open (CRUCIBLE_MAX_EVENT_STREAMS)"
        if self._limit_of_tenant and self._admitted[tenant] >= self._limit_of_tenant:
            return (
                "too many streams of events are open for this tenant "
                "(CRUCIBLE_MAX_EVENT_STREAMS_PER_TENANT)"
            )
        return ""

    @contextmanager
    def serving(self, tenant: str) -> Iterator[None]:
        """Count a client of ``tenant`` while the context is open."""
        self._admitted[tenant] += 1
        try:
            yield
        finally:
            self._admitted[tenant] -= 1
            if not self._admitted[tenant]:
                del self._admitted[tenant]

    async def follow(self) -> Position:
        """Start reading unless that is going on; where it has come to.

        Raises:
            BrokerError: the bus does not answer.
        """
        async with self._starting.hold():
            if self._following is None or self._following.done():
                self.position = await self.pages.last()
                self._following = asyncio.create_task(self._follow(), name="crucible-event-hub")
        return self.position

    def subscribe(
        self,
        *,
        after: Position,
        tenant: str | None = None,
        eval_id: str | None = None,
        statuses: frozenset[str] = frozenset(),
    ) -> Subscription:
        """Queue what comes from now on; the caller unsubscribes.

        Only complete for entries behind ``position``: what is between ``after`` and that is for the
        caller to read, before anything is awaited.

        Args:
            after: entries up to this one are left out.
            tenant: whose events; None for those of anybody.
            eval_id: of one evaluation only.
            statuses: events with one of these; empty for all.
        """
        made = Subscription(tenant, eval_id, statuses, after, QUEUE_LIMIT)
        if self._closed:
            made.end("closed")
        elif eval_id is not None:
            self._by_eval.setdefault(eval_id, set()).add(made)
        else:
            self._by_tenant.setdefault(tenant, set()).add(made)
        return made

    def unsubscribe(self, subscription: Subscription) -> None:
        """Queue nothing more."""
        if subscription.eval_id is not None:
            _discard(self._by_eval, subscription.eval_id, subscription)
        else:
            _discard(self._by_tenant, subscription.tenant, subscription)

    @property
    def subscriptions(self) -> list[Subscription]:
        """All of them."""
        groups = (*self._by_eval.values(), *self._by_tenant.values())
        return [one for group in groups for one in group]

    async def _follow(self) -> None:
        idle_since: float | None = None
        while not self._closed:
            try:
                async with asyncio.timeout(_READ_S):
                    await self._live.wait(self.position, _BLOCK_MS)
                    # Also where nothing came: a bus that was emptied numbers from the start.
                    await self._read()
            except (BrokerError, TimeoutError) as error:
                log.debug("events cannot be followed now: %s", error)
                await asyncio.sleep(_AWAY_S)
            now = time.monotonic()
            idle_since = None if self.clients else (idle_since or now)
            if idle_since is not None and now - idle_since > _LINGER_S:
                return

    async def _read(self) -> None:
        """Fan out what follows ``position``."""
        while True:
            page = await self._live.page(self.position)
            if page.gap:
                self._end_all("gap")
            for entry in page.entries:
                self._fan_out(entry)
            self.position = page.position
            if page.entries:
                self.lag_s = max(0.0, time.time() - page.entries[-1].event.at / 1000)
            if page.at_end:
                return

    def _fan_out(self, entry: Entry) -> None:
        event = entry.event
        item: tuple[Entry, bytes] | None = None
        for group in (
            self._by_eval.get(event.eval_id),
            self._by_tenant.get(event.tenant),
            self._by_tenant.get(None),
        ):
            for one in group or ():
                if one.wants(event):
                    item = item or (entry, self._render(entry))
                    one.put(item)
                    if one.cut == "slow":
                        self.totals["slow"] += 1

    def _end_all(self, why: str) -> None:
        for one in self.subscriptions:
            one.end(why)
            self.totals[why] += 1

    def close(self) -> None:
        """End every subscription in order; those that are made later end at once."""
        self._closed = True
        self._end_all("closed")

    async def stop(self) -> None:
        """Close, and stop reading."""
        self.close()
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)


_Key = TypeVar("_Key")


def _discard(index: dict[_Key, set[Subscription]], key: _Key, one: Subscription) -> None:
    group = index.get(key)
    if group is not None:
        group.discard(one)
        if not group:
            del index[key]


@asynccontextmanager
async def open_hub(
    url: str, keys: Keys, render: Frames, *, limit: int = 0, limit_of_tenant: int = 0
) -> AsyncIterator[EventHub]:
    """A hub over two clients of the bus; nothing is connected before the first subscription.

    Args:
        url: the event bus.
        keys: key names.
        render: renders entries for clients.
        limit: clients at once, 0 for no limit.
        limit_of_tenant: the same of one tenant.

    Raises:
        ValueError: the URL cannot be used.
    """
    async with (
        open_client(url, command_timeout_s=None, name="events-live") as live,
        open_client(url, name="events") as pages,
    ):
        hub = EventHub(
            EventReader(live, keys),
            EventReader(pages, keys),
            render,
            limit=limit,
            limit_of_tenant=limit_of_tenant,
        )
        try:
            yield hub
        finally:
            await hub.stop()
