"""Seams of the worker: who is told what happened to a task, and who does its canvas duties."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from crucible.broker.claims import Claim
    from crucible.broker.message import Message
    from crucible.worker.registry import Task


class Stop(enum.StrEnum):
    """Why a running task is being stopped from outside."""

    TERMINATED = "terminated"  # by remote control: stored as REVOKED
    TIME_LIMIT = "time_limit"  # hard limit: stored as FAILURE
    GIVEN_BACK = "given_back"  # the worker stops: the message returns to its list
    LOST = "lost"  # somebody else has the claim: nothing is stored


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
        message: the decoded message; set before any hook sees the run.
        task: its task, None where the name is unknown.
        runner: the asyncio task it runs in, while it runs.
        started_at: time.time() of its start, 0 before.
        taken_at: time.monotonic() of its claim.
        stop: why it is being stopped, None while it is not.
        soft_limit: the soft time limit has passed and is to be raised in it.
        children: result tuples of the tasks it sent.
    """

    claim: Claim
    taken_at: float
    message: Message | None = None
    task: Task | None = None
    runner: asyncio.Task[Any] | None = None
    started_at: float = 0.0
    stop: Stop | None = None
    soft_limit: bool = False
    children: list[Any] = field(default_factory=list)


def stop_run(run: Run, why: Stop) -> None:
    """Stop a run from outside; the first reason counts."""
    if run.stop is None:
        run.stop = why
        if run.runner is not None:
            run.runner.cancel()


class TaskHooks(Protocol):
    """Told what happens to each task, in order. Calls must be quick and must not raise."""

    def received(self, run: Run) -> None:
        """The message was decoded and will be run."""

    def started(self, run: Run) -> None:
        """Its function is about to be called."""

    def succeeded(self, run: Run, result: Any, runtime_s: float) -> None:
        """It returned."""

    def failed(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """It raised, or could not be run."""

    def retried(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """It will be run again."""

    def turned_away(self, run: Run, why: TurnedAway) -> None:
        """It was revoked, expired, rejected or ignored."""


class Canvas(Protocol):
    """A worker's duties around a task that is part of something larger (protocol.md 7).

    Only called for messages with callbacks, errbacks, a chain or a chord.
    """

    async def before_success(self, run: Run, result: Any) -> Sequence[Any]:
        """Publish callbacks and the next chain step; returns their result tuples."""

    async def after_success(self, run: Run, result: Any) -> None:
        """Return a chord part; the result is stored, the message not yet acknowledged."""

    async def after_failure(self, run: Run, error: BaseException, meta: dict[str, Any]) -> None:
        """Fail the chord, the rest of the chain, and send errbacks, after the result is stored."""
