"""The tasks of assessments: one definition each, served by async and stock workers alike."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from crucible.assessments.driver import LEASE_S, Driver, Taken, note
from crucible.assessments.html_report import html_report
from crucible.assessments.junit import junit_report
from crucible.assessments.making import made_recommendations, made_report
from crucible.assessments.messages import PROCESS, RECOMMEND, REPORT, process, reporting
from crucible.assessments.record import OVER, Head, Stage, now_ms
from crucible.assessments.store import AssessmentStore
from crucible.broker.wire.ids import new_id
from crucible.errors import BrokerError, InputError
from crucible.evaluation.inner_service import open_inner_service
from crucible.evaluation.record import public_id
from crucible.redis_keys import Keys
from crucible.worker import Ignore, TaskRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from crucible.evaluation.inner_service import InnerService
    from crucible.settings import Settings
    from crucible.worker import TaskContext

_Result = TypeVar("_Result")
#: Seconds for the lease of one that died to end, and between two looks at it.
_LEASE_WAIT_S, _LEASE_LOOK_S = LEASE_S + 2.0, 0.25
#: Seconds until a task runs again that the server left without an answer.
_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Office:
    """What the tasks need while a worker lives.

    Attributes:
        store: keeps assessments.
        inner: takes evaluations.
    """

    store: AssessmentStore
    inner: InnerService


def build_registry(settings: Settings) -> TaskRegistry:
    """The tasks of assessments, with what they need opened and closed beside the worker."""
    keys = Keys(settings.global_keyprefix, settings.result_prefix)

    @asynccontextmanager
    async def office() -> AsyncIterator[Office]:
        async with open_inner_service(settings) as inner:
            yield Office(AssessmentStore(inner.client, keys), inner)

    registry = TaskRegistry(office)
    # Nothing but the server's silence has them fail, and that they wait for themselves.
    registry.task(PROCESS, max_retries=None, resumes=True)(process_assessment)
    registry.task(RECOMMEND, max_retries=None, resumes=True)(generate_recommendations)
    registry.task(REPORT, max_retries=None, resumes=True)(generate_report)
    return registry


async def process_assessment(ctx: TaskContext, assessment_id: str) -> dict[str, Any]:
    """Run an assessment's cases; the report is made by the tasks that take this one's place.

    Args:
        ctx: the task.
        assessment_id: its scoped id.

    Returns:
        Its summary, where it had ended before.

    Raises:
        NotFound: there is no such assessment.
        InputError: it has no cases.
    """
    office: Office = ctx.state
    return await _guarded(ctx, assessment_id, lambda: _process(ctx, office, assessment_id))


async def _process(ctx: TaskContext, office: Office, assessment_id: str) -> dict[str, Any]:
    head = await office.store.get(assessment_id)
    if head.stage in OVER:
        return ended(head)
    if not head.cases:
        raise InputError("cases", "must not be empty: an assessment needs at least one case")
    holder = f"{ctx.id}:{new_id()}"
    await _wait_for_lease(office.store, assessment_id, holder)
    try:
        await office.store.move(
            assessment_id,
            [Stage.CREATED, Stage.QUEUED],
            stage=Stage.RUNNING,
            started_ms=head.started_ms or now_ms(),
        )
        done = await Driver(ctx, office.store, office.inner.service, head, holder).turn()
    finally:
        # Before the next turn begins, perhaps in another worker.
        await office.store.lease(assessment_id).release(holder)
    if not done:
        raise ctx.replace(process(assessment_id))
    await note(ctx, office.store, assessment_id, "writing reports", "all runs have ended")
    raise ctx.replace(reporting(assessment_id))


async def _wait_for_lease(store: AssessmentStore, assessment_id: str, holder: str) -> None:
    """Have the lease, or see that somebody who lives has it."""
    give_up_at = asyncio.get_running_loop().time() + _LEASE_WAIT_S
    while not await store.lease(assessment_id).take(holder, LEASE_S):
        if asyncio.get_running_loop().time() > give_up_at:
            raise Taken("another worker runs this assessment")
        await asyncio.sleep(_LEASE_LOOK_S)


async def generate_recommendations(ctx: TaskContext, assessment_id: str) -> list[dict[str, Any]]:
    """Find out what to do about an assessment whose runs have ended, and keep it.

    Args:
        ctx: the task.
        assessment_id: its scoped id.

    Raises:
        NotFound: there is no such assessment.
        InputError: its runs have not ended.
    """
    office: Office = ctx.state

    async def recommend() -> list[dict[str, Any]]:
        found = await made_recommendations(office.store, office.inner.allowed, assessment_id)
        await office.store.keep_report(assessment_id, "recommendations", msgspec.json.encode(found))
        plain: list[dict[str, Any]] = msgspec.to_builtins(found)
        return plain

    return await _guarded(ctx, assessment_id, recommend)


async def generate_report(ctx: TaskContext, assessment_id: str) -> dict[str, Any]:
    """Make the reports of an assessment whose runs have ended; it has completed then.

    Args:
        ctx: the task.
        assessment_id: its scoped id.

    Returns:
        Its summary.

    Raises:
        NotFound: there is no such assessment.
        InputError: its runs have not ended.
    """
    office: Office = ctx.state

    async def report() -> dict[str, Any]:
        store = office.store
        made = await made_report(store, office.inner.allowed, assessment_id)
        # Thousands of lines of text take a while; claims are renewed meanwhile.
        html = await asyncio.to_thread(html_report, made)
        junit = await asyncio.to_thread(junit_report, made)
        await store.keep_report(assessment_id, "json", msgspec.json.encode(made))
        await store.keep_report(assessment_id, "html", html.encode())
        await store.keep_report(assessment_id, "junit", junit.encode())
        summary = made.summary
        outcome = "passed" if summary.passed else "failed"
        await store.move(
            assessment_id,
            [Stage.RUNNING],
            stage=Stage.COMPLETED,
            finished_ms=now_ms(),
            score=summary.score,
            passed=int(summary.passed),
            passed_cases=summary.passed_cases,
            step="completed",
            message=f"{outcome}: {summary.passed_cases} of {summary.total} cases passed",
        )
        return ended(await store.get(assessment_id))

    return await _guarded(ctx, assessment_id, report)


async def _guarded(
    ctx: TaskContext, assessment_id: str, work: Callable[[], Awaitable[_Result]]
) -> _Result:
    """Do it; a failure that is no silence of the server ends the assessment."""
    office: Office = ctx.state
    try:
        return await work()
    except Taken as taken:
        raise Ignore(str(taken)) from taken
    except (Ignore, asyncio.CancelledError):
        raise
    except BrokerError as error:
        raise ctx.retry(countdown=_AGAIN_S, exc=error) from error
    except Exception as error:
        # Whoever asks must learn of it: nothing else would end the assessment.
        await office.store.fail(assessment_id, f"{type(error).__name__}: {error}")
        raise


def ended(head: Head) -> dict[str, Any]:
    """What the task of an assessment returns."""
    return {
        "assessment_id": public_id(head.id),
        "status": str(head.stage),
        "passed": head.passed,
        "score": head.score,
        "cases": head.cases,
        "passed_cases": head.passed_cases,
        "runs": head.runs,
    }
