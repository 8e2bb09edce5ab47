"""The task message of an evaluation, the same from every producer of this project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.broker.wire.encode import TaskTemplate
from crucible.broker.wire.jsontypes import quote, quote_text
from crucible.broker.wire.reprs import MAX_LENGTH, bounded_repr
from crucible.evaluation.record import task_id_of
from crucible.evaluation.request import celery_priority, options_of, queue_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crucible.evaluation.request import EvalRequest

TASK = "tasks.evaluate_code"


class EvalMessages:
    """Renders messages; keeps a template for each of the ten priorities."""

    def __init__(self) -> None:
        # The queue follows from the priority.
        self._templates: dict[int, TaskTemplate] = {}

    def render(
        self,
        eval_id: str,
        asked: EvalRequest,
        task_id: str = "",
        traceparent: str = "",
        options: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The message of one evaluation.

        Args:
            eval_id: its id.
            asked: what to run.
            task_id: id of the task where it is not the evaluation's own.
            traceparent: of its publication, where it is traced.
            options: what ``options_of`` gives for it, where that is known already.
        """
        priority = celery_priority(asked.priority)
        template = self._templates.get(priority)
        if template is None:
            queue = queue_of(asked.priority)
            template = TaskTemplate(TASK, queue, priority, ignore_result=False)
            self._templates[priority] = template
        if options is None:
            options = options_of(asked)
        args, shown = _arguments(eval_id, asked.code, asked.language)
        return template.render_quoted(
            task_id or task_id_of(eval_id), args, shown, options, traceparent
        )


def _arguments(eval_id: str, code: str, language: str) -> tuple[str, str]:
    """The positional arguments and their repr, both as JSON text."""
    shown_id, shown_code, shown_language = quote(eval_id), quote_text(code), quote(language)
    args = f"[{shown_id}, {shown_code}, {shown_language}]"
    if len(args) >= MAX_LENGTH or "'" in code:
        return args, quote(bounded_repr([eval_id, code, language]))
    # Nothing of it is cut or escaped, so what is quoted already is the repr but for its quotes.
    return args, f"\"['{shown_id[1:-1]}', '{shown_code[1:-1]}', '{shown_language[1:-1]}']\""
