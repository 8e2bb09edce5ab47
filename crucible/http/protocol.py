"""aiohttp's connections, guarded, and with problem documents where no handler is called.

``http.guard`` decides when a connection has to end; here is what it learns from and how it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler, RequestPayloadError
from aiohttp.web_server import Server

from crucible.http.guard import GUARD, Fault, Part
from crucible.http.problems import first_line, of_http, of_protocol
from crucible.http.refusals import refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from aiohttp.streams import StreamReader
    from aiohttp.web_request import BaseRequest

    from crucible.http.guard import ConnectionGuard

#: Seconds a refused client has to take the reason. Closing at once, with bytes of it unread, would
#: reset the connection and could lose the answer.
LINGER_S = 2.0
#: First bytes of what is no HTTP/1: a TLS handshake, and the preface of HTTP/2.
_TLS, _HTTP2 = b"\x16\x03", b"PRI * HTTP/2"


class GuardedHandler(RequestHandler):
    """One connection.

    Args:
        server: aiohttp's server, to which it belongs.
        guard: keeps count of it.
        options: of aiohttp.

    Attributes:
        on_lost: called when the client is gone, for a handler that waits for other things.
    """

    __slots__ = ("_body", "_fault", "_guard", "_opening", "_timer", "_wire", "on_lost")

    def __init__(self, server: Server, guard: ConnectionGuard, **options: Any) -> None:
        super().__init__(server, **options)
        self._guard = guard
        self._opening = b""
        #: Of the last request whose head is complete.
        self._body: StreamReader | None = None
        #: aiohttp forgets its transport before everything was sent.
        self._wire: asyncio.Transport | None = None
        #: It was refused for this; what still arrives is dropped.
        self._fault: Fault | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.on_lost: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take it in, or refuse it: once it has asked, so that it gets to read why."""
        self._wire = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._fault = self._guard.admit(self, peer[0] if isinstance(peer, tuple) else "")
        if self._fault is None:
            super().connection_made(transport)
            return
        self._guard.count(self._fault)
        self.transport = self._wire
        if self._guard.keep_refused(self):
            self._timer = self._loop.call_later(LINGER_S, self._wire.abort)
        else:
            self._wire.abort()

    def data_received(self, data: bytes) -> None:
        """Bytes of the client; none when aiohttp resumes with what it has."""
        if self._fault is not None:
            if self.transport is not None:
                self._tell(self._fault)
            return
        if not self._opening:
            self._opening = data[: len(_HTTP2)]
        unfinished, requests = self._is_body_unfinished(), self._request_count
        super().data_received(data)
        begun = self._request_count != requests
        if begun:
            # Their handlers run later, so the last one is still there.
            self._body = self._messages[-1][1]
        if self._is_body_unfinished():
            self._guard.received(self, Part.BODY, len(data))
        elif begun or unfinished:
            self._guard.complete(self)
        elif data:
            self._guard.received(self, Part.HEAD, len(data))

    def _is_body_unfinished(self) -> bool:
        return self._body is not None and not self._body.is_eof()

    def pause_writing(self) -> None:
        """The client does not read its answers."""
        super().pause_writing()
        if self._wire is not None:
            self._guard.unread(self, self._wire.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The client reads again."""
        self._guard.read(self)
        super().resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Whoever ended it."""
        if self._timer is not None:
            self._timer.cancel()
        if self._guard.left(self) and self._task_handler is not None and not self._force_close:
            # aiohttp has neither closed it nor given up on its body.
            self._guard.count(Fault.HUNG_UP)
        self._wire = None
        if self.on_lost is not None:
            self.on_lost()
        super().connection_lost(exc)

    # What the guard asks of it (see ``guard.Guarded``)

    def is_closing(self) -> bool:
        """It was closed here, and the client has not taken everything yet."""
        return self._wire is not None and self._wire.is_closing()

    def end(self, fault: Fault) -> None:
        """Say why where that can still be said, and close."""
        wire, may_tell = self._wire, self._may_tell()
        if wire is None or self._fault is not None:
            return
        self._fault = fault
        if may_tell and not wire.is_closing():
            self._tell(fault)
            self._timer = self._loop.call_later(LINGER_S, wire.abort)
        else:
            wire.abort()

    def abort(self) -> None:
        """Close at once, whatever is left to send."""
        if self._wire is not None:
            self._wire.abort()

    def force_close(self) -> None:
        """Aiohttp's end of a connection, whose transport it may have been told to forget."""
        super().force_close()
        if self._fault is not None:
            self.abort()

    def _may_tell(self) -> bool:
        """Whether the next bytes sent would be the answer to the unfinished request."""
        if self._messages or self._paused:
            return False
        request = self._current_request
        if request is None:
            return self._waiter is not None and not self._waiter.done()
        return request.content is self._body

    def _tell(self, fault: Fault) -> None:
        wire, self.transport = self._wire, None
        assert wire is not None
        wire.write(refusal(fault))
        with contextlib.suppress(OSError, NotImplementedError):
            wire.write_eof()

    # Errors

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to bytes that are no request; it closes the connection."""
        if status >= 500:
            self.log_exception("error handling a request from %s", request.remote, exc_info=exc)
        else:
            self._guard.count(self._kind_of_malformed(), first_line(exc) if exc else "")
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has been begun, there is no room for another")
        answer = of_protocol(status, exc)
        answer.force_close()
        return answer

    def _kind_of_malformed(self) -> Fault:
        if self._opening.startswith(_TLS):
            return Fault.TLS
        return Fault.HTTP2 if self._opening == _HTTP2 else Fault.MALFORMED

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log a defect; a client that went away, or sent a broken body, is none."""
        error = kw.get("exc_info")
        if not isinstance(error, (ConnectionError, RequestPayloadError)):
            super().log_exception(*args, **kw)

    def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Send an answer; errors raised before the middleware become problem documents here."""
        if isinstance(resp, web.HTTPException) and resp.status >= 400:
            resp = of_http(resp)
        return super().finish_response(request, resp, start_time)


class GuardedServer(Server):
    """A server of such connections.

    Args:
        server: the application's own.
        guard: keeps count of its connections.
    """

    def __init__(self, server: Server, guard: ConnectionGuard) -> None:
        # The application made it with its options; no connection exists yet.
        vars(self).update(vars(server))
        self._guard = guard

    def __call__(self) -> RequestHandler:
        """A connection."""
        return GuardedHandler(self, self._guard, loop=self._loop, **self._kwargs)


class GuardedRunner(web.AppRunner):
    """Runs an application whose ``GUARD`` keeps count of its connections.

    Args:
        app: the application.
        options: of aiohttp.
    """

    def __init__(self, app: web.Application, **options: Any) -> None:
        self._guard = app[GUARD]
        options.setdefault("keepalive_timeout", self._guard.limits.idle_s)
        # Bodies are decoded by ``http.body``, which notices one that is cut.
        super().__init__(app, auto_decompress=False, **options)
        self._sweeping: asyncio.Task[None] | None = None

    async def _make_server(self) -> Server:
        server = GuardedServer(await super()._make_server(), self._guard)
        self._sweeping = asyncio.create_task(self._keep_sweeping(), name="crucible-http-guard")
        return server

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(self._guard.sweep_s)
            self._guard.sweep()

    async def cleanup(self) -> None:
        """Close every connection, then stop looking after them."""
        try:
            await super().cleanup()
        finally:
            self._guard.close()
            if self._sweeping is not None:
                self._sweeping.cancel()
                await asyncio.gather(self._sweeping, return_exceptions=True)
