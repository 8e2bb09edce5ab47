"""The task message of an evaluation, the same from every producer of this project."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.broker.wire.encode import TaskTemplate
from crucible.evaluation.record import task_id_of
from crucible.evaluation.request import celery_priority, options_of, queue_of

if TYPE_CHECKING:
    from crucible.evaluation.request import EvalRequest

TASK = "tasks.evaluate_code"


class EvalMessages:
    """Renders messages; keeps a template for each of the ten priorities."""

    def __init__(self) -> None:
        # The queue follows from the priority.
        self._templates: dict[int, TaskTemplate] = {}

    def render(
        self, eval_id: str, asked: EvalRequest, task_id: str = "", traceparent: str = ""
    ) -> bytes:
        """The message of one evaluation.

        Args:
            eval_id: its id.
            asked: what to run.
            task_id: id of the task where it is not the evaluation's own.
            traceparent: of its publication, where it is traced.
        """
        priority = celery_priority(asked.priority)
        template = self._templates.get(priority)
        if template is None:
            queue = queue_of(asked.priority)
            template = TaskTemplate(TASK, queue, priority, ignore_result=False)
            self._templates[priority] = template
        arguments = [eval_id, asked.code, asked.language]
        options = options_of(asked)
        return template.render(task_id or task_id_of(eval_id), arguments, options, traceparent)
