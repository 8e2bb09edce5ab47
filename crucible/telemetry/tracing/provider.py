"""What collects the spans of a process and sends them over OTLP/HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from crucible.telemetry.tracing.history import HistorySpans
from crucible.telemetry.tracing.spans import RequestSampler
from crucible.telemetry.tracing.tasks import SandboxSpans, StockSpans, TaskSpans

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

#: Seconds one request to the receiver may take, and those at the end all together.
EXPORT_S = 5.0
#: Milliseconds that spans are gathered before they are sent.
GATHER_MS = 1000


class ProcessTracing:
    """The tracing of one process.

    Args:
        service: name of the process among those of the installation.
        exporter: takes the spans.
        rate: share of requests that are traced where their clients do not say.

    Attributes:
        requests: decides which requests are traced.
        tasks: records the tasks of an async worker.
        stock: the same of a stock worker.
        sandboxes: records sandboxes and programs.
        history: records what a historian writes.
    """

    def __init__(self, service: str, exporter: SpanExporter, rate: float) -> None:
        # What is not sampled never comes here.
        self._provider = TracerProvider(
            ALWAYS_ON, Resource.create({"service.name": service}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, schedule_delay_millis=GATHER_MS)
        )
        tracer = self._provider.get_tracer("crucible")
        self.requests = RequestSampler(tracer, rate)
        self.tasks = TaskSpans(tracer)
        self.stock = StockSpans(tracer)
        self.sandboxes = SandboxSpans()
        self.history = HistorySpans(tracer)

    def close(self) -> None:
        """Send what is left; blocks for ``EXPORT_S`` at most."""
        self._provider.force_flush(round(EXPORT_S * 1000))
        self._provider.shutdown()


def exporter_to(endpoint: str) -> SpanExporter:
    """What sends spans to a receiver of OTLP/HTTP.

    Args:
        endpoint: its base URL.
    """
    return OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_S)
