"""Several api processes on one port, kept running: the kernel shares clients out among them."""

from __future__ import annotations

import asyncio
import logging
import socket
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import aiohttp
import msgspec

from crucible.errors import RequirementError
from crucible.settings import child_environ, http_url
from crucible.up.service import Service
from crucible.up.stack import API_STOP_S, READY_S, free_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from crucible.settings import Settings

log = logging.getLogger(__name__)

#: Seconds between two looks whether they answer.
_LOOK_S = 0.1


async def run_processes(
    settings: Settings, stop: asyncio.Event, write: Callable[[str, str], None]
) -> None:
    """Serve until asked to stop; requests in flight are answered first.

    Args:
        settings: ``processes`` of them are started.
        stop: ends it.
        write: called with the name and each log line of a process.

    Raises:
        RequirementError: the port is taken, or none of them starts.
    """
    port = free_address(settings.host, settings.port)
    decided = msgspec.structs.replace(settings, port=port, processes=1)
    # The settings were read here, and are passed on in full.
    environ = child_environ(decided)
    with (
        tempfile.TemporaryDirectory(prefix="crucible-api-") as shared,
        _reserved(settings.host, port),
    ):
        services = [
            Service(f"api-{number}", ["api", "--shared", shared], environ, write, stop_s=API_STOP_S)
            for number in range(1, settings.processes + 1)
        ]
        ending = asyncio.Event()
        kept = [asyncio.create_task(_keep(service, ending)) for service in services]
        try:
            await _started(http_url(settings.host, port), services, stop)
            await stop.wait()
        finally:
            ending.set()
            await asyncio.gather(*kept)


async def _keep(service: Service, ending: asyncio.Event) -> None:
    """All of them are stopped at the same time, each in its own task."""
    async with service:
        await ending.wait()


async def _started(url: str, services: list[Service], stop: asyncio.Event) -> None:
    """Return once one of them answers; a first start that fails is no accident to mend."""
    try:
        async with asyncio.timeout(READY_S), aiohttp.ClientSession() as session:
            while not (await _answers(session, url) or stop.is_set()):
                await asyncio.sleep(_LOOK_S)
                if not any(service.running for service in services):
                    raise RequirementError("the api did not start; its log says why")
    except TimeoutError:
        raise RequirementError(f"not ready within {READY_S:.0f} s; the log says why") from None
    log.info("%d api processes on %s", len(services), url)


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/health") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


@contextmanager
def _reserved(host: str, port: int) -> Iterator[None]:
    """Keep the port while its processes come and go; it does not listen, so it gets no client."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, port))
        yield
