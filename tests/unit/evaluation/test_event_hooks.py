"""Which events a worker writes, and when."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from crucible.broker.claiming.claims import Claim, Destination, Disposition, Settlement
from crucible.broker.wire.decode import decode
from crucible.broker.wire.encode import encode_task
from crucible.evaluation.event_hooks import EventHooks
from crucible.worker.run import Run, TurnedAway

if TYPE_CHECKING:
    from collections.abc import Callable

    from crucible.events.event import Event

RESULT = {"eval_id": "acme:a", "status": "completed", "verdict": "ok", "output": "é"}


class Sink:
    """Keeps events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, event: Event) -> None:
        """Keep it."""
        self.events.append(event)

    @property
    def transitions(self) -> list[str]:
        """Of all of them."""
        return [event.transition.value for event in self.events]


def run_of(task_id: str = "eval-acme:a", task: str = "eval", **headers: Any) -> Run:
    """A run that has started."""
    raw = json.loads(encode_task(task, [], task_id=task_id, queue="batch"))
    raw["headers"].update(headers)
    claim = Claim("field", "batch", 0, json.dumps(raw).encode())
    return Run(claim, message=decode(claim.raw), started_at=5.0)


def hooks_of(sink: Sink) -> EventHooks:
    """The hooks of a worker."""
    return EventHooks(sink, ("eval", "several"))


ENDS: dict[str, Callable[[EventHooks, Run], None]] = {
    "completed": lambda hooks, run: hooks.succeeded(run, RESULT, 0.1),
    "failed": lambda hooks, run: hooks.failed(run, ValueError("no"), None),
    "retrying": lambda hooks, run: hooks.retried(run, ValueError("later"), None),
    "cancelled": lambda hooks, run: hooks.turned_away(run, TurnedAway.TERMINATED),
    "expired": lambda hooks, run: hooks.turned_away(run, TurnedAway.EXPIRED),
}


@pytest.mark.parametrize("transition", ENDS)
def test_an_end_is_written_once_it_is_settled(transition: str) -> None:
    """Not before: a worker that dies in between has reported nothing that did not happen."""
    sink, run = Sink(), run_of(retries=2, crucible_attempt=1, crucible_deliveries=3)
    hooks = hooks_of(sink)
    ENDS[transition](hooks, run)
    assert sink.events == []
    hooks.settled([Settlement(Claim("other", "batch", 0, b"")), Settlement(None)])
    assert sink.events == []
    hooks.settled([Settlement(run.claim)])
    hooks.settled([Settlement(run.claim)])
    assert sink.transitions == [transition]
    (event,) = sink.events
    assert (event.eval_id, event.tenant, event.queue) == ("a", "acme", "batch")
    assert (event.attempt, event.deliveries) == (1, 3)
    assert event.terminal == (transition != "retrying")


def test_a_failure_that_is_kept_is_a_dead_letter() -> None:
    """By where the settlement sends its message."""
    sink, run = Sink(), run_of()
    hooks = hooks_of(sink)
    hooks.failed(run, ValueError("no"), None)
    disposition = Disposition(to=Destination.DEAD_LETTERS, raw=b"")
    hooks.settled([Settlement(run.claim, disposition=disposition)])
    assert sink.transitions == ["dead_letter"]
    assert (sink.events[0].status, sink.events[0].message) == ("failed", "no")


def test_a_result_that_is_refused_was_none() -> None:
    """The failure that is settled instead is what is written."""
    sink, run = Sink(), run_of()
    hooks = hooks_of(sink)
    hooks.succeeded(run, RESULT, 0.1)
    hooks.failed(run, ValueError("too large"), None)
    hooks.settled([Settlement(run.claim)])
    assert sink.transitions == ["failed"]


def test_progress_is_in_order() -> None:
    """Percent and step of what the task stores; counted anew in the next run."""
    sink, run = Sink(), run_of(retries=1)
    hooks = hooks_of(sink)
    assert run.message is not None
    for meta in ({"progress": 10, "current_step": "tests"}, {"progress": 20.5}, "text"):
        hooks.updated(run.message, "PROGRESS", meta)
    assert [event.progress for event in sink.events] == [10, 20.5, None]
    assert sink.events[0].message == "tests"
    seqs = [event.seq for event in sink.events]
    assert seqs == sorted(set(seqs))


def test_each_program_of_a_batch_ends_by_itself() -> None:
    """With its own id; what is no result of an evaluation, or has no possible id, is none."""
    sink, run = Sink(), run_of("some-id", "several")
    hooks = hooks_of(sink)
    other = {**RESULT, "eval_id": "b", "status": "failed", "verdict": "timeout"}
    hooks.succeeded(run, [RESULT, other, None, {**RESULT, "eval_id": "/:x"}], 0.1)
    hooks.failed(run_of("some-id", "several"), ValueError(), None)
    hooks.succeeded(run, [RESULT, other, None, {**RESULT, "eval_id": "/:x"}], 0.1)
    hooks.settled([Settlement(run.claim)])
    assert [(event.tenant, event.eval_id, event.verdict) for event in sink.events] == [
        ("acme", "a", "ok"),
        ("local", "b", "timeout"),
    ]
    assert sink.events[0].output_bytes == 2


def test_other_tasks_have_no_events() -> None:
    """Whatever happens to them."""
    sink, run = Sink(), run_of("eval-a", "other")
    hooks = hooks_of(sink)
    for end in ENDS.values():
        end(hooks, run)
        hooks.settled([Settlement(run.claim)])
    assert sink.events == []


def test_a_message_that_goes_back_is_no_transition() -> None:
    """It is still queued, or runs elsewhere."""
    sink, run = Sink(), run_of()
    hooks = hooks_of(sink)
    hooks.received(run)
    hooks.started(run)
    for why in (TurnedAway.REQUEUED, TurnedAway.IGNORED, TurnedAway.REJECTED):
        hooks.turned_away(run, why)
    hooks.settled([Settlement(run.claim)])
    assert sink.events == []
