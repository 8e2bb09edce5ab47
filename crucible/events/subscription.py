"""What one client is to get of the stream: a bounded queue of frames."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crucible.events.event import Event
    from crucible.events.position import Position
    from crucible.events.reader import Entry


class Subscription:
    """What one client is to get.

    Attributes:
        cut: why nothing more comes: ``slow``, ``gap`` (entries were trimmed before they were read),
            ``key`` (that of the client is not valid any more), ``left`` or ``closed``; empty while
            it lives.
    """

    __slots__ = ("_changed", "_frames", "_limit", "after", "cut", "eval_id", "statuses", "tenant")

    def __init__(
        self,
        tenant: str | None,
        eval_id: str | None,
        statuses: frozenset[str],
        after: Position,
        limit: int,
    ) -> None:
        self.tenant = tenant
        self.eval_id = eval_id
        self.statuses = statuses
        self.after = after
        self.cut = ""
        self._limit = limit
        self._frames: deque[tuple[Entry, bytes]] = deque()
        self._changed = asyncio.Event()

    def wants(self, event: Event) -> bool:
        """Whether it is for this client."""
        return (
            (self.eval_id is None or event.eval_id == self.eval_id)
            and (self.tenant is None or event.tenant == self.tenant)
            and (not self.statuses or event.status in self.statuses)
        )

    def put(self, item: tuple[Entry, bytes]) -> None:
        """Queue an entry and its frame; cuts the subscription where it is full.

        All subscriptions have the same object: thousands of clients keep hundreds of entries each.
        """
        if item[0].position <= self.after or self.cut:
            return
        if len(self._frames) >= self._limit:
            self.end("slow")
            return
        self._frames.append(item)
        self._changed.set()

    def end(self, why: str) -> None:
        """Nothing more comes; what waits is dropped where the client is not to have it."""
        if not self.cut:
            self.cut = why
            if why in ("slow", "key"):
                self._frames.clear()
            self._changed.set()

    async def take(self, timeout_s: float) -> list[tuple[Entry, bytes]]:
        """What is queued, at the latest after ``timeout_s`` seconds; nothing then, or when cut."""
        if not self._frames and not self.cut:
            self._changed.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
            except TimeoutError:
                return []
        taken = list(self._frames)
        self._frames.clear()
        return taken
