"""Several listeners to what happens to tasks, as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.worker.hooks import hook_raised

if TYPE_CHECKING:
    from crucible.worker.hooks import Run, TaskHooks, TurnedAway


class ManyHooks:
    """Tells each in turn."""

    def __init__(self, *hooks: TaskHooks) -> None:
        self._hooks = hooks

    def received(self, run: Run) -> None:
        """The message was decoded and will be run."""
        for hooks in self._hooks:
            try:
                hooks.received(run)
            except Exception as raised:  # noqa: BLE001 - whatever it is, it is logged
                hook_raised(raised)

    def started(self, run: Run) -> None:
        """Its function is about to be called."""
        for hooks in self._hooks:
            try:
                hooks.started(run)
            except Exception as raised:  # noqa: BLE001 - whatever it is, it is logged
                hook_raised(raised)

    def succeeded(self, run: Run, result: Any, runtime_s: float) -> None:
        """It returned."""
        for hooks in self._hooks:
            try:
                hooks.succeeded(run, result, runtime_s)
            except Exception as raised:  # noqa: BLE001 - whatever it is, it is logged
                hook_raised(raised)

    def failed(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """It raised, or could not be run."""
        for hooks in self._hooks:
            try:
                hooks.failed(run, error, traceback)
            except Exception as raised:  # noqa: BLE001 - whatever it is, it is logged
                hook_raised(raised)

    def retried(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """It will be run again."""
        for hooks in self._hooks:
            try:
                hooks.retried(run, error, traceback)
            except Exception as raised:  # noqa: BLE001 - whatever it is, it is logged
                hook_raised(raised)

    def turned_away(self, run: Run, why: TurnedAway) -> None:
        """It was revoked, expired, rejected or ignored."""
        for hooks in self._hooks:
            try:
                hooks.turned_away(run, why)
            except Exception as raised:  # noqa: BLE001 - whatever it is, it is logged
                hook_raised(raised)
