"""Spans of the historian: one for a batch, with links, and one in each trace that is in it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind

from crucible.telemetry.tracing.spans import STAGE, link_to, parent_of
from crucible.tracing import read_traceparent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.trace import Tracer

    from crucible.events.event import Event

_ATTRIBUTES = {
    "messaging.system": "redis",
    "messaging.operation.name": "process",
    "messaging.operation.type": "process",
    "messaging.destination.name": "events",
    STAGE: "history",
}


class HistorySpans:
    """Records events that were written to the history.

    Args:
        tracer: makes spans.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def written(self, events: Sequence[Event], took_s: float) -> None:
        """A batch is committed.

        Args:
            events: all of it.
            took_s: seconds it took.
        """
        traced = [
            (event, found)
            for event in events
            if event.traceparent and (found := read_traceparent(event.traceparent)) is not None
        ]
        if not traced:
            return
        end_ns = time.time_ns()
        start_ns = end_ns - round(took_s * 1e9)
        batch = self._tracer.start_span(
            "process events",
            Context(),
            SpanKind.CONSUMER,
            {**_ATTRIBUTES, "messaging.batch.message_count": len(events)},
            links=[link_to(found) for _, found in traced],
            start_time=start_ns,
        )
        batch.end(end_ns)
        for event, found in traced:
            self._tracer.start_span(
                f"write {event.transition.value}",
                parent_of(found),
                SpanKind.CONSUMER,
                {**_ATTRIBUTES, "crucible.eval_id": event.eval_id},
                links=[Link(batch.get_span_context())],
                start_time=start_ns,
            ).end(end_ns)
