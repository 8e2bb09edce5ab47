"""What the log says of the task and the trace that a record is about."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from crucible import tracing
from crucible.broker.wire.decode import decode
from crucible.broker.wire.encode import TaskTemplate
from crucible.cli.logs import context_fields
from crucible.worker.log_context import running_message

TRACE = "0af7651916cd43dd8448eb211c80319c"


def fields_of(traceparent: str) -> dict[str, Any]:
    """The fields while a task runs whose message carries this."""
    raw = TaskTemplate("t", "q").render("eval-acme:e1", [], {}, traceparent)
    token = running_message.set(decode(raw))
    try:
        return context_fields()
    finally:
        running_message.reset(token)


def test_a_traced_task_has_its_trace_in_the_log() -> None:
    """Beside its own fields; one that is not sampled has none."""
    plain = {"task_id": "eval-acme:e1", "eval_id": "e1", "tenant": "acme", "retry_count": 0}
    assert fields_of("") == plain
    assert fields_of(f"00-{TRACE}-{'1' * 16}-00") == plain
    assert fields_of(f"00-{TRACE}-{'1' * 16}-01") == {**plain, "trace_id": TRACE}


def test_a_traced_request_has_its_trace_in_the_log() -> None:
    """Outside of tasks too."""
    assert context_fields() == {}
    trace: Any = SimpleNamespace(trace_id=TRACE)
    with tracing.active(trace):
        assert context_fields() == {"trace_id": TRACE}
