"""The pytest fixture ``crucible_service``: ``pytest_plugins = ["crucible.testing.fixtures"]``."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from crucible.testing.service import RunningService, running_service

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds a service may take to start, and to stop.
_START_S, _STOP_S = 120.0, 30.0


@pytest.fixture(scope="session")
def crucible_service() -> Iterator[RunningService]:
    """A real service for the session; for tests with an event loop of their own and without one."""
    ready = threading.Event()
    found: list[RunningService | BaseException] = []
    stopping: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def run() -> None:
        stop = asyncio.Event()
        stopping.append((asyncio.get_running_loop(), stop))
        async with running_service() as service:
            found.append(service)
            ready.set()
            await stop.wait()

    def main() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            found.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=main, name="crucible-service", daemon=True)
    thread.start()
    if not ready.wait(_START_S):
        raise TimeoutError("the service did not start")
    service = found[0]
    if isinstance(service, BaseException):
        raise service
    yield service
    loop, stop = stopping[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(_STOP_S)
