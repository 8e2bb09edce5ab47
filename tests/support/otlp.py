"""A receiver of traces over OTLP/HTTP, for tests; it decodes what a collector would."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from support.listening import listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

#: A loaded machine takes a minute to start four processes.
WAIT_S = 120.0


class Received(NamedTuple):
    """One span as it came.

    Attributes:
        service: the process it is of.
        name: its name.
        kind: as OTLP has it: 2 server, 3 client, 4 producer, 5 consumer.
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        parent_id: the same of its parent; empty without one.
        start_ns: nanoseconds since the epoch.
        end_ns: nanoseconds since the epoch.
        attributes: its own.
        links: ids of traces it links to.
        failed: its status is an error.
    """

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    links: list[str]
    failed: bool

    @property
    def stage(self) -> str:
        """Which part of an evaluation's way it is."""
        return str(self.attributes.get("crucible.stage"))


class Receiver:
    """Keeps the spans that arrive.

    Attributes:
        spans: in the order they came.
        url: its base.
    """

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.url = ""
        self._news = asyncio.Condition()

    async def handle(self, request: web.Request) -> web.Response:
        """Take one export."""
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        sent = ExportTraceServiceRequest.FromString(body)
        async with self._news:
            for resource in sent.resource_spans:
                about = _attributes(resource.resource.attributes)
                for scope in resource.scope_spans:
                    self.spans += [
                        _received(str(about["service.name"]), one) for one in scope.spans
                    ]
            self._news.notify_all()
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")

    def of(self, trace_id: str) -> list[Received]:
        """The spans of a trace, by their start."""
        found = [one for one in self.spans if one.trace_id == trace_id]
        return sorted(found, key=lambda one: one.start_ns)

    async def until(
        self, trace_id: str, complete: Callable[[list[Received]], bool]
    ) -> list[Received]:
        """The spans of a trace, once it is complete."""
        try:
            async with asyncio.timeout(WAIT_S), self._news:
                await self._news.wait_for(lambda: complete(self.of(trace_id)))
        except TimeoutError:
            raise AssertionError(f"the trace has only {self.of(trace_id)}") from None
        return self.of(trace_id)


def _attributes(pairs: Any) -> dict[str, Any]:
    found = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        found[pair.key] = getattr(pair.value, kind) if kind else None
    return found


def _received(service: str, span: Any) -> Received:
    return Received(
        service,
        span.name,
        span.kind,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _attributes(span.attributes),
        [link.trace_id.hex() for link in span.links],
        span.status.code == 2,
    )


@asynccontextmanager
async def listening_receiver() -> AsyncIterator[Receiver]:
    """A receiver that listens while the context is open."""
    receiver = Receiver()
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/traces", receiver.handle)
    async with listening(app) as receiver.url:
        yield receiver
