"""Publishes events to monitors such as Flower: packed by hand, sent in batches, in order.

Task events go as JSON lists under ``task.multi``, as stock's do; worker events one by one (stock
gossip refuses lists of them). Events wait while the server is away, up to ``MAX_WAITING``; beyond
that the oldest are dropped and counted, since the newest say where tasks stand now. A publication
whose reply was lost is sent again: monitors may see an event twice, never out of order.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from typing import TYPE_CHECKING

from crucible.broker.redis.connection import COMMAND_TIMEOUT_S
from crucible.broker.redis.translation import translated
from crucible.broker.wire.fanout import Envelope
from crucible.broker.wire.jsontypes import quote
from crucible.errors import BrokerError, BrokerUnavailable, NotPermitted
from crucible.redis_keys import EVENT_EXCHANGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from crucible.broker.control.lamport import LamportClock
    from crucible.broker.redis.link import Link
    from crucible.redis_keys import Keys

logger = logging.getLogger(__name__)

#: Events that may wait: about 15 MB of text.
MAX_WAITING = 50_000
#: Events in one message. Stock sends at most 24; receivers take any number.
BATCH = 200
#: Messages in one round trip.
_MESSAGES = 10
#: Seconds between two flushes: what comes in between shares their cost.
_PAUSE_S = 0.01
_MULTI = "task.multi"


def utc_offset_h() -> float:
    """Hours that local time is west of UTC, as events have it: UTC+2 is -2.0."""
    west_s = time.altzone if time.localtime().tm_isdst > 0 else time.timezone
    return west_s / 3600


class EventStream:
    """Sends the events of one node.

    Args:
        link: to the queue server.
        keys: key names.
        db: database number of the queue server, part of the channels' names.
        node: whose events; ``name@host``.
        clock: the node's logical clock.
        limit: events that may wait.

    Attributes:
        dropped: events that fell out because too many waited.
    """

    def __init__(
        self,
        link: Link,
        keys: Keys,
        db: int,
        node: str,
        clock: LamportClock,
        *,
        limit: int = MAX_WAITING,
    ) -> None:
        self.dropped = 0
        self._link = link
        self._keys = keys
        self._db = db
        self._clock = clock
        self._limit = limit
        self._node = quote(node)
        self._headers = f'{{"hostname": {self._node}}}'
        self._multi = Envelope(EVENT_EXCHANGE, _MULTI, self._headers)
        self._multi_channel = keys.event(db, _MULTI)
        self._head = ""
        self._waiting: deque[str] = deque(maxlen=limit)
        self._sending: list[str] = []
        self._wanted = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.look_at_the_clock()

    def look_at_the_clock(self) -> None:
        """Take note of the local offset, which changes twice a year in many places."""
        self._head = (
            f'{{"hostname": {self._node}, "utcoffset": {utc_offset_h()}, '
            f'"pid": {os.getpid()}, "clock": '
        )

    def add(self, tail: str) -> None:
        """Send a task event soon.

        Args:
            tail: its JSON text from behind the clock's value to the closing brace.
        """
        clock = self._clock
        clock.value += 1
        if len(self._waiting) == self._limit:
            self._count_dropped()
        self._waiting.append(f"{self._head}{clock.value}{tail}")
        if len(self._waiting) == 1:
            self._quiet.clear()
            self._wanted.set()

    def _count_dropped(self) -> None:
        if self.dropped % self._limit == 0:
            logger.warning("%d events wait for the server; the oldest are dropped", self._limit)
        self.dropped += 1

    async def announce(self, kind: str, fields: str) -> None:
        """Send one event about the node itself, now.

        Args:
            kind: such as ``worker-heartbeat``.
            fields: JSON members between the clock and the timestamp.

        Raises:
            BrokerError: it is not known to be sent.
        """
        routing_key = kind.replace("-", ".")
        event = (
            f'{self._head}{self._clock.forward()}, {fields}, "timestamp": {time.time()!r}, '
            f'"type": "{kind}"}}'
        )
        message = Envelope(EVENT_EXCHANGE, routing_key, self._headers).pack(event)
        with translated():
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                await self._link.call("PUBLISH", self._keys.event(self._db, routing_key), message)

    async def flushed(self) -> None:
        """Return when no task event waits."""
        await self._quiet.wait()

    async def run(self, beat: Callable[[], None]) -> None:
        """Send until cancelled; what is in hand then is sent by the next run.

        Raises:
            BrokerUnavailable: the server is gone; run again.
        """
        while True:
            if not self._sending:
                if not self._waiting:
                    self._quiet.set()
                    self._wanted.clear()
                    beat()
                    await self._wanted.wait()
                self._take()
            try:
                await self._publish(self._sending)
            except BrokerError as error:
                if isinstance(error, BrokerUnavailable) and not isinstance(error, NotPermitted):
                    raise
                # A server that forbids PUBLISH must not stop the tasks.
                logger.warning("%d events are refused: %s", len(self._sending), error)
                self.dropped += len(self._sending)
            self._sending = []
            beat()
            await asyncio.sleep(_PAUSE_S)

    def _take(self) -> None:
        waiting = self._waiting
        count = min(len(waiting), BATCH * _MESSAGES)
        self._sending = [waiting.popleft() for _ in range(count)]

    async def _publish(self, events: list[str]) -> None:
        commands = [
            ("PUBLISH", self._multi_channel, self._multi.pack(f"[{', '.join(part)}]"))
            for part in (events[at : at + BATCH] for at in range(0, len(events), BATCH))
        ]
        with translated():
            async with asyncio.timeout(COMMAND_TIMEOUT_S), self._link.connection() as held:
                await self._link.calls(held, commands)
