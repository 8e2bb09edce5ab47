"""Spans, with OpenTelemetry's in-memory exporter."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from crucible import tracing
from crucible.broker.claiming.claims import Claim, Settlement
from crucible.broker.wire.decode import decode
from crucible.broker.wire.encode import TaskTemplate
from crucible.events.event import Event, Transition
from crucible.executor.hooks import HookGroup, ProgramEnded, SandboxTaken
from crucible.http.traced import traced
from crucible.models import Verdict
from crucible.telemetry.tracing.provider import ProcessTracing
from crucible.worker.run import Run, TurnedAway

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


class Recorded:
    """The tracing of a process, and what it recorded."""

    def __init__(self, rate: float = 0.0) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracing = ProcessTracing("here", self._exporter, rate)

    def spans(self) -> list[ReadableSpan]:
        """The spans that ended, by their start."""
        self.tracing.close()
        return sorted(self._exporter.get_finished_spans(), key=lambda one: one.start_time or 0)

    def stages(self) -> list[str]:
        """What of an evaluation's way each of them is."""
        return [str((one.attributes or {})["crucible.stage"]) for one in self.spans()]


@pytest.fixture(autouse=True)
def nothing_current() -> Iterator[None]:
    """Tests begin and end outside of traces."""
    token = tracing.current.set(None)
    yield
    tracing.current.reset(token)


def run_of(traceparent: str, task_id: str = "eval-e1", queue: str = "evaluation") -> Run:
    """A claimed message."""
    template = TaskTemplate("tasks.evaluate_code", queue)
    raw = template.render(task_id, ["e1", "print(1)", "python"], {}, traceparent)
    message = decode(raw)
    return Run(Claim(message.delivery_tag, queue, 0, raw), message=message)


def parent_id(span: ReadableSpan) -> str:
    """The id of a span's parent."""
    return "" if span.parent is None else f"{span.parent.span_id:016x}"


def context(span: ReadableSpan) -> Any:
    """Ids of a span."""
    found = span.get_span_context()
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (SAMPLED, True),
        (NOT_SAMPLED, False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", True),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (SAMPLED.upper(), None),
        (f" {SAMPLED}", None),
        (f"{SAMPLED}\n", None),
        ("", None),
        (None, None),
        (7, None),
    ],
)
def test_a_traceparent_is_read_as_the_standard_says(text: object, sampled: bool | None) -> None:
    """What is none is no error: anybody may send any."""
    found = tracing.read_traceparent(text)
    assert (None if found is None else found.sampled) is sampled
    if found is not None:
        assert (found.trace_id, found.span_id) == (TRACE, SPAN)


@given(st.text() | st.binary().map(repr))
def test_no_text_breaks_the_reader(text: str) -> None:
    """It is a context, or it is none."""
    assert tracing.read_traceparent(text) is None


def test_the_client_decides_where_it_says_so() -> None:
    """Sampled and unsampled contexts count, whatever the rate; others do not count."""
    never, always = Recorded(0.0).tracing.requests, Recorded(1.0).tracing.requests
    found = never.request("POST", "/api/eval", SAMPLED)
    assert found is not None
    assert found.trace_id == TRACE
    assert always.request("POST", "/api/eval", NOT_SAMPLED) is None
    for field in (None, "garbage"):
        assert never.request("POST", "/api/eval", field) is None
        own = always.request("POST", "/api/eval", field)
        assert own is not None
        assert own.trace_id != TRACE


def test_the_way_of_an_evaluation() -> None:
    """Request, publication, run, sandbox, program, result: one trace, each below the right one."""
    recorded = Recorded()
    here = recorded.tracing
    request = here.requests.request("POST", "/api/eval", SAMPLED)
    assert request is not None
    publication = request.publishing("evaluation", "eval-e1")
    publication.ended()
    request.ended(202)
    run = run_of(publication.traceparent)
    here.tasks.received(run)
    here.tasks.started(run)
    hooks = HookGroup(here.sandboxes)
    hooks.sandbox_taken(SandboxTaken(isolation="container", hit=True, waited_s=0.0, age_s=1.0))
    hooks.program_ended(
        ProgramEnded(
            language="python", isolation="container", verdict=Verdict.OK, sandbox_s=0.0, run_s=0.0
        )
    )
    here.tasks.succeeded(run, {}, 0.1)
    assert tracing.onward(run.message.headers if run.message else {}).startswith(f"00-{TRACE}-")
    here.tasks.settled([Settlement(run.claim)])
    assert recorded.stages() == ["http", "publish", "claim", "sandbox", "program", "result"]
    spans = recorded.spans()
    assert {f"{context(one).trace_id:032x}" for one in spans} == {TRACE}
    ids = [f"{context(one).span_id:016x}" for one in spans]
    assert [parent_id(one) for one in spans] == [SPAN, ids[0], ids[1], ids[2], ids[2], ids[2]]
    assert [f"{link.context.span_id:016x}" for link in spans[2].links] == [ids[1]]


def test_the_way_through_a_stock_worker() -> None:
    """The same stages; the result begins where the last program ended."""
    recorded = Recorded()
    stock = recorded.tracing.stock
    request: Any = SimpleNamespace(
        id="eval-e1",
        headers={"traceparent": SAMPLED},
        delivery_info={"routing_key": "evaluation"},
        retries=0,
    )
    stock.started(request, "tasks.evaluate_code")
    recorded.tracing.sandboxes.program_ended(
        ProgramEnded(
            language="python", isolation="container", verdict=Verdict.OK, sandbox_s=0.0, run_s=0.0
        )
    )
    stock.ended("eval-other", "SUCCESS", None)
    stock.ended("eval-e1", "FAILURE", ValueError("bang"))
    assert tracing.current.get() is None
    claim, program, result = recorded.spans()
    assert recorded.stages() == ["claim", "program", "result"]
    assert claim.end_time == program.end_time == result.start_time
    assert not claim.status.is_ok
    assert claim.status.description == "bang"
    request.headers = None
    stock.started(request, "tasks.evaluate_code")
    assert tracing.current.get() is None


def test_only_traced_messages_carry_a_context() -> None:
    """One that is not traced has the bytes that it always had."""
    template = TaskTemplate("t", "q", origin="o", reply_to="r")
    plain, with_context = (template.render("i", [], {}, text) for text in ("", SAMPLED))
    header = f', "traceparent": "{SAMPLED}"'.encode()
    assert header not in plain
    tag = len('"delivery_tag": "') + 36 + 3
    assert with_context.replace(header, b"")[:-tag] == plain[:-tag]
    assert decode(with_context).headers["traceparent"] == SAMPLED


def test_a_run_without_a_context_is_in_no_trace() -> None:
    """Not even in that of the run before it in its slot."""
    recorded = Recorded()
    tasks = recorded.tracing.tasks
    first = run_of(SAMPLED)
    tasks.started(first)
    turned_away = run_of(SAMPLED, "eval-e2")
    tasks.turned_away(turned_away, TurnedAway.REVOKED)
    tasks.failed(first, ValueError("bang"), None)
    for field in ("", NOT_SAMPLED, "garbage"):
        run = run_of(field, "eval-e3")
        tasks.started(run)
        assert tracing.current.get() is None
        assert tracing.onward(run.message.headers if run.message else {}) == ""
        tasks.succeeded(run, None, 0.1)
    tasks.settled([Settlement(one.claim) for one in (first, turned_away)])
    assert recorded.stages() == ["claim", "result"]
    assert recorded.spans()[0].status.description == "bang"


def test_a_batch_is_one_publication() -> None:
    """Its messages carry one context, and each of their runs has a link to it."""
    recorded = Recorded()
    request = recorded.tracing.requests.request("POST", "/api/eval/batch", SAMPLED)
    assert request is not None
    with tracing.active(request), tracing.publishing_many(3):
        trace = tracing.current.get()
        assert trace is not None
        parts = [trace.publishing("batch", f"eval-e{n}") for n in range(3)]
        for part in parts:
            part.ended()
    request.ended(202)
    assert len({part.traceparent for part in parts}) == 1
    for n, part in enumerate(parts):
        run = run_of(part.traceparent, f"eval-e{n}", "batch")
        recorded.tracing.tasks.started(run)
        recorded.tracing.tasks.succeeded(run, None, 0.1)
        recorded.tracing.tasks.settled([Settlement(run.claim)])
    spans = {one.name: one for one in recorded.spans()}
    sent = spans["send batch"]
    assert (sent.attributes or {})["messaging.batch.message_count"] == 3
    assert [link.context.span_id for link in spans["process batch"].links] == [
        context(sent).span_id
    ]
    assert parent_id(spans["process batch"]) == f"{context(sent).span_id:016x}"


def test_outside_of_traces_nothing_is_begun() -> None:
    """Batches included."""
    with tracing.publishing_many(3):
        assert tracing.current.get() is None


def test_the_history_links_a_batch_to_its_traces() -> None:
    """A batch without traced events has no spans."""
    recorded = Recorded()
    history = recorded.tracing.history
    plain = Event("e1", 0, 1, Transition.QUEUED, "queued")
    history.written([plain], 0.1)
    history.written(
        [plain, Event("e2", 0, 1, Transition.QUEUED, "queued", traceparent=SAMPLED)], 0.1
    )
    spans = {one.name: one for one in recorded.spans()}
    assert spans.keys() == {"process events", "write queued"}
    written, batch = spans["write queued"], spans["process events"]
    assert f"{context(written).trace_id:032x}" == TRACE
    assert parent_id(written) == SPAN
    assert [link.context.span_id for link in written.links] == [context(batch).span_id]
    assert [f"{link.context.trace_id:032x}" for link in batch.links] == [TRACE]


def test_results_that_are_never_stored_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose claims are lost keeps so many of them and no more."""
    monkeypatch.setattr("crucible.telemetry.tracing.tasks._SETTLING", 3)
    tasks = Recorded().tracing.tasks
    for n in range(10):
        run = run_of(SAMPLED, f"eval-e{n}")
        tasks.started(run)
        tasks.succeeded(run, None, 0.1)
    assert len(tasks._settling) == 3


async def test_a_handler_runs_within_the_trace_of_its_request() -> None:
    """And its answer ends the request's span, whatever it is."""
    recorded = Recorded()
    seen: list[str] = []

    async def show(request: web.Request) -> web.Response:
        trace = await asyncio.create_task(_current())
        seen.append("" if trace is None else trace.trace_id)
        if request.match_info["name"] == "broken":
            raise RuntimeError("bang")
        raise web.HTTPNotFound

    app = web.Application(middlewares=[traced(recorded.tracing.requests)])
    app.router.add_get("/things/{name}", show)
    headers = {"traceparent": SAMPLED}
    async with TestClient(TestServer(app)) as client:
        for path in ("/things/a", "/things/broken", "/nowhere"):
            await client.get(path, headers=headers)
        await client.get("/things/a")
    assert seen == [TRACE, TRACE, ""]
    spans = {one.name: (one.attributes or {}) for one in recorded.spans()}
    assert spans.keys() == {"GET /things/{name}", "GET "}
    assert spans["GET "]["http.response.status_code"] == 404
    assert [
        (one.attributes or {})["http.response.status_code"]
        for one in recorded.spans()
        if one.name == "GET /things/{name}"
    ] == [404, 500]


async def _current() -> tracing.Trace | None:
    return tracing.current.get()


def test_nothing_of_it_is_imported_where_it_is_off() -> None:
    """Not by the api, nor by a worker, nor by the stock application."""
    program = (
        # redis-py would import it by itself where it is installed; now nobody can.
        "import sys; sys.modules['opentelemetry'] = None;"
        "from crucible.api.app import build_app; from crucible.cli import worker;"
        "from crucible.settings import load_settings; import crucible.celery_app;"
        "import crucible.history.historian, crucible.executor.service;"
        "build_app(load_settings({}));"
        "print([name for name in sys.modules if name.startswith('crucible.telemetry.tracing')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
