"""An embedded server of ``crucible up``: started again when it dies."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from crucible.errors import RequirementError
from crucible.up.service import RESTART_S

if TYPE_CHECKING:
    from types import TracebackType

    from crucible.embedded.server import EmbeddedServer

log = logging.getLogger(__name__)


class Server:
    """An embedded server that is kept running while the context is open.

    It is started again on the same port and directory: its clients reconnect, and its append-only
    file has everything that it had confirmed.

    Args:
        name: its name in the log.
        server: the server, not started.
    """

    def __init__(self, name: str, server: EmbeddedServer) -> None:
        self._name = name
        self._server = server
        self._running = AsyncExitStack()
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start it and wait until it answers; raises RequirementError."""
        await self._running.enter_async_context(self._server)
        log.info("%s on port %d, data in %s", self._name, self._server.port, self._server.directory)
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def _keep(self) -> None:
        while True:
            code = await self._server.exited()
            log.warning("%s exited with code %d, restarting it", self._name, code)
            await asyncio.sleep(RESTART_S)
            try:
                await self._server.restart()
            except (RequirementError, OSError) as error:
                # A full disk or a lack of memory may pass, so it is tried again.
                log.error("%s did not start: %s", self._name, error)
            else:
                log.info("%s answers again on port %d", self._name, self._server.port)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._keeper is not None
        self._keeper.cancel()
        try:
            # First, so that it does not restart what is stopped now.
            await asyncio.wait({self._keeper})
        finally:
            await self._running.aclose()
