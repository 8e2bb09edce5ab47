"""The handlers of ``/api/v1/workflows``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from crucible.api.callers import caller_of
from crucible.broker.redis.connection import open_client
from crucible.evaluation.allowance import allowances
from crucible.http.answers import json_answer
from crucible.http.body import read_body
from crucible.workflows.request import decode_workflow
from crucible.workflows.service import WorkflowService
from crucible.workflows.store import WorkflowStore
from crucible.workflows.view import WorkflowShown, shown_of

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from crucible.broker import Publisher
    from crucible.broker.control.client import ControlClient
    from crucible.evaluation.service import EvaluationService
    from crucible.executor.served import ServedEnvironments
    from crucible.settings import Settings
    from crucible.workflows.record import Workflow

WORKFLOWS = web.AppKey("workflows", WorkflowService)


async def open_workflows(
    stack: AsyncExitStack,
    settings: Settings,
    served: ServedEnvironments,
    publisher: Publisher,
    control: ControlClient,
    evaluations: EvaluationService,
) -> WorkflowService:
    """What serves workflows; ``stack`` closes it."""
    client = await stack.enter_async_context(
        open_client(settings.celery_broker_url, name="workflows")
    )
    store = WorkflowStore(client, publisher.keys)
    allowed = allowances(settings, served)
    return WorkflowService(store, evaluations, publisher, control, allowed)


async def submit(request: web.Request) -> web.Response:
    """``POST /api/v1/workflows``: 202 once its task is queued durably; 200 for one that was."""
    asked = decode_workflow(await read_body(request, "CRUCIBLE_MAX_BODY_KB"))
    workflow, new = await request.app[WORKFLOWS].submit(caller_of(request), asked)
    shown = await _shown(request, workflow)
    return json_answer(shown, 202 if new else 200, headers={"Location": shown.href})


async def show(request: web.Request) -> web.Response:
    """``GET /api/v1/workflows/{id}``: the workflow as it is now, with results by step."""
    service = request.app[WORKFLOWS]
    workflow = await service.look_up(caller_of(request), request.match_info["workflow_id"])
    return json_answer(await _shown(request, workflow))


async def cancel(request: web.Request) -> web.Response:
    """``DELETE /api/v1/workflows/{id}``: cancel all that is left of it."""
    service = request.app[WORKFLOWS]
    workflow = await service.cancel(caller_of(request), request.match_info["workflow_id"])
    return json_answer(await _shown(request, workflow))


async def _shown(request: web.Request, workflow: Workflow) -> WorkflowShown:
    evaluations = await request.app[WORKFLOWS].evaluations(caller_of(request), workflow)
    return shown_of(workflow, evaluations)
