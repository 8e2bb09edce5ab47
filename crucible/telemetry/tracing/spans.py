"""Spans as OpenTelemetry has them, behind the protocols of ``crucible.tracing``.

Names and attributes follow its semantic conventions for HTTP and for messaging; beside them each
span has ``crucible.stage``, which says what of the way of an evaluation it is.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from crucible.tracing import read_traceparent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.trace import Span, Tracer

    from crucible import tracing

SYSTEM = "celery"
STAGE = "crucible.stage"
#: Start of a task id of an evaluation (``evaluation.record``), which ``local`` has without tenant.
_TASK_ID = "eval-"


def parent_of(found: tracing.SpanContext | None) -> Context:
    """The context of spans below a remote one; without one they begin a trace."""
    if found is None:
        return Context()
    return set_span_in_context(NonRecordingSpan(remote(found)), Context())


def remote(found: tracing.SpanContext) -> SpanContext:
    """A context of another process as OpenTelemetry has it."""
    flags = TraceFlags(TraceFlags.SAMPLED if found.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(found.trace_id, 16), int(found.span_id, 16), True, flags)


def messaging(operation: str, queue: str, task_id: str = "") -> dict[str, str]:
    """The attributes of a span about a message."""
    found = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": queue,
    }
    if task_id:
        found["messaging.message.id"] = task_id
        if task_id.startswith(_TASK_ID):
            found["crucible.eval_id"] = task_id.removeprefix(_TASK_ID)
    return found


def fail(span: Span, error: BaseException | str) -> None:
    """Mark a span as failed."""
    span.set_status(Status(StatusCode.ERROR, str(error)[:500]))
    if isinstance(error, BaseException):
        span.set_attribute("error.type", type(error).__qualname__)


class SpanTrace:
    """A sampled trace at a span; see ``crucible.tracing.Trace``.

    Args:
        tracer: makes spans.
        span: where it is.
    """

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self.span = span
        context = span.get_span_context()
        self.trace_id = f"{context.trace_id:032x}"
        self.traceparent = f"00-{self.trace_id}-{context.span_id:016x}-01"
        #: When the last span below it ended, nanoseconds since the epoch.
        self.child_ended_ns = 0

    def publishing(self, queue: str, task_id: str) -> tracing.Publication:
        """A message is about to be sent."""
        return Sending(self._tracer, self._send(queue, messaging("send", queue, task_id)))

    def publishing_many(self, count: int) -> tracing.Batch:
        """So many messages are about to be sent together."""
        return SendingMany(self._tracer, self._send("batch", {"messaging.system": SYSTEM}, count))

    def _send(self, destination: str, attributes: Mapping[str, str], count: int = 0) -> Span:
        found: dict[str, str | int] = {
            STAGE: "publish",
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            **attributes,
        }
        if count:
            found["messaging.batch.message_count"] = count
        return self._tracer.start_span(
            f"send {destination}",
            set_span_in_context(self.span, Context()),
            SpanKind.PRODUCER,
            found,
        )

    def child(self, name: str, took_s: float, attributes: Mapping[str, str | bool | float]) -> None:
        """Record a part of this span that ends now.

        Args:
            name: of the part, which is its stage as well.
            took_s: seconds it took.
            attributes: further ones.
        """
        now_ns = time.time_ns()
        span = self._tracer.start_span(
            name,
            set_span_in_context(self.span, Context()),
            SpanKind.INTERNAL,
            {STAGE: name, **attributes},
            start_time=now_ns - round(took_s * 1e9),
        )
        span.end(now_ns)
        self.child_ended_ns = now_ns


class Sending(SpanTrace):
    """The sending of one message."""

    def ended(self, error: Exception | None = None) -> None:
        """It was queued, or was not."""
        if error is not None:
            fail(self.span, error)
        self.span.end()


class SendingMany(Sending):
    """The sending of many: each of their messages has the context of this one span."""

    def publishing(self, queue: str, task_id: str) -> tracing.Publication:
        """One of them; the whole ends once."""
        return _Part(self.traceparent)


class _Part:
    """One message of many."""

    def __init__(self, traceparent: str) -> None:
        self.traceparent = traceparent

    def ended(self, error: Exception | None = None) -> None:
        """What became of it is an item of the answer."""


class _Request(SpanTrace):
    """An HTTP request that is being served."""

    def ended(self, status: int) -> None:
        """It was answered."""
        self.span.set_attribute("http.response.status_code", status)
        if status >= 500:
            fail(self.span, f"{status}")
        self.span.end()


class RequestSampler:
    """Decides which requests are traced; see ``crucible.tracing.Tracing``.

    Args:
        tracer: makes spans.
        rate: share of requests without a ``traceparent`` that are traced.
    """

    def __init__(self, tracer: Tracer, rate: float) -> None:
        self._tracer = tracer
        self._rate = rate

    def request(self, method: str, route: str, traceparent: str | None) -> _Request | None:
        """The trace of a request that has arrived; None where it is not sampled."""
        if traceparent is None:
            # The decision comes before any object of OpenTelemetry, which costs some 10 us.
            if random.random() >= self._rate:  # noqa: S311 - spreads load
                return None
            found = None
        else:
            found = read_traceparent(traceparent)
            if found is None:
                return self.request(method, route, None)
            if not found.sampled:
                return None
        span = self._tracer.start_span(
            f"{method} {route}",
            parent_of(found),
            SpanKind.SERVER,
            {"http.request.method": method, "http.route": route, STAGE: "http"},
        )
        return _Request(self._tracer, span)


def link_to(found: tracing.SpanContext) -> Link:
    """A link to a span of another process."""
    return Link(remote(found))
