"""What workers tell the count of ends: which tasks were evaluations, and how they ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.executor.hooks import NoHooks
from crucible.models import ENDED, Status
from crucible.worker.hooks import TurnedAway

if TYPE_CHECKING:
    from collections.abc import Collection

    from crucible.evaluation.completions import CompletionCounter
    from crucible.executor.hooks import SandboxTaken
    from crucible.worker.hooks import Run

#: Ends that no run of the task itself tells of.
_TURNED_AWAY = {
    TurnedAway.REVOKED: Status.CANCELLED,
    TurnedAway.TERMINATED: Status.CANCELLED,
    TurnedAway.EXPIRED: Status.FAILED,
}
_STATUSES = {status.value: status for status in ENDED}


class SandboxHooks(NoHooks):
    """Counts programs that found no sandbox ready (see ``executor.hooks.ExecutorHooks``)."""

    def __init__(self, tally: CompletionCounter) -> None:
        self._tally = tally

    def sandbox_taken(self, details: SandboxTaken) -> None:
        """A program got a sandbox."""
        self._tally.sandbox_taken(hit=details.hit, waited_s=details.waited_s)


class CompletionHooks:
    """Notes ends of evaluations (see ``worker.hooks.TaskHooks``).

    Args:
        tally: where.
        tasks: names of the tasks that are evaluations.
    """

    def __init__(self, tally: CompletionCounter, tasks: Collection[str]) -> None:
        self._tally = tally
        self._tasks = tasks

    def returned(self, task: str, result: Any) -> None:
        """A task returned: an evaluation, or a list of them."""
        if task in self._tasks:
            for one in result if isinstance(result, list) else (result,):
                told = one if isinstance(one, dict) else {}
                if status := _STATUSES.get(str(told.get("status"))):
                    self._tally.note("celery", status, str(told.get("eval_id")))

    def ended(self, task: str, task_id: str, status: Status) -> None:
        """A task came to an end without returning."""
        if task in self._tasks:
            self._tally.note("celery", status, task_id.removeprefix("eval-"))

    def received(self, run: Run) -> None:
        """Nothing has ended."""

    def started(self, run: Run) -> None:
        """Nothing has ended."""

    def succeeded(self, run: Run, result: Any, runtime_s: float) -> None:
        """It returned."""
        if run.message is not None:
            self.returned(run.message.task, result)

    def failed(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """The platform could not run it."""
        if run.message is not None:
            self.ended(run.message.task, run.message.id, Status.FAILED)

    def retried(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """Nothing has ended."""

    def turned_away(self, run: Run, why: TurnedAway) -> None:
        """It was cancelled, came too late, or goes on elsewhere."""
        status = _TURNED_AWAY.get(why)
        if run.message is not None and status is not None:
            self.ended(run.message.task, run.message.id, status)
