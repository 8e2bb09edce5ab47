"""Several listeners to what happens to tasks, as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.worker.hooks import tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from crucible.worker.hooks import Run, TaskHooks, TurnedAway


class ManyHooks:
    """Tells each in turn."""

    def __init__(self, *hooks: TaskHooks) -> None:
        self._hooks = hooks

    def received(self, run: Run) -> None:
        """The message was decoded and will be run."""
        self._tell(lambda to: to.received(run))

    def started(self, run: Run) -> None:
        """Its function is about to be called."""
        self._tell(lambda to: to.started(run))

    def succeeded(self, run: Run, result: Any, runtime_s: float) -> None:
        """It returned."""
        self._tell(lambda to: to.succeeded(run, result, runtime_s))

    def failed(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """It raised, or could not be run."""
        self._tell(lambda to: to.failed(run, error, traceback))

    def retried(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """It will be run again."""
        self._tell(lambda to: to.retried(run, error, traceback))

    def turned_away(self, run: Run, why: TurnedAway) -> None:
        """It was revoked, expired, rejected or ignored."""
        self._tell(lambda to: to.turned_away(run, why))

    def _tell(self, say: Callable[[TaskHooks], None]) -> None:
        for hooks in self._hooks:
            tell(hooks, say)
