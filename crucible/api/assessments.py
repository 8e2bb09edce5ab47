"""The handlers of ``/assessments``, bare and under ``/api/v1``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from crucible.api.callers import caller_of
from crucible.assessments.service import REPORTS, AssessmentService
from crucible.assessments.store import open_store
from crucible.assessments.suite import decode_assessment, decode_cases
from crucible.assessments.view import AssessmentShown, shown_of, started_of
from crucible.errors import ParameterError
from crucible.evaluation.allowance import allowances
from crucible.http.answers import json_answer
from crucible.http.body import read_body
from crucible.http.query import flag_of, limit_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AsyncExitStack

    from crucible.broker import Publisher
    from crucible.broker.control.client import ControlClient
    from crucible.evaluation.allowance import Allowance
    from crucible.executor.served import ServedEnvironments
    from crucible.models import Tier
    from crucible.settings import Settings

ASSESSMENTS = web.AppKey("assessments", AssessmentService)
#: Assessments in one answer, by default and at most.
PAGE, LARGEST_PAGE = 50, 500
REPORT_QUERY = frozenset({"format", "baseline"})
_CODING_OF_TEXT = "utf-8"
#: A report is shown as a page, with its own style and nothing else.
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'"


class AssessmentList(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``GET /assessments``.

    Attributes:
        assessments: of the caller's tenant, the newest first.
    """

    assessments: list[AssessmentShown]


class AssessmentForgotten(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a purge.

    Attributes:
        assessment_id: the id, which is unknown from now on.
        purged: true.
    """

    assessment_id: str
    purged: bool = True


async def open_assessments(
    stack: AsyncExitStack,
    settings: Settings,
    served: ServedEnvironments,
    publisher: Publisher,
    control: ControlClient,
) -> AssessmentService:
    """What serves assessments; ``stack`` closes it."""
    store = await stack.enter_async_context(open_store(settings.celery_broker_url, publisher.keys))
    allowed: Mapping[Tier | None, Allowance] = allowances(settings, served)
    return AssessmentService(store, publisher, control, allowed)


async def create(request: web.Request) -> web.Response:
    """``POST /assessments``: 201, or 200 for one that was there; nothing runs before ``start``."""
    asked = decode_assessment(await read_body(request, "CRUCIBLE_MAX_BODY_KB"))
    head, new = await request.app[ASSESSMENTS].create(caller_of(request), asked)
    return json_answer(shown_of(head), 201 if new else 200)


async def add_cases(request: web.Request) -> web.Response:
    """``POST /assessments/{id}/cases``: add cases to a draft."""
    service, caller = request.app[ASSESSMENTS], caller_of(request)
    # Before the body is looked at: another tenant's assessment is unknown, whatever is sent.
    await service.look_up(caller, _id_of(request))
    asked = decode_cases(await read_body(request, "CRUCIBLE_MAX_BODY_KB"))
    return json_answer(
        shown_of(await service.add_cases(caller, _id_of(request), asked.at, asked.cases))
    )


async def start(request: web.Request) -> web.Response:
    """``POST /assessments/{id}/start``: 202 once its task is queued durably."""
    head = await request.app[ASSESSMENTS].start(caller_of(request), _id_of(request))
    started = started_of(head)
    return json_answer(started, 202, headers={"Location": started.href})


async def list_(request: web.Request) -> web.Response:
    """``GET /assessments[?limit=]``: the newest first."""
    limit = limit_of(request, PAGE, LARGEST_PAGE)
    heads = await request.app[ASSESSMENTS].newest(caller_of(request), limit)
    return json_answer(AssessmentList(assessments=[shown_of(head) for head in heads]))


async def show(request: web.Request) -> web.Response:
    """``GET /assessments/{id}``: the assessment as it is now."""
    head = await request.app[ASSESSMENTS].look_up(caller_of(request), _id_of(request))
    return json_answer(shown_of(head))


async def cancel(request: web.Request) -> web.Response:
    """``DELETE /assessments/{id}``: cancel all that is left; one that has ended stays as it is.

    With ``?purge=true`` one that has ended is deleted: 200, and 404 from then on.
    """
    if flag_of(request, "purge"):
        await request.app[ASSESSMENTS].forget(caller_of(request), _id_of(request))
        return json_answer(AssessmentForgotten(assessment_id=_id_of(request)))
    head = await request.app[ASSESSMENTS].cancel(caller_of(request), _id_of(request))
    return json_answer(shown_of(head))


async def report(request: web.Request) -> web.Response:
    """``GET /assessments/{id}/report[?format=json|html|junit][&baseline=ID]``."""
    service, caller = request.app[ASSESSMENTS], caller_of(request)
    baseline = request.query.get("baseline")
    kind = request.query.get("format", "json")
    if kind not in REPORTS:
        raise ParameterError("format", f"must be one of {', '.join(REPORTS)}")
    if baseline is not None:
        if kind != "json":
            raise ParameterError("baseline", "comes as JSON only")
        return json_answer(await service.compared(caller, _id_of(request), baseline))
    content = await service.report(caller, _id_of(request), kind)
    headers = {"Content-Security-Policy": _PAGE_POLICY} if kind == "html" else None
    return web.Response(
        body=content, content_type=REPORTS[kind], charset=_CODING_OF_TEXT, headers=headers
    )


def _id_of(request: web.Request) -> str:
    return request.match_info["assessment_id"]
