"""The trace that the work of this context belongs to: what code that is traced knows of tracing.

``telemetry.tracing`` implements the protocols with OpenTelemetry. Where tracing is off nothing is
``current``, and no library of it is imported.

Sampling comes first: a request that is not sampled has no objects here at all. Contexts travel in
the header ``traceparent`` of W3C's Trace Context, of requests and, top-level, of task messages,
where Celery's own instrumentation reads it.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Name of the field, in HTTP and in the headers of messages.
TRACEPARENT = "traceparent"
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


class Publication(Protocol):
    """The sending of a message, or of many together."""

    @property
    def traceparent(self) -> str:
        """What its messages carry."""

    def ended(self, error: Exception | None = None) -> None:
        """It was queued, or was not."""


class Trace(Protocol):
    """A sampled trace, at one of its spans."""

    @property
    def trace_id(self) -> str:
        """Its id, 32 hexadecimal digits."""

    @property
    def traceparent(self) -> str:
        """What requests and messages carry that are sent from here."""

    def publishing(self, queue: str, task_id: str) -> Publication:
        """A message is about to be sent to a queue."""

    def publishing_many(self, count: int) -> Batch:
        """So many messages are about to be sent together."""


class Batch(Trace, Publication, Protocol):
    """A trace in which all messages are of one publication."""


class RequestTrace(Trace, Protocol):
    """A sampled trace, at an HTTP request that is being served."""

    def ended(self, status: int) -> None:
        """It was answered."""


class Tracing(Protocol):
    """Decides which requests are traced."""

    def request(self, method: str, route: str, traceparent: str | None) -> RequestTrace | None:
        """The trace of a request that has arrived; None where it is not sampled.

        Args:
            method: HTTP method.
            route: its path, without what differs from request to request.
            traceparent: as the client sent it; its decision counts.
        """


class SpanContext(NamedTuple):
    """What a ``traceparent`` says.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        sampled: it is recorded.
    """

    trace_id: str
    span_id: str
    sampled: bool


#: The trace of what runs in this context; None where it is not sampled.
current: ContextVar[Trace | None] = ContextVar("crucible_trace", default=None)


@contextmanager
def active(trace: Trace) -> Iterator[None]:
    """Make a trace ``current`` while the context is open."""
    token = current.set(trace)
    try:
        yield
    finally:
        current.reset(token)


@contextmanager
def publishing_many(count: int) -> Iterator[None]:
    """Have what is sent while the context is open belong to one publication, if it is traced."""
    trace = current.get()
    if trace is None:
        yield
        return
    batch = trace.publishing_many(count)
    with active(batch):
        try:
            yield
        finally:
            batch.ended()


def read_traceparent(text: object) -> SpanContext | None:
    """What a ``traceparent`` says; None where it is none.

    Anybody may send any. Later versions are read as far as they agree with version 00.
    """
    match = _TRACEPARENT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    unusable = version == "ff" or (version == "00" and more is not None)
    if unusable or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return SpanContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def sampled_in(headers: Mapping[str, object]) -> SpanContext | None:
    """The context that a message's headers carry, where it is sampled."""
    text = headers.get(TRACEPARENT)
    if text is None:
        return None
    found = read_traceparent(text)
    return found if found is not None and found.sampled else None


def onward(headers: Mapping[str, object]) -> str:
    """The ``traceparent`` for what follows from a message; empty where it is not sampled.

    Args:
        headers: of the message.
    """
    if headers.get(TRACEPARENT) is None:
        return ""
    found = sampled_in(headers)
    if found is None:
        return ""
    trace = current.get()
    if trace is not None and trace.trace_id == found.trace_id:
        return trace.traceparent
    return str(headers[TRACEPARENT])
