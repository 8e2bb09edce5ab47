"""Requests as parts of traces, for every HTTP service of the project."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from crucible.tracing import TRACEPARENT, active

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

    from crucible.tracing import Tracing


def traced(tracing: Tracing) -> Middleware:
    """A middleware that has sampled requests handled within their traces.

    It has to be the outermost one, so that what it sees is what is answered.
    """

    @web.middleware
    async def traced(request: web.Request, handler: Handler) -> web.StreamResponse:
        field = request.headers.get(TRACEPARENT)
        trace = tracing.request(request.method, _route_of(request), field)
        if trace is None:
            return await handler(request)
        status = 500
        with active(trace):
            try:
                response = await handler(request)
                status = response.status
            except web.HTTPException as error:
                status = error.status
                raise
            finally:
                trace.ended(status)
        return response

    return traced


def _route_of(request: web.Request) -> str:
    """The path as the router has it; of unknown paths none, for there are as many as one likes."""
    resource = request.match_info.route.resource
    return "" if resource is None else resource.canonical
