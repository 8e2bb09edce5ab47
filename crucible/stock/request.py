"""A task's message in the main process of a stock worker."""

from __future__ import annotations

from typing import Any

from celery.utils.dispatch import Signal
from celery.worker import request

#: Sent with ``request`` once a task is stored as failed that was killed for its hard time limit.
#: Celery sends ``task_failure`` then since 5.7, and does not say which message the task had.
hard_limit_reached = Signal(name="hard_limit_reached", providing_args={"request"})


class Request(request.Request):  # type: ignore[misc]  # Celery has no types
    """Lets receivers of signals see the message of what this process fails."""

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """The task has used up a time limit."""
        super().on_timeout(soft, timeout)
        if not soft:
            hard_limit_reached.send(sender=self.task, request=self._context)

    def on_failure(self, exc_info: Any, *arguments: Any, **options: Any) -> Any:
        """The task has failed, in the child or by its death."""
        stack = self.task.request_stack
        stack.push(self._context)
        try:
            return super().on_failure(exc_info, *arguments, **options)
        finally:
            stack.pop()
