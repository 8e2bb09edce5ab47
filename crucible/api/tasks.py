"""The handlers of ``/tasks`` and ``/workers/status``, bare and under ``/api/v1``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from crucible.api.app_keys import FLEET, TASKS
from crucible.api.assessment_tasks import assessment_task, cancelled_assessment, is_assessment
from crucible.api.callers import caller_of
from crucible.evaluation.task_directory import Page
from crucible.evaluation.task_view import TaskShown, outcome_of
from crucible.http.answers import json_answer
from crucible.http.cursors import next_cursor, place_of
from crucible.http.query import limit_of

if TYPE_CHECKING:
    from aiohttp import web

    from crucible.broker.admin.fleet import WorkerInfo

#: Tasks in one answer, by default and at most.
PAGE, LARGEST_PAGE = 50, 500


class TaskPage(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``GET /tasks``.

    Attributes:
        tasks: what waits, then what workers hold, then what has ended, each in no certain order.
        cursor: value of ``cursor`` for the next page; null after the last. A page may have fewer
            tasks than its limit, or none, and yet not be the last.
    """

    tasks: list[TaskShown]
    cursor: str | None


class WorkerShown(msgspec.Struct, frozen=True, kw_only=True):
    """One worker.

    Attributes:
        name: its node name.
        kind: ``async`` or ``stock``.
        status: ``online``, ``trouble`` (it cannot run tasks now) or ``silent`` (it did not reply).
        detail: what the trouble is.
        pool: what runs its tasks: ``prefork``, ``threads``, ``solo``, ``asyncio`` …; null if it did
            not say.
        concurrency: tasks it runs at once; null if it did not say.
        active_tasks: tasks it runs now; null if it did not say.
        queues: queues it serves, in its order.
    """

    name: str
    kind: str
    status: str
    detail: str
    pool: str | None
    concurrency: int | None
    active_tasks: int | None
    queues: list[str]


class WorkersStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``GET /workers/status``.

    Attributes:
        workers: all that are known, by name.
        total: how many.
        online: those that replied and can run tasks.
    """

    workers: list[WorkerShown]
    total: int
    online: int


async def list_(request: web.Request) -> web.Response:
    """``GET /tasks[?limit=&cursor=]``: what waits, what workers hold, what has ended."""
    limit, place = limit_of(request, PAGE, LARGEST_PAGE), place_of(request, Page)
    found, following = await request.app[TASKS].page(caller_of(request), limit, place)
    cursor = None if following is None else next_cursor(request, following)
    return json_answer(TaskPage(tasks=found, cursor=cursor))


async def show(request: web.Request) -> web.Response:
    """``GET /tasks/{task_id}``: the task now."""
    task_id = request.match_info["task_id"]
    if is_assessment(task_id):
        found, _ = await assessment_task(request, task_id)
    else:
        found = await request.app[TASKS].look_up(caller_of(request), task_id)
    return json_answer(found)


async def result(request: web.Request) -> web.Response:
    """``GET /tasks/{task_id}/result``: 200 once it has ended, 202 before."""
    task_id = request.match_info["task_id"]
    if is_assessment(task_id):
        outcome = outcome_of(*await assessment_task(request, task_id), None)
    else:
        outcome = await request.app[TASKS].outcome(caller_of(request), task_id)
    return json_answer(outcome, 200 if outcome.ready else 202)


async def cancel(request: web.Request) -> web.Response:
    """``DELETE /tasks/{task_id}``: 200 once it has ended, now or before; 202 until it has."""
    task_id = request.match_info["task_id"]
    if is_assessment(task_id):
        found = await cancelled_assessment(request, task_id)
    else:
        found = await request.app[TASKS].cancel(caller_of(request), task_id)
    return json_answer(found, 200 if found.ready else 202)


async def workers(request: web.Request) -> web.Response:
    """``GET /workers/status``: every worker, async and stock."""
    found = [_shown(one) for one in await request.app[FLEET].workers()]
    online = sum(one.status == "online" for one in found)
    return json_answer(WorkersStatus(workers=found, total=len(found), online=online))


def _shown(worker: WorkerInfo) -> WorkerShown:
    return WorkerShown(
        name=worker.name,
        kind=worker.kind,
        status=worker.status,
        detail=worker.detail,
        pool=worker.pool,
        concurrency=worker.concurrency,
        active_tasks=worker.active,
        queues=worker.queues,
    )
