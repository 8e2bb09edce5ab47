"""The tasks of assessments in the task API, for the tenants whose they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from crucible.api.assessments import ASSESSMENTS
from crucible.api.callers import caller_of
from crucible.assessments.messages import PROCESS, QUEUE
from crucible.assessments.record import TASK_ID_PREFIX
from crucible.assessments.view import info_of
from crucible.evaluation.task_view import TaskInfo, TaskShown, task_of
from crucible.evaluation.view import text_time

if TYPE_CHECKING:
    from aiohttp import web

    from crucible.broker.results.meta import Meta


def is_assessment(task_id: str) -> bool:
    """Whether it can be the task of an assessment."""
    return task_id.startswith(TASK_ID_PREFIX)


async def assessment_task(request: web.Request, task_id: str) -> tuple[TaskShown, Meta | None]:
    """The task of one of the caller's assessments, and what is stored of it.

    Raises:
        NotFound: the caller has no such assessment.
    """
    service = request.app[ASSESSMENTS]
    head = await service.look_up(caller_of(request), task_id.removeprefix(TASK_ID_PREFIX))
    meta = await service.stored(head)
    shown = task_of(task_id, meta, name=PROCESS, queue=QUEUE)
    info = TaskInfo(**msgspec.structs.asdict(info_of(head)))
    shown = msgspec.structs.replace(shown, info=info, created_at=text_time(head.plan.created_ms))
    return shown, meta


async def cancelled_assessment(request: web.Request, task_id: str) -> TaskShown:
    """Cancel an assessment by its task; raises as ``assessment_task``."""
    service = request.app[ASSESSMENTS]
    await service.cancel(caller_of(request), task_id.removeprefix(TASK_ID_PREFIX))
    return (await assessment_task(request, task_id))[0]
