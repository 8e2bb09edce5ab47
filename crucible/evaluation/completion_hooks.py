"""Worker hooks that note completions: which tasks were evaluations, and how they ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.executor.hooks import NoHooks
from crucible.models import ENDED, Status
from crucible.worker.run import TurnedAway

if TYPE_CHECKING:
    from collections.abc import Collection

    from crucible.evaluation.completions import CompletionCounter
    from crucible.executor.hooks import CompileLookup, SandboxTaken
    from crucible.worker.run import Run

#: Completions of evaluations that did not run.
_TURNED_AWAY = {
    TurnedAway.REVOKED: Status.CANCELLED,
    TurnedAway.TERMINATED: Status.CANCELLED,
    TurnedAway.EXPIRED: Status.FAILED,
}
_STATUSES = {status.value: status for status in ENDED}


class SandboxHooks(NoHooks):
    """Counts programs that found no sandbox ready, or were compiled (``executor.hooks``)."""

    def __init__(self, counter: CompletionCounter) -> None:
        self._counter = counter

    def sandbox_taken(self, details: SandboxTaken) -> None:
        """A program got a sandbox."""
        self._counter.sandbox_taken(hit=details.hit, waited_s=details.waited_s)

    def compile_looked_up(self, details: CompileLookup) -> None:
        """It is known whether a program has to be compiled."""
        self._counter.compile_looked_up(hit=details.hit)


class CompletionHooks:
    """Notes completions of evaluations (see ``worker.hooks.TaskHooks``).

    Args:
        counter: counts them.
        tasks: names of the tasks that are evaluations.
    """

    def __init__(self, counter: CompletionCounter, tasks: Collection[str]) -> None:
        self._counter = counter
        self._tasks = tasks

    def returned(self, task: str, result: Any) -> None:
        """A task returned: an evaluation, or a list of them."""
        if task in self._tasks:
            for one in result if isinstance(result, list) else (result,):
                fields = one if isinstance(one, dict) else {}
                if status := _STATUSES.get(str(fields.get("status"))):
                    self._counter.note("celery", status, str(fields.get("eval_id")))

    def ended(self, task: str, task_id: str, status: Status) -> None:
        """A task ended without returning."""
        if task in self._tasks:
            self._counter.note("celery", status, task_id.removeprefix("eval-"))

    def received(self, run: Run) -> None:
        """No completion."""

    def started(self, run: Run) -> None:
        """No completion."""

    def succeeded(self, run: Run, result: Any, runtime_s: float) -> None:
        """It returned."""
        if run.message is not None:
            self.returned(run.message.task, result)

    def failed(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """The platform could not run it."""
        if run.message is not None:
            self.ended(run.message.task, run.message.id, Status.FAILED)

    def retried(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """No completion."""

    def turned_away(self, run: Run, why: TurnedAway) -> None:
        """It was revoked or expired, or another worker has it."""
        status = _TURNED_AWAY.get(why)
        if run.message is not None and status is not None:
            self.ended(run.message.task, run.message.id, status)
