"""Observers of tasks cannot disturb tasks, or one another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from crucible.worker.hooks import notify

if TYPE_CHECKING:
    import pytest

    from crucible.worker.hooks import TaskHooks
    from crucible.worker.run import Run


class Recording:
    """Keeps the runs that were started."""

    def __init__(self, *, raises: bool) -> None:
        self._raises = raises
        self.started_runs: list[Any] = []

    def started(self, run: Run) -> None:
        self.started_runs.append(run)
        if self._raises:
            raise RuntimeError("a fault of the observer")


def test_a_hook_that_raises_is_logged_and_the_next_is_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every hook is called once, in order; what one raises goes to the log."""
    hooks = [Recording(raises=True), Recording(raises=False)]
    run = cast("Run", object())
    notify(cast("list[TaskHooks]", hooks), lambda hook: hook.started(run))
    assert [hook.started_runs for hook in hooks] == [[run], [run]]
    [record] = caplog.records
    assert record.getMessage() == "a task hook raised; the task goes on"
