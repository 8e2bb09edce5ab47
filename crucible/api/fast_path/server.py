"""aiohttp's runner and server with the connections of the fast path."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aiohttp.web_protocol import RequestHandler

from crucible.api.app_keys import FAST_PATH, SETTINGS
from crucible.api.callers import CALLERS
from crucible.api.fast_path.connection import Connection, Submitting
from crucible.api.traces import TRACING
from crucible.http.hosts import HOSTS
from crucible.http.protocol import GuardedRunner, GuardedServer

if TYPE_CHECKING:
    from aiohttp.web_server import Server

    from crucible.http.guard import ConnectionGuard

log = logging.getLogger(__name__)

#: Undocumented attributes of aiohttp's connections that ``Connection`` uses.
INTERNALS = frozenset(
    {
        "_close",
        "_force_close",
        "_handler_waiter",
        "_keepalive_timeout",
        "_loop",
        "_manager",
        "_messages",
        "_next_keepalive_close_time",
        "_pause_transport_reading",
        "_paused",
        "_process_keepalive",
        "_request_in_progress",
        "_resume_transport_reading",
        "_waiter",
    }
)


def is_known(handler: type) -> bool:
    """Whether a connection class of aiohttp has the parts that ``Connection`` builds on."""
    return all(hasattr(handler, name) for name in INTERNALS)


class FastPathServer(GuardedServer):
    """A server whose connections answer plain submissions.

    Args:
        server: the application's own.
        guard: keeps count of its connections.
        submitting: takes their submissions.
    """

    def __init__(self, server: Server, guard: ConnectionGuard, submitting: Submitting) -> None:
        super().__init__(server, guard)
        self._submitting = submitting

    def __call__(self) -> RequestHandler:
        """A connection."""
        return Connection(self, self._guard, self._submitting, loop=self._loop, **self._kwargs)


class FastPathRunner(GuardedRunner):
    """Runs the application, with the fast path where the application offers one."""

    async def _make_server(self) -> Server:
        server = await super()._make_server()
        service = self.app.get(FAST_PATH)
        if service is None:
            return server
        if not is_known(RequestHandler):
            log.warning("this aiohttp lacks what the fast path builds on: submissions are slower")
            return server
        max_body_bytes = self.app[SETTINGS].max_body_kb * 1024
        submitting = Submitting(
            service,
            max_body_bytes,
            self.app[HOSTS],
            self.app[CALLERS],
            self.app.get(TRACING),
        )
        return FastPathServer(server, self._guard, submitting)
