"""What each feature adds to a submission or a task in its own process, in isolation.

    python -m benchmarks.feature_costs

Processor time in microseconds, the least of some repeats: other load of the machine does not show,
nor do the calls to servers that many submissions share (``crucible bench submit --features`` has
those). Printed as the table of docs/performance.md.
"""

from __future__ import annotations

import json
import time
import timeit
from typing import TYPE_CHECKING, Any

import hiredis
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from crucible import tracing
from crucible.broker.claiming.claims import Claim, Settlement
from crucible.broker.wire.decode import decode
from crucible.evaluation.messages import EvalMessages
from crucible.evaluation.record import task_id_of
from crucible.evaluation.request import decode_request
from crucible.evaluation.submission import Draft
from crucible.evaluation.transitions import queued
from crucible.events.event import encode_event
from crucible.telemetry.tracing.provider import ProcessTracing
from crucible.worker.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable

_pack: Any = hiredis.pack_command
NUMBER, REPEATS = 5_000, 7
_EVAL_ID = "00000000-0000-4000-8000-000000000000"


def least_us(call: Callable[[], object]) -> float:
    """Microseconds of one call."""
    return (
        min(timeit.repeat(call, timer=time.process_time, number=NUMBER, repeat=REPEATS))
        / NUMBER
        * 1e6
    )


def measured() -> list[tuple[str, str, float]]:
    """Feature, what it does in a hot path, and its cost there."""
    asked = decode_request(json.dumps({"code": "print(6 * 7)", "language": "python"}).encode())
    draft = Draft(asked, _EVAL_ID, b"x" * 16, "", 1_700_000_000_000)
    messages = EvalMessages()
    exporter = InMemorySpanExporter()
    exporter.shutdown()  # it keeps none
    seldom, always = (ProcessTracing("cost", exporter, rate) for rate in (0.01, 1.0))
    raw = messages.render(_EVAL_ID, asked)
    plain = Run(Claim("f", "evaluation", 0, raw), message=decode(raw))

    def event() -> None:
        _pack(("XADD", encode_event(queued(draft, "evaluation"))))

    def submit_traced() -> None:
        request = always.requests.request("POST", "/api/eval", None)
        assert request is not None
        sending = request.publishing("evaluation", task_id_of(_EVAL_ID))
        messages.render(_EVAL_ID, asked, traceparent=sending.traceparent)
        sending.ended()
        request.ended(202)

    carried = messages.render(_EVAL_ID, asked, traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    traced = Run(Claim("g", "evaluation", 0, carried), message=decode(carried))

    def run_traced() -> None:
        always.tasks.started(traced)
        always.tasks.succeeded(traced, None, 0.1)
        always.tasks.settled([Settlement(traced.claim)])

    def run_plain() -> None:
        seldom.tasks.started(plain)
        seldom.tasks.succeeded(plain, None, 0.1)
        seldom.tasks.settled([Settlement(plain.claim)])

    render_us = least_us(lambda: messages.render(_EVAL_ID, asked))
    rows = [
        ("traces off", "a look whether a trace is current", least_us(tracing.current.get)),
        ("events", "the event of a submission", least_us(event)),
        ("traces on", "deciding about a submission",
         least_us(lambda: seldom.requests.request("POST", "/api/eval", None))),
        ("traces on", "a task that is not traced", least_us(run_plain)),
        ("traces on", "a submission that is traced", least_us(submit_traced) - render_us),
        ("traces on", "a task that is traced", least_us(run_traced)),
    ]  # fmt: skip
    for one in (seldom, always):
        one.close()
    return rows


def main() -> None:
    """Print the table."""
    print("| feature | adds | µs |\n|---|---|---|")
    for feature, what, us in measured():
        print(f"| {feature} | {what} | {us:.2f} |")


if __name__ == "__main__":
    main()
