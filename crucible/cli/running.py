"""Running a service of ours in the foreground: event loop, signals, log."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from typing import TYPE_CHECKING, Any

import uvloop

if TYPE_CHECKING:
    from collections.abc import Coroutine

#: Container objects made and not yet freed that set off a collection: a few MiB at most.
_GC_THRESHOLD = 20_000
_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def run(service: Coroutine[Any, Any, None], log_level: str) -> None:
    """Run a service on uvloop until it returns."""
    logging.basicConfig(level=log_level.upper(), format=_FORMAT)
    # Requests and tasks under way are many objects and hardly any cycles: at the default of 700 the
    # collector looks through all of them all the time, for a tenth of the processor.
    gc.set_threshold(_GC_THRESHOLD, *gc.get_threshold()[1:])
    uvloop.run(service)


class StopSignals:
    """SIGINT and SIGTERM as events.

    Attributes:
        stop: set by the first signal: end in good order.
        hurry: set by the second: end now.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._received)

    def _received(self) -> None:
        if self.stop.is_set():
            self.hurry.set()
        self.stop.set()
