"""One claimed message on its way through the worker, and the reasons to stop it or turn it away."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from crucible.broker.claiming.claims import Claim
    from crucible.broker.wire.call import TaskCall
    from crucible.broker.wire.decode import Message
    from crucible.worker.task import Task


class Stop(enum.StrEnum):
    """Why a run is being stopped from outside."""

    TERMINATED = "terminated"  # by remote control: stored as REVOKED
    TIME_LIMIT = "time_limit"  # hard limit: stored as FAILURE
    REQUEUED = "requeued"  # the worker stops: the message returns to its list
    LOST = "lost"  # another worker has the claim: nothing is stored
    CLOSED = "closed"  # its slot ends: the claim is left to recovery
    ABANDONED = "abandoned"  # it did not react: another run has taken over its claim


class TurnedAway(enum.StrEnum):
    """Why a task was not run, or not to its end."""

    REVOKED = "revoked"
    TERMINATED = "terminated"
    EXPIRED = "expired"
    REJECTED = "rejected"
    REQUEUED = "requeued"
    IGNORED = "ignored"


@dataclass(slots=True, eq=False)
class Run:
    """One claimed message on its way through the worker.

    Attributes:
        claim: the claim.
        offered_at: when it was last queued for the slots, by their clock.
        message: the decoded message; set before any hook sees the run.
        task: its task, None where the name is unknown.
        runner: the asyncio task it runs in; None while it cannot be stopped, as before its start.
        started_at: time.time() of its start, 0 before.
        started_s: time.monotonic() of the same, which no jump of the machine's time changes.
        stop: why it is being stopped, None while it is not.
        soft_limit: the soft time limit has passed and is to be raised in it.
        hard_limit_s: the hard time limit it runs under, None where there is none.
        threaded: its function runs in a thread, which nothing can stop.
        received_sent: the event that it was received was sent.
        abandon: frees its slot from it; set while it runs.
        children: result tuples of the tasks it sent.
        left: what is stored beside REVOKED should it be terminated; None for nothing.
        result_ttl_s: seconds its result is kept; None as long as this worker keeps results.
        follow_ups: tasks to send in the same step that stores its result and ends its claim; hooks
            set them when they are notified of its end.
    """

    claim: Claim
    offered_at: float = 0.0
    message: Message | None = None
    task: Task | None = None
    runner: asyncio.Task[Any] | None = None
    started_at: float = 0.0
    started_s: float = 0.0
    stop: Stop | None = None
    soft_limit: bool = False
    hard_limit_s: float | None = None
    threaded: bool = False
    received_sent: bool = False
    abandon: Callable[[Run], None] | None = None
    children: list[Any] = field(default_factory=list)
    left: Any = None
    result_ttl_s: int | None = None
    follow_ups: list[TaskCall] = field(default_factory=list)
