"""Worker events: online, a heartbeat every two seconds, offline."""

from __future__ import annotations

import asyncio
import json
import math
import os
import platform
from typing import TYPE_CHECKING

import crucible

if TYPE_CHECKING:
    from collections.abc import Callable

    from crucible.broker.control.event_stream import EventStream

#: Seconds between heartbeats; peers take a worker for lost after twice as many.
FREQ_S = 2.0
#: What this worker is. Nobody decides anything by it (not Flower, not stock workers), so it says
#: the truth: software that passed for ``py-celery`` would also pass for one of its versions.
SOFTWARE = {
    "sw_ident": "crucible",
    "sw_ver": crucible.__version__,
    "sw_sys": platform.system(),
}


def load_average() -> list[float]:
    """The machine's load, rounded up to two places as stock does."""
    return [math.ceil(load * 100) / 100 for load in os.getloadavg()]


class WorkerEvents:
    """Sends the events of the worker itself.

    Args:
        stream: sends the events.
        active: how many tasks run.
        processed: how many were started.
    """

    def __init__(
        self, stream: EventStream, active: Callable[[], int], processed: Callable[[], int]
    ) -> None:
        self._stream = stream
        self._active = active
        self._processed = processed
        self._connected = asyncio.Event()

    def connected(self) -> None:
        """Send worker-online again: the connection is new."""
        self._connected.set()

    async def run(self, beat: Callable[[], None]) -> None:
        """Send heartbeats until cancelled.

        Raises:
            BrokerError: the server is gone or refuses; run again.
        """
        while True:
            if self._connected.is_set():
                self._connected.clear()
                await self.send("worker-online")
            beat()
            try:
                async with asyncio.timeout(FREQ_S):
                    await self._connected.wait()
            except TimeoutError:
                await self.send("worker-heartbeat")

    async def send(self, kind: str) -> None:
        """Send one event with every field.

        Raises:
            BrokerError: it is not known to be sent.
        """
        self._stream.look_at_the_clock()
        fields = {
            "freq": FREQ_S,
            "active": self._active(),
            "processed": self._processed(),
            "loadavg": load_average(),
            **SOFTWARE,
        }
        await self._stream.announce(kind, json.dumps(fields)[1:-1])

    async def send_short_heartbeat(self) -> None:
        """The short heartbeat that the ``heartbeat`` command asks for.

        Raises:
            BrokerError: it is not known to be sent.
        """
        await self._stream.announce("worker-heartbeat", json.dumps({"freq": 5, **SOFTWARE})[1:-1])
