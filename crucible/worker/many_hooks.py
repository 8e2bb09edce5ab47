"""Several listeners to what happens to tasks, as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crucible.worker.hooks import Run, TaskHooks, TurnedAway


class ManyHooks:
    """Tells each in turn."""

    def __init__(self, *hooks: TaskHooks) -> None:
        self._hooks = hooks

    def received(self, run: Run) -> None:
        """The message was decoded and will be run."""
        for hooks in self._hooks:
            hooks.received(run)

    def started(self, run: Run) -> None:
        """Its function is about to be called."""
        for hooks in self._hooks:
            hooks.started(run)

    def succeeded(self, run: Run, result: Any, runtime_s: float) -> None:
        """It returned."""
        for hooks in self._hooks:
            hooks.succeeded(run, result, runtime_s)

    def failed(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """It raised, or could not be run."""
        for hooks in self._hooks:
            hooks.failed(run, error, traceback)

    def retried(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """It will be run again."""
        for hooks in self._hooks:
            hooks.retried(run, error, traceback)

    def turned_away(self, run: Run, why: TurnedAway) -> None:
        """It was revoked, expired, rejected or ignored."""
        for hooks in self._hooks:
            hooks.turned_away(run, why)
