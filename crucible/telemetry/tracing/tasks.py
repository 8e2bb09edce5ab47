"""Spans of tasks: claimed and run (``process``), and their results stored (``settle``).

``TaskSpans`` is for async workers, ``StockSpans`` for stock ones. Both read the context that the
publication wrote into the message's headers; a message without one costs a look into its headers.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, set_span_in_context

from crucible import tracing
from crucible.executor.hooks import NoHooks
from crucible.telemetry.tracing.spans import (
    STAGE,
    SpanTrace,
    fail,
    link_to,
    messaging,
    parent_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.trace import Span, Tracer

    from crucible.broker.claiming.claims import Settlement
    from crucible.broker.wire.decode import Message
    from crucible.executor.hooks import ProgramEnded, SandboxTaken
    from crucible.worker.run import Run, TurnedAway

#: Most results that are followed while they are being stored: some never are.
_SETTLING = 10_000


class RunTrace(SpanTrace):
    """A trace at the run of a task.

    Args:
        tracer: makes spans.
        found: what its message carries.
        delivery: identifies its delivery to this worker.
        queue: it came from.
        task_id: its id.
        task: its name.
        retries: how often it was tried before.
    """

    def __init__(
        self,
        tracer: Tracer,
        found: tracing.SpanContext,
        delivery: str,
        *,
        queue: str,
        task_id: str,
        task: str,
        retries: int,
    ) -> None:
        webhook = queue == "webhooks"
        self._settling = "webhook" if webhook else "result"
        span = tracer.start_span(
            f"process {queue}",
            parent_of(found),
            SpanKind.CONSUMER,
            {
                **messaging("process", queue, task_id),
                STAGE: "webhook" if webhook else "claim",
                "celery.task_name": task,
                "celery.retries": retries,
            },
            # The conventions ask for it beside the parent: of messages sent together each has it.
            links=[link_to(found)],
        )
        super().__init__(tracer, span)
        self.delivery = delivery
        self._queue = queue
        self._task_id = task_id

    def returned(self, error: BaseException | str | None, at_ns: int | None = None) -> Span:
        """End the run; the span of storing what it came to has begun.

        Args:
            error: what it failed with.
            at_ns: when it ended, nanoseconds since the epoch; None for now.
        """
        at_ns = at_ns or time.time_ns()
        if error is not None:
            fail(self.span, error)
        self.span.end(at_ns)
        return self._tracer.start_span(
            f"settle {self._queue}",
            set_span_in_context(self.span, Context()),
            SpanKind.CLIENT,
            {**messaging("settle", self._queue, self._task_id), STAGE: self._settling},
            start_time=at_ns,
        )


class TaskSpans:
    """Records the tasks of an async worker (see ``worker.hooks.TaskHooks``).

    Args:
        tracer: makes spans.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        #: By claim: the span of storing its result.
        self._settling: dict[str, Span] = {}

    def received(self, run: Run) -> None:
        """It has not begun."""

    def started(self, run: Run) -> None:
        """Begin its span, which is current in the slot's context until the next one's."""
        message = run.message
        found = None if message is None else tracing.sampled_in(message.headers)
        if found is None or message is None:
            tracing.current.set(None)
            return
        tracing.current.set(
            RunTrace(
                self._tracer,
                found,
                run.claim.field,
                queue=message.queue,
                task_id=message.id,
                task=message.task,
                retries=message.retries,
            )
        )

    def succeeded(self, run: Run, result: Any, runtime_s: float) -> None:
        """It returned."""
        self._returned(run, None)

    def failed(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """It raised."""
        self._returned(run, error)

    def retried(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """It will be run again, in the same trace."""
        self._returned(run, error)

    def turned_away(self, run: Run, why: TurnedAway) -> None:
        """It was stopped."""
        self._returned(run, why.value)

    def updated(self, message: Message, state: str, meta: Any) -> None:
        """Not an end."""

    def settled(self, settlements: Sequence[Settlement]) -> None:
        """Their results are stored."""
        if not self._settling:
            return
        for settlement in settlements:
            if settlement.claim is not None:
                span = self._settling.pop(settlement.claim.field, None)
                if span is not None:
                    span.end()

    def _returned(self, run: Run, error: BaseException | str | None) -> None:
        trace = tracing.current.get()
        # What was turned away before it started finds the trace of the run before.
        if isinstance(trace, RunTrace) and trace.delivery == run.claim.field:
            if len(self._settling) >= _SETTLING:
                self._settling.pop(next(iter(self._settling)))
            self._settling[run.claim.field] = trace.returned(error)


class StockSpans:
    """Records the tasks of a stock worker, by its signals.

    Args:
        tracer: makes spans.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def started(self, request: Any, task: str) -> None:
        """A task is about to run in this thread; coroutines it starts inherit the context."""
        headers: Mapping[str, object] = request.headers or {}
        found = tracing.sampled_in(headers)
        if found is None:
            tracing.current.set(None)
            return
        queue = str((request.delivery_info or {}).get("routing_key") or "")
        trace = RunTrace(
            self._tracer,
            found,
            request.id,
            queue=queue,
            task_id=request.id,
            task=task,
            retries=request.retries or 0,
        )
        tracing.current.set(trace)

    def ended(self, task_id: str, state: str | None, value: object) -> None:
        """It ended, and its result is stored."""
        trace = tracing.current.get()
        if not isinstance(trace, RunTrace) or trace.delivery != task_id:
            return
        tracing.current.set(None)
        failed = state not in (None, "SUCCESS", "IGNORED")
        error = (value if isinstance(value, BaseException) else str(state)) if failed else None
        # Celery signals no end of the function itself: its last program's is the nearest.
        trace.returned(error, trace.child_ended_ns or None).end()


class SandboxSpans(NoHooks):
    """Records sandboxes and programs of what is traced (see ``executor.hooks``)."""

    def sandbox_taken(self, details: SandboxTaken) -> None:
        """A program got a sandbox."""
        trace = tracing.current.get()
        if isinstance(trace, SpanTrace):
            trace.child(
                "sandbox",
                details.waited_s,
                {"crucible.isolation": details.isolation, "crucible.sandbox.ready": details.hit},
            )

    def program_ended(self, details: ProgramEnded) -> None:
        """A program has ended."""
        trace = tracing.current.get()
        if isinstance(trace, SpanTrace):
            trace.child(
                "program",
                details.run_s,
                {
                    "crucible.language": details.language,
                    "crucible.isolation": details.isolation,
                    "crucible.verdict": details.verdict.value,
                },
            )
