"""A connection that answers plain submissions itself and leaves everything else to aiohttp.

``head`` decides what it may handle: one complete request at a time, while aiohttp handles none. All
other bytes go to aiohttp unchanged. Once aiohttp was given bytes that do not end where a request
ends, only aiohttp knows what the next ones mean, and it keeps the connection for good.

A request has three states: being read (``_partial`` until its body is complete), waiting for its
flush (``_draft``), answered. Bytes that arrive meanwhile are held in ``_held`` and reading is
paused, so that answers keep the order of their requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from crucible.api.fast_path.answer import accepted
from crucible.api.fast_path.head import first_request
from crucible.api.problems import busy, not_submitted
from crucible.errors import BrokerError, QuotaExceeded
from crucible.evaluation.record import public_id
from crucible.evaluation.request import decode_request
from crucible.http.answers import rendered
from crucible.http.guard import Fault, Part
from crucible.http.protocol import GuardedHandler
from crucible.tracing import active

if TYPE_CHECKING:
    from asyncio import BaseTransport
    from typing import Any

    from aiohttp.web_server import Server

    from crucible.api.callers import Callers
    from crucible.api.fast_path.head import Found
    from crucible.broker.publishing.group_commit import PublishResult
    from crucible.evaluation.celery_service import CeleryService
    from crucible.evaluation.submission import Draft
    from crucible.http.guard import ConnectionGuard
    from crucible.http.hosts import HostPolicy
    from crucible.tracing import RequestTrace, Tracing

#: Where the status is in an answer.
_STATUS = slice(9, 12)


class Submitting(NamedTuple):
    """What connections need to submit.

    Attributes:
        service: takes submissions.
        max_body_bytes: longer bodies are left to aiohttp, which refuses them.
        hosts: names under which the service is reached; other requests are left to aiohttp.
        callers: identifies clients; whom it cannot identify at once is left to aiohttp.
        tracing: decides which submissions are traced; None where tracing is off.
    """

    service: CeleryService
    max_body_bytes: int
    hosts: HostPolicy
    callers: Callers
    tracing: Tracing | None = None


class Connection(GuardedHandler):
    """One connection; the group commit calls it with the publish result (``group_commit.Told``).

    Args:
        server: aiohttp's server, to which this is another of its connections.
        guard: keeps count of it.
        submitting: takes its submissions.
        options: of aiohttp.
    """

    __slots__ = (
        "_caller_of",
        "_draft",
        "_foreign",
        "_given",
        "_held",
        "_max_body_bytes",
        "_needed",
        "_partial",
        "_raw",
        "_serves",
        "_service",
        "_trace",
        "_tracing",
    )

    def __init__(
        self, server: Server, guard: ConnectionGuard, submitting: Submitting, **options: Any
    ) -> None:
        super().__init__(server, guard, **options)
        self._service = submitting.service
        self._max_body_bytes = submitting.max_body_bytes
        self._serves = submitting.hosts.serves
        self._caller_of = submitting.callers.known
        self._tracing = submitting.tracing
        self._trace: RequestTrace | None = None
        #: aiohttp was given bytes; the last of them ended inside a request.
        self._given = self._foreign = False
        self._partial = bytearray()
        self._needed = 0
        self._draft: Draft | None = None
        self._raw = b""
        self._held = b""

    def connection_made(self, transport: BaseTransport) -> None:
        """Of a refused connection nothing is taken here."""
        super().connection_made(transport)
        self._foreign = self._fault is not None

    def data_received(self, data: bytes) -> None:
        """Bytes of the client; none when aiohttp resumes with what it has."""
        if self._foreign or not data or self._close or self._force_close:
            super().data_received(data)
        elif self._draft is not None or self._paused:
            self._hold(data)
        elif self._partial:
            self._partial += data
            if len(self._partial) >= self._needed:
                whole = bytes(self._partial)
                self._partial.clear()
                self._guard.complete(self)
                self._take(whole)
            else:
                self._guard.received(self, Part.BODY, len(data))
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        """Bytes that begin where a request begins, while this connection handles none itself."""
        found = first_request(data)
        if found is None or not self._is_ours(found):
            self._give(data, found)
        elif found.end > len(data):
            self._partial += data
            self._needed = found.end
            self._guard.received(self, Part.BODY, len(data))
        elif not self._begin(data, found):
            self._give(data, found)
        elif found.end < len(data):
            self._hold(data[found.end :])

    def _is_ours(self, found: Found) -> bool:
        return (
            found.head.submits
            and self._serves(found.head.host)
            and found.head.length <= self._max_body_bytes
            and (not self._given or self._is_aiohttp_idle())
        )

    def _is_aiohttp_idle(self) -> bool:
        waiter = self._waiter
        return waiter is not None and not waiter.done() and not self._messages

    def _give(self, data: bytes, found: Found | None) -> None:
        """Give bytes to aiohttp, and note whether they end where a request ends."""
        self._given = True
        self._foreign = found is None or found.end != len(data)
        super().data_received(data)

    def _begin(self, data: bytes, found: Found) -> bool:
        """Begin a submission; False where the handler has to say what is wrong with it."""
        caller = self._caller_of(found.head.digest)
        if caller is None or "submit" not in caller.scopes:
            return False
        trace = None
        if self._tracing is not None:
            trace = self._tracing.request("POST", "/api/eval", found.head.traceparent)
        try:
            asked = decode_request(data[found.body_at : found.end])
            if trace is None:
                self._draft = self._service.begin(caller, asked, found.head.key, self)
            else:
                with active(trace):
                    self._draft = self._service.begin(caller, asked, found.head.key, self)
        except Exception:  # noqa: BLE001 - nothing was sent: the handler meets the same error and answers it
            return False
        self._trace = trace
        self._raw = data[: found.end]
        # aiohttp sets this while a handler runs, and its shutdown waits for it.
        self._request_in_progress = True
        return True

    def _hold(self, data: bytes) -> None:
        self._held += data
        self._guard.received(self, Part.HELD, len(data))
        self._pause_transport_reading()

    # The publish result (see ``group_commit.Told``)

    def done(self) -> bool:
        """Never abandoned: the program of a client that disconnects runs all the same."""
        return False

    def set_exception(self, error: BrokerError) -> None:
        """The flush as a whole failed."""
        self._refuse(error)

    def set_result(self, outcome: PublishResult) -> None:
        """The queue server answered."""
        draft = self._draft
        assert draft is not None
        if outcome.error is not None:
            self._refused(draft, outcome.error)
        elif outcome.existing is None:
            rate = None
            if draft.rate is not None and outcome.quota is not None:
                rate = draft.rate.status(outcome.quota)
            queue = self._service.accepted(draft)
            self._answer(accepted(public_id(draft.eval_id), queue, rate))
        elif self._close or self._force_close:
            self._answer(rendered(busy("the service is stopping; this id was submitted before")))
        else:
            self._repeat()

    def _refused(self, draft: Draft, error: BrokerError) -> None:
        """Its own result is an error, whatever became of the rest of the flush."""
        if isinstance(error, QuotaExceeded) and draft.rate is not None:
            if error.in_flight and not self._close:
                # The handler looks whether some have ended meanwhile.
                self._repeat()
                return
            draft.rate.refused(error)
        self._refuse(error)

    def _refuse(self, error: BrokerError) -> None:
        draft = self._draft
        assert draft is not None
        if draft.publication is not None:
            draft.publication.ended(error)
        self._answer(rendered(not_submitted(error, named=bool(draft.field))))

    def _repeat(self) -> None:
        """The id is known: the handler does it again from the start, and looks its state up."""
        raw = self._raw
        self._end()
        self._given = True
        super().data_received(raw)
        self._go_on()

    def _answer(self, answer: bytes) -> None:
        if self._trace is not None:
            self._trace.ended(int(answer[_STATUS]))
        self._end()
        transport = self.transport
        if transport is None:
            return
        transport.write(answer)
        if self._manager is not None:
            self._manager.requests_count += 1
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._close:
            transport.close()
        elif self._held:
            self._go_on()

    def _end(self) -> None:
        self._draft = self._trace = None
        self._raw = b""
        self._request_in_progress = False
        stopping = self._handler_waiter
        if stopping is not None and not stopping.done():
            stopping.set_result(None)

    def _go_on(self) -> None:
        """Take what arrived meanwhile, unless the client does not read its answers."""
        if self._paused or not self._held:
            return
        held, self._held = self._held, b""
        self._guard.complete(self)
        self._resume_transport_reading()
        self.data_received(held)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self._draft is None:
            self._go_on()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Drop an incomplete request; what was sent to the queue server stays sent."""
        self._held = b""
        self._partial.clear()
        super().connection_lost(exc)

    def end(self, fault: Fault) -> None:
        """See ``guard.Guarded``; aiohttp's half drops what still arrives."""
        super().end(fault)
        self._foreign = True
        self._partial.clear()

    def _may_tell(self) -> bool:
        if self._draft is not None or self._held:
            return False
        return super()._may_tell()

    def _process_keepalive(self) -> None:
        if self._draft is not None or self._partial:
            # Not idle, which aiohttp cannot know.
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()
