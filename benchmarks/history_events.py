"""Events of evaluations that are queued, run and complete, as under load."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from crucible.events.event import Event, Transition, sequence, terminal_sequence

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Evaluations that are under way at once: so far apart are the events of one of them.
BLOCK = 200
#: Events of one evaluation.
EVENTS = 3


def events(count: int) -> Iterator[Event]:
    """Three events of each of so many evaluations; one in four has metadata."""
    for first in range(0, count, BLOCK):
        block = [_life(number) for number in range(first, min(first + BLOCK, count))]
        for step in range(EVENTS):
            for life in block:
                yield life[step]


def _life(number: int) -> tuple[Event, Event, Event]:
    eval_id, at, worker = str(uuid.uuid4()), time.time_ns() // 1_000_000, f"w{number % 4}@host"
    queued = Event(
        eval_id,
        0,
        at,
        Transition.QUEUED,
        "queued",
        queue="evaluation",
        language="python",
        priority=5,
        code_bytes=120,
        metadata={"run": f"r{number // 1000}"} if number % 4 == 0 else None,
    )
    running = Event(
        eval_id, sequence(1), at + 2, Transition.RUNNING, "running", queue="evaluation",
        worker=worker,
    )  # fmt: skip
    end = Event(
        eval_id,
        terminal_sequence(),
        at + 22,
        Transition.COMPLETED,
        "completed",
        queue="evaluation",
        worker=worker,
        verdict="ok" if number % 10 else "nonzero_exit",
        started_ms=at + 2,
        sandbox_ms=1,
        run_ms=19,
        wall_time_ms=18,
        cpu_time_ms=11,
        memory_peak_kb=9200,
        exit_code=0 if number % 10 else 1,
        isolation="container",
        output_bytes=3,
        error_bytes=0,
    )
    return queued, running, end
