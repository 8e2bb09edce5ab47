"""Spans kept in OpenTelemetry's in-memory exporter, also those of worker processes.

``python -m support.kept_spans worker …`` is the ``crucible`` command, and ``celery -A
support.kept_spans_app worker`` the shipped application, with that exporter in place of OTLP's. What
it has is written to the file that ``KEPT_SPANS`` names when the process closes its tracing.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from support.otlp import Received

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan

#: As the settings want it; nothing is sent there.
ENDPOINT = "http://127.0.0.1:1"


class WrittenAtLast(InMemorySpanExporter):
    """Writes what it has when it is shut down."""

    def shutdown(self) -> None:
        """Write them."""
        super().shutdown()
        Path(os.environ["KEPT_SPANS"]).write_text(json.dumps(received(self)), "utf-8")


@contextmanager
def kept_spans(exporter: InMemorySpanExporter) -> Iterator[None]:
    """Within the context, whatever starts tracing in this process keeps its spans there."""
    with mock.patch("crucible.telemetry.tracing.provider.exporter_to", return_value=exporter):
        yield


def received(exporter: InMemorySpanExporter) -> list[Received]:
    """What it has, as a receiver would have it."""
    return [_received(span) for span in exporter.get_finished_spans()]


def read(path: Path) -> list[Received]:
    """What a process has written."""
    return [Received(*fields) for fields in json.loads(path.read_text("utf-8"))]


def _received(span: ReadableSpan) -> Received:
    context = span.get_span_context()
    assert context is not None
    return Received(
        str(span.resource.attributes["service.name"]),
        span.name,
        # OTLP counts from one.
        span.kind.value + 1,
        f"{context.trace_id:032x}",
        f"{context.span_id:016x}",
        "" if span.parent is None else f"{span.parent.span_id:016x}",
        span.start_time or 0,
        span.end_time or 0,
        dict(span.attributes or {}),
        [f"{link.context.trace_id:032x}" for link in span.links],
        span.status.status_code is StatusCode.ERROR,
    )


if __name__ == "__main__":
    from crucible.cli.entry import main

    with kept_spans(WrittenAtLast()):
        main()
