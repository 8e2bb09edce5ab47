"""What clients ask of assessments, without HTTP."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import msgspec

from crucible.assessments.comparison import Comparison, compare
from crucible.assessments.messages import PROCESS, QUEUE
from crucible.assessments.record import Head, Plan, Stage, now_ms, scoped_eval_id
from crucible.assessments.report import AssessmentReport
from crucible.assessments.suite import (
    AssessmentRequest,
    CaseRequest,
    CaseRules,
    check_ids,
    checked_case,
    shared_options,
)
from crucible.broker.wire.ids import new_id
from crucible.errors import (
    BrokerError,
    BrokerUnavailable,
    InputError,
    NotEnded,
    NotFound,
    NothingStored,
)
from crucible.evaluation.record import scoped_id, task_id_of
from crucible.validation import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crucible.assessments.store import AssessmentStore
    from crucible.assessments.suite import Case
    from crucible.broker import Publisher
    from crucible.broker.control.client import ControlClient
    from crucible.broker.results.meta import Meta
    from crucible.evaluation.allowance import Allowance
    from crucible.identity.principal import Principal
    from crucible.models import Tier

#: Cases checked before other requests get a turn.
_CHECKED = 200
#: Seconds without a change after which an assessment that nobody runs is queued again by ``start``.
_STUCK_S = 30.0
#: Evaluations that one command cancels.
_CANCELLED = 500
#: Kinds of reports and their media types.
REPORTS = {
    "json": "application/json",
    "html": "text/html",
    "junit": "application/xml",
}


class AssessmentService:
    """Serves tenants. Every method raises BrokerError if the task queue server does not answer.

    Args:
        store: keeps assessments.
        publisher: queues their tasks.
        control: cancels evaluations.
        allowed: what callers of each tier may ask for.
    """

    def __init__(
        self,
        store: AssessmentStore,
        publisher: Publisher,
        control: ControlClient,
        allowed: Mapping[Tier | None, Allowance],
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._control = control
        self._allowed = allowed

    async def create(self, caller: Principal, asked: AssessmentRequest) -> tuple[Head, bool]:
        """Keep a new assessment.

        Returns:
            It, and whether it is new: the same request under the same id finds the first one.

        Raises:
            InputError: a case could never run; its place is named.
            ConflictError: the id was used for something else, or the tenant has too many.
        """
        rules = CaseRules(
            repetitions=asked.repetitions, priority=asked.priority, shared=shared_options(asked)
        )
        cases = await self._checked(caller, asked.cases, 0, rules)
        check_ids([case.id for case in cases])
        digest = hashlib.blake2b(msgspec.msgpack.encode(asked), digest_size=16).digest()
        plan = Plan(
            name=asked.name,
            digest=digest,
            created_ms=now_ms(),
            repetitions=asked.repetitions,
            priority=asked.priority,
            pass_score=asked.pass_score,
            shared=msgspec.to_builtins(rules.shared),
            tier=caller.tier,
            metadata=asked.metadata,
        )
        assessment_id = scoped_id(caller.tenant, asked.assessment_id or new_id())
        head = await self._store.create(assessment_id, plan, cases, asked.draft)
        return head, head.plan.created_ms == plan.created_ms

    async def add_cases(
        self, caller: Principal, assessment_id: str, at: int, asked: Sequence[CaseRequest]
    ) -> Head:
        """Add cases to a draft.

        Raises:
            NotFound: the caller has no such assessment.
            NotEnded: it was started.
            InputError: a case could never run, or ``at`` is not how many there are.
        """
        scoped = _scoped(caller, assessment_id)
        plan = (await self._store.get(scoped)).plan
        rules = CaseRules(
            repetitions=plan.repetitions,
            priority=plan.priority,
            shared=_restored(plan.shared),
        )
        cases = await self._checked(caller, asked, at, rules)
        return await self._store.add_cases(scoped, at, cases)

    async def _checked(
        self, caller: Principal, asked: Sequence[CaseRequest], first: int, rules: CaseRules
    ) -> list[Case]:
        allowed = self._allowed[caller.tier]
        cases = []
        for number, one in enumerate(asked):
            case = checked_case(one, number, rules, allowed)
            if one.id is None:
                case = msgspec.structs.replace(case, id=str(first + number))
            cases.append(case)
            if number % _CHECKED == _CHECKED - 1:
                await asyncio.sleep(0)
        return cases

    async def start(self, caller: Principal, assessment_id: str) -> Head:
        """Queue an assessment; one that was started stays as it is, also where it has ended since.

        Raises:
            NotFound: the caller has no such assessment.
            InputError: it has no cases.
            NotEnded: it was cancelled.
            QueueFull: the queue holds as many messages as it may.
        """
        head, changed = await self._store.move(
            _scoped(caller, assessment_id),
            [Stage.CREATED],
            _startable,
            stage=Stage.QUEUED,
            started_ms=now_ms(),
            step="queued",
            message="it waits for a worker",
        )
        if changed:
            await self._queue(head, "first")
            head.stage = Stage.QUEUED
        elif await self._is_stuck(head):
            await self._queue(head, str(head.updated_ms))
        return head

    async def _queue(self, head: Head, occasion: str) -> None:
        try:
            await self._publisher.send_task(
                PROCESS,
                [head.id],
                task_id=head.task_id,
                queue=QUEUE,
                # Two clients that start it at once, or one that asks again, start it once.
                idempotency_key=f"{head.task_id}:{occasion}",
            )
        except BrokerError as error:
            if not isinstance(error, BrokerUnavailable) or isinstance(error, NothingStored):
                # Nothing was queued, so it was not started either.
                await self._store.move(
                    head.id, [Stage.QUEUED], stage=Stage.CREATED, step="created",
                    message="it was not started yet",
                )  # fmt: skip
            raise

    async def _is_stuck(self, head: Head) -> bool:
        """Whether nobody runs an assessment that was started, as after a purge."""
        if now_ms() - head.updated_ms < _STUCK_S * 1000:
            return False
        return not await self._store.lease(head.id).held()

    async def look_up(self, caller: Principal, assessment_id: str) -> Head:
        """One assessment.

        Raises:
            NotFound: the caller has no such assessment.
        """
        return await self._store.get(_scoped(caller, assessment_id))

    async def stored(self, head: Head) -> Meta | None:
        """What Celery clients find of an assessment's task; None before any worker had it."""
        return await self._publisher.results.meta(head.task_id)

    async def newest(self, caller: Principal, limit: int) -> list[Head]:
        """The caller's assessments, the newest first."""
        heads = []
        for one in await self._store.newest(caller.tenant, limit):
            try:
                heads.append(await self._store.get(scoped_id(caller.tenant, one)))
            except NotFound:
                continue  # it expired just now
        return heads

    async def cancel(self, caller: Principal, assessment_id: str) -> Head:
        """Cancel all that is left of an assessment; one that has ended stays as it is.

        Raises:
            NotFound: the caller has no such assessment.
        """
        scoped = _scoped(caller, assessment_id)
        head, changed = await self._store.move(
            scoped,
            [Stage.CREATED, Stage.QUEUED, Stage.RUNNING],
            stage=Stage.CANCELLED,
            finished_ms=now_ms(),
            step="cancelled",
            message="it was cancelled",
        )
        if changed or head.stage is Stage.CANCELLED:
            # Whoever asks again completes what an api that died in between began. Nothing is
            # submitted any more that is not in the window by now.
            window = await self._store.window(scoped)
            left = [task_id_of(scoped_eval_id(scoped, run)) for run in window]
            for start in range(0, len(left), _CANCELLED):
                part = left[start : start + _CANCELLED]
                await self._control.revoke(part, terminate=True, final=True)
            if head.stage is not Stage.CREATED:
                await self._control.revoke([head.task_id], terminate=True, final=True)
        return await self._store.get(scoped)

    async def forget(self, caller: Principal, assessment_id: str) -> None:
        """Delete an assessment that has ended; the evaluations that were its runs stay.

        Raises:
            NotFound: the caller has no such assessment.
            NotEnded: it has not ended.
        """
        await self._store.forget(_scoped(caller, assessment_id))

    async def report(self, caller: Principal, assessment_id: str, kind: str) -> bytes:
        """The report of an assessment, as one of ``REPORTS``.

        Raises:
            NotFound: the caller has no such assessment.
            NotEnded: there is no report yet.
        """
        head = await self.look_up(caller, assessment_id)
        if head.stage is not Stage.COMPLETED:
            raise NotEnded(f"there is no report: the assessment is {head.stage}")
        found = await self._store.report(head.id, kind)
        if found is None:
            raise NotFound("the report is not kept any more")
        return found

    async def compared(self, caller: Principal, assessment_id: str, baseline: str) -> Comparison:
        """What changed from an earlier assessment to a later one; raises as ``report``."""
        reports = [
            msgspec.json.decode(await self.report(caller, one, "json"), type=AssessmentReport)
            for one in (baseline, assessment_id)
        ]
        return compare(*reports)


def _scoped(caller: Principal, assessment_id: str) -> str:
    """The scoped id of a caller's assessment.

    Raises:
        NotFound: no assessment can have this id.
    """
    if ":" in assessment_id:
        raise NotFound(f"no assessment has the id {quoted(assessment_id, 64)}")
    return scoped_id(caller.tenant, assessment_id)


def _startable(head: Head) -> None:
    """Refuse to start what has no cases, or was cancelled.

    What has ended otherwise was started: whoever asks for that again has lost the answer.
    """
    if not head.cases:
        raise InputError("cases", "must not be empty: an assessment needs at least one case")
    if head.stage is Stage.CANCELLED:
        raise NotEnded("the assessment is cancelled; make a new one to run it")


def _restored(shared: dict[str, object]) -> dict[str, object]:
    """Options of a whole suite as they came with its request."""
    fields = msgspec.convert({"name": "-", **shared}, AssessmentRequest)
    return shared_options(fields)
