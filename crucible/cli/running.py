"""Runs a service in the foreground: event loop, signals, logging."""

from __future__ import annotations

import asyncio
import gc
import signal
from typing import TYPE_CHECKING, Any

import uvloop

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from crucible.settings import Settings

#: Net allocations of container objects that trigger a garbage collection: a few MiB at most.
_GC_THRESHOLD = 20_000


def run(service: Coroutine[Any, Any, None], settings: Settings) -> None:
    """Run a service on uvloop until it returns, with its log as the settings say."""
    # Imported here so that commands that run no service do not load it.
    from crucible.cli.logs import configure

    configure(settings.log_level, settings.log_format)
    # Requests and tasks in progress are many objects and hardly any cycles: at the default of 700
    # the collector scans all of them constantly, which takes a tenth of the processor time.
    gc.set_threshold(_GC_THRESHOLD, *gc.get_threshold()[1:])
    uvloop.run(service)


def keep_from_collector() -> None:
    """Have the garbage collector look no more at what there is now: it stays until the end.

    For a service that has started. Modules and routes are a hundred thousand objects; each full
    collection would stop the service for as long as it takes to scan them.
    """
    gc.collect()
    gc.freeze()


class StopSignals:
    """SIGINT and SIGTERM, or the signals given, as events.

    Attributes:
        stop: set by the first signal: shut down gracefully.
        hurry: set by the second: shut down at once.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in numbers or (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._received)

    def _received(self) -> None:
        if self.stop.is_set():
            self.hurry.set()
        self.stop.set()
