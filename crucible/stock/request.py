"""A task's message in the main process of a stock worker."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from celery.worker import request

if TYPE_CHECKING:
    from collections.abc import Iterator


class Request(request.Request):  # type: ignore[misc]  # Celery has no types
    """Lets receivers of ``task_failure`` see the message of what this process fails.

    Stock sends that signal for a child that reached its hard time limit as well, without saying
    which message it had: ``Task.request`` is an empty one then.
    """

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """The task has used up a time limit."""
        with self._current():
            super().on_timeout(soft, timeout)

    def on_failure(self, exc_info: Any, *arguments: Any, **options: Any) -> Any:
        """The task has failed, in the child or by its death."""
        with self._current():
            return super().on_failure(exc_info, *arguments, **options)

    @contextmanager
    def _current(self) -> Iterator[None]:
        """Have it be the task's request meanwhile."""
        stack = self.task.request_stack
        stack.push(self._context)
        try:
            yield
        finally:
            stack.pop()
