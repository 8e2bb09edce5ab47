"""Connections whose errors are problem documents even where no handler is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server

from crucible.http.problems import of_http, of_protocol

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from aiohttp.web_request import BaseRequest


class ProblemHandler(RequestHandler):
    """One connection."""

    __slots__ = ()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to bytes that are no request; it closes the connection."""
        # For its log, and for its check that no answer was begun.
        super().handle_error(request, status, exc, message)
        answer = of_protocol(status, exc)
        answer.force_close()
        return answer

    def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Send an answer; errors raised before the middleware become problem documents here."""
        if isinstance(resp, web.HTTPException) and resp.status >= 400:
            resp = of_http(resp)
        return super().finish_response(request, resp, start_time)


class ProblemServer(Server):
    """A server of such connections.

    Args:
        server: the application's own.
    """

    def __init__(self, server: Server) -> None:
        # The application made it with its options; no connection exists yet.
        vars(self).update(vars(server))

    def __call__(self) -> RequestHandler:
        """A connection."""
        return ProblemHandler(self, loop=self._loop, **self._kwargs)


class ProblemRunner(web.AppRunner):
    """Runs the application."""

    async def _make_server(self) -> Server:
        return ProblemServer(await super()._make_server())
