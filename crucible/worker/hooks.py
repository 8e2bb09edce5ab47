"""Seams of the worker: who is told what happened to a task, and who does its canvas duties."""

from __future__ import annotations

import enum
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    from crucible.broker.canvas.effects import SettlementEffects
    from crucible.broker.claiming.claims import Claim
    from crucible.broker.wire.decode import Message
    from crucible.broker.wire.result_tree import ResultTree
    from crucible.worker.registry import Task

logger = logging.getLogger(__name__)


class Stop(enum.StrEnum):
    """Why a running task is being stopped from outside."""

    TERMINATED = "terminated"  # by remote control: stored as REVOKED
    TIME_LIMIT = "time_limit"  # hard limit: stored as FAILURE
    GIVEN_BACK = "given_back"  # the worker stops: the message returns to its list
    LOST = "lost"  # somebody else has the claim: nothing is stored
    CLOSED = "closed"  # its slot ends: the claim is left to whoever sweeps
    LET_GO = "let_go"  # it did not react: another run has taken over its claim


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
        hard_limit_s: the hard time limit it runs under, None where there is none.
        threaded: its function runs in a thread, which nothing can stop.
        let_go: frees its slot from it; set while it runs.
        children: result tuples of the tasks it sent.
        told: an event was sent that it was received.
        canvas: sends what it asks for; None where nobody does.
        left: what it leaves behind should it be terminated; None where it leaves nothing.
    """

    claim: Claim
    taken_at: float
    message: Message | None = None
    task: Task | None = None
    runner: asyncio.Task[Any] | None = None
    started_at: float = 0.0
    stop: Stop | None = None
    soft_limit: bool = False
    hard_limit_s: float | None = None
    threaded: bool = False
    told: bool = False
    let_go: Callable[[Run], None] | None = None
    children: list[Any] = field(default_factory=list)
    canvas: Canvas | None = None
    left: Any = None


class TaskHooks(Protocol):
    """Told what happens to each task, in order.

    Calls must be quick. What they raise is logged and changes nothing.
    """

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


def tell(hooks: TaskHooks | None, say: Callable[[TaskHooks], None]) -> None:
    """Tell hooks, if there are any; what they raise is logged, the task goes on as if not."""
    if hooks is None:
        return
    try:
        say(hooks)
    except Exception:  # supervision: whatever it is, the task is not to suffer from it
        logger.exception("who is told what happens to tasks raised")


class Canvas(Protocol):
    """A worker's duties around a task that is part of something larger.

    The first three are only called for messages with callbacks, errbacks, a chain or a chord. What
    they return is written together with the task's result and the end of its claim.
    """

    async def succeeded(self, run: Run, result: Any) -> SettlementEffects:
        """Callbacks, the next step of the chain, a chord's part. Raises as encoding does."""

    async def failed(
        self,
        run: Run,
        error: BaseException,
        result: Mapping[str, Any],
        traceback: str | None,
        *,
        store: bool,
    ) -> SettlementEffects:
        """A chord's part, the failure of the rest of the chain, errbacks.

        ``result`` is the error as results carry it; ``store`` says whether the steps of the chain
        store it.
        """

    async def revoked(self, run: Run, reason: str) -> SettlementEffects:
        """A chord's part."""

    def replaced(self, run: Run, work: Mapping[str, Any]) -> SettlementEffects:
        """The message that takes the task's place. Raises ValueError, TypeError."""

    async def send(
        self, run: Run, work: Mapping[str, Any], args: Sequence[Any] = (), **options: Any
    ) -> ResultTree:
        """Start a signature now, as a child of the running task."""

    async def add_to_chord(self, run: Run, work: Mapping[str, Any]) -> ResultTree:
        """Start a signature as one more part of the chord the running task is part of."""
