"""aiohttp's runner and server, with connections of ours."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aiohttp.web_protocol import RequestHandler

from crucible.api.app_keys import SERVICE, SETTINGS
from crucible.api.fast_path.connection import Connection
from crucible.api.fast_path.protocol import ProblemRunner, ProblemServer
from crucible.evaluation.service import EvaluationService

if TYPE_CHECKING:
    from aiohttp.web_server import Server

log = logging.getLogger(__name__)

#: What ``Connection`` uses of aiohttp's beyond the documented parts.
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


class DirectServer(ProblemServer):
    """A server whose connections answer plain submissions themselves.

    Args:
        server: the application's own.
        service: takes submissions.
        max_body_bytes: longer bodies are refused.
    """

    def __init__(self, server: Server, service: EvaluationService, max_body_bytes: int) -> None:
        super().__init__(server)
        self._gateway = service
        self._max_body_bytes = max_body_bytes

    def __call__(self) -> RequestHandler:
        """A connection."""
        return Connection(
            self, self._gateway, self._max_body_bytes, loop=self._loop, **self._kwargs
        )


class DirectRunner(ProblemRunner):
    """Runs the application; submissions take the short way where there is no other side."""

    async def _make_server(self) -> Server:
        server = await super()._make_server()
        service = self.app[SERVICE]
        # One with two sides decides anew for each evaluation: its own handlers do that.
        if type(service) is not EvaluationService:
            return server
        if not is_known(RequestHandler):
            log.warning("this aiohttp is not known: submissions go the slower way")
            return server
        return DirectServer(server, service, self.app[SETTINGS].max_body_kb * 1024)
