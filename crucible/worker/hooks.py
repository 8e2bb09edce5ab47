"""Observers of what happens to tasks: events, completions, metrics."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from crucible.broker.claiming.claims import Settlement
    from crucible.broker.wire.decode import Message
    from crucible.worker.run import Run, TurnedAway

logger = logging.getLogger(__name__)


class TaskHooks(Protocol):
    """Notified of what happens to each task, in order.

    Calls must be quick: they run in the worker's loop. What they raise is logged and changes
    nothing.
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

    def updated(self, message: Message, state: str, meta: Any) -> None:
        """A running task stored a state of its own."""

    def settled(self, settlements: Sequence[Settlement]) -> None:
        """The server has these settlements, with the results of which the hooks were notified."""


def notify(hooks: Iterable[TaskHooks], call: Callable[[TaskHooks], None]) -> None:
    """Call each hook; one that raises is logged, and neither the others nor the task notice."""
    for hook in hooks:
        try:
            call(hook)
        except Exception:  # supervision: an observer of any kind must not fail the task
            logger.exception("a task hook raised; the task goes on")
