"""Runs the cases of an assessment as evaluations: submits them, follows them, keeps how they end.

At most ``WINDOW`` evaluations are under way at once, so memory does not grow with the suite. Their
ids follow from the number of the run: whoever takes over after a death submits the same ids again,
and what was queued or has ended is found, not repeated.

One turn ends after ``TURN_S`` or when nothing has ended for ``QUIET_S``; the task then queues
itself again. So no time limit of a worker is met, and a worker with a single slot, which this task
occupies, gets to run the evaluations this task waits for.
"""

from __future__ import annotations

import asyncio
from itertools import groupby
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.assessments.record import (
    Head,
    Run,
    Runs,
    Stage,
    eval_id_of,
    scoped_eval_id,
)
from crucible.assessments.view import info_of
from crucible.errors import BrokerError, ConflictError, InputError, NotFound
from crucible.evaluation.record import public_id, tenant_of
from crucible.identity.principal import SCOPES, Principal
from crucible.models import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from crucible.assessments.store import AssessmentStore
    from crucible.evaluation.celery_service import CeleryService
    from crucible.evaluation.request import EvalRequest
    from crucible.models import Evaluation
    from crucible.worker import TaskContext

#: Evaluations under way at once; fewer free places than this are not filled one by one.
WINDOW, REFILL = 128, 32
#: Seconds of one turn, and of silence after which it ends.
TURN_S, QUIET_S = 120.0, 2.0
#: Seconds of the lease, and between its renewals. A dead worker's message comes back after some
#: 15 s, so the lease of the dead has ended by then.
LEASE_S, RENEW_S = 10, 2.0
#: Seconds between two updates of the progress, and until what was refused is submitted again.
NOTE_S, AGAIN_S = 0.5, 1.0
#: Seconds of one wait for an evaluation.
_WAIT_S = 5.0
#: Characters of a message that are kept of a run.
_MESSAGE = 160


class Taken(Exception):  # noqa: N818 - a state of the assessment
    """Somebody else runs it, or it does not run any more."""


class Driver:
    """One turn of one assessment.

    Args:
        ctx: of its task.
        store: keeps it.
        service: takes evaluations.
        head: the assessment.
        holder: who has its lease.
    """

    def __init__(
        self,
        ctx: TaskContext,
        store: AssessmentStore,
        service: CeleryService,
        head: Head,
        holder: str,
    ) -> None:
        self._ctx = ctx
        self._store = store
        self._service = service
        self._id = head.id
        self._holder = holder
        self._caller = Principal("", tenant_of(head.id), frozenset(SCOPES))
        self._places = Runs(head.repetitions)
        self._followed: dict[asyncio.Task[Run | None], int] = {}
        self._to_submit: list[int] = []
        self._submit_at = self._renewed_at = self._noted_at = 0.0
        self._noted = -1

    async def turn(self) -> bool:
        """Whether every run has ended when the turn does.

        Raises:
            Taken: the assessment was cancelled, or somebody else has the lease.
            BrokerError: the server does not answer.
        """
        now = asyncio.get_running_loop().time
        ends_at, quiet_at = now() + TURN_S, now() + QUIET_S
        self._to_submit = await self._store.window(self._id)
        try:
            while True:
                await self._fill(now())
                if not self._followed and not self._to_submit:
                    await self._note(now(), last=True)
                    return True
                if await self._collect():
                    quiet_at = now() + QUIET_S
                await self._renew(now())
                await self._note(now())
                if now() >= min(ends_at, quiet_at):
                    await self._note(now(), last=True)
                    return False
        finally:
            for task in self._followed:
                task.cancel()
            await asyncio.gather(*self._followed, return_exceptions=True)

    async def _fill(self, now: float) -> None:
        """Submit what there is room for."""
        under_way = len(self._followed) + len(self._to_submit)
        if under_way <= WINDOW - REFILL:
            self._to_submit += await self._store.reserve(self._id, WINDOW - under_way)
        if self._to_submit and now >= self._submit_at:
            runs, self._to_submit = self._to_submit, []
            await self._submit(runs)
            if self._to_submit:
                self._submit_at = now + AGAIN_S

    async def _submit(self, runs: Sequence[int]) -> None:
        requests = await self._requests(runs)
        outcomes = await self._service.submit_many(self._caller, requests, [None] * len(requests))
        refused: dict[int, Run] = {}
        for run, outcome in zip(runs, outcomes, strict=True):
            if isinstance(outcome, (InputError, ConflictError)):
                refused[run] = Run(Verdict.INTERNAL_ERROR, 0.0, message=str(outcome)[:_MESSAGE])
            elif isinstance(outcome, Exception):
                # The queue is full, or the server is away: its place in the window stays.
                self._to_submit.append(run)
            else:
                self._follow(run)
        if refused:
            await self._store.record(self._id, refused)

    async def _requests(self, runs: Iterable[int]) -> list[EvalRequest]:
        """The submissions of runs, in order."""
        requests = []
        wanted = sorted({self._places.place(run)[0] for run in runs})
        cases: dict[int, Any] = {}
        for _, stretch in groupby(enumerate(wanted), lambda pair: pair[1] - pair[0]):
            numbers = [number for _, number in stretch]
            found = await self._store.cases(self._id, numbers[0], len(numbers))
            cases.update(zip(numbers, found, strict=True))
        for run in runs:
            number, repetition = self._places.place(run)
            metadata = {
                "assessment": public_id(self._id),
                "case": cases[number].id,
                "repetition": repetition,
            }
            requests.append(
                msgspec.structs.replace(
                    cases[number].program, eval_id=eval_id_of(self._id, run), metadata=metadata
                )
            )
        return requests

    def _follow(self, run: int) -> None:
        task = asyncio.create_task(self._ended(run), name=f"crucible-assessment-run-{run}")
        self._followed[task] = run

    async def _ended(self, run: int) -> Run | None:
        """How a run ended; None where nothing is known of its evaluation any more."""
        eval_id = scoped_eval_id(self._id, run)
        while True:
            try:
                if await self._service.wait_for(eval_id, _WAIT_S):
                    return run_of(await self._service.find(eval_id))
            except NotFound:
                return None
            except BrokerError:
                await asyncio.sleep(AGAIN_S)

    async def _collect(self) -> bool:
        """Keep what has ended meanwhile; whether anything has."""
        if not self._followed:
            await asyncio.sleep(NOTE_S)  # everything was refused: nothing to wait for
            return False
        done, _ = await asyncio.wait(
            self._followed, timeout=NOTE_S, return_when=asyncio.FIRST_COMPLETED
        )
        ended: dict[int, Run] = {}
        for task in done:
            run, outcome = self._followed.pop(task), task.result()
            if outcome is None:
                self._to_submit.append(run)
            else:
                ended[run] = outcome
        if ended:
            await self._store.record(self._id, ended)
        return bool(ended)

    async def _renew(self, now: float) -> None:
        if now < self._renewed_at + RENEW_S:
            return
        self._renewed_at = now
        if not await self._store.lease(self._id).take(self._holder, LEASE_S):
            raise Taken("another worker runs this assessment")

    async def _note(self, now: float, last: bool = False) -> None:
        """Say how far it is, to everybody who asks in whatever way."""
        if now < self._noted_at + NOTE_S and not last:
            return
        self._noted_at = now
        head = await self._store.get(self._id)
        if head.stage is not Stage.RUNNING:
            raise Taken(f"the assessment is {head.stage}")
        if head.ended == self._noted:
            return
        self._noted = head.ended
        await note(self._ctx, self._store, self._id, "running cases", _message(head))


async def note(
    ctx: TaskContext, store: AssessmentStore, assessment_id: str, step: str, message: str
) -> None:
    """Keep what a running assessment does, and have its task say the same."""
    _, changed = await store.move(assessment_id, [Stage.RUNNING], step=step, message=message)
    if not changed:
        raise Taken("the assessment does not run any more")
    info = info_of(await store.get(assessment_id))
    await ctx.update_state("PROGRESS", msgspec.to_builtins(info))


def _message(head: Head) -> str:
    failed = head.ended - head.passed_runs
    failures = f", {failed} failed" if failed > 0 else ""
    return f"{head.ended} of {head.runs} runs have ended{failures}"


def run_of(evaluation: Evaluation) -> Run:
    """What is kept of an evaluation that has ended."""
    usage = evaluation.usage
    verdict = evaluation.verdict or Verdict.INTERNAL_ERROR
    passed = verdict in (Verdict.OK, Verdict.ACCEPTED)
    score = evaluation.score
    return Run(
        verdict=verdict,
        score=float(passed) if isinstance(score, msgspec.UnsetType) else score,
        wall_ms=usage.wall_time_ms if usage else 0,
        cpu_ms=usage.cpu_time_ms if usage else 0,
        memory_kb=usage.memory_peak_kb if usage else 0,
        exit_code=evaluation.exit_code,
        passed_tests=_number(evaluation.passed),
        total_tests=_number(evaluation.total),
        retries=evaluation.retry_count,
        message="" if passed else _reason(evaluation)[:_MESSAGE],
    )


def _number(value: int | msgspec.UnsetType) -> int:
    return 0 if isinstance(value, msgspec.UnsetType) else value


def _reason(evaluation: Evaluation) -> str:
    """Why a program failed, in one line."""
    tests = [] if isinstance(evaluation.tests, msgspec.UnsetType) else evaluation.tests
    for test in tests:
        if test.verdict not in (Verdict.ACCEPTED, Verdict.SKIPPED):
            said = f": {test.message}" if test.message else ""
            return f"test {test.id}: {test.verdict}{said}"
    if evaluation.message:
        return evaluation.message
    if evaluation.error_encoding == "utf-8":
        lines = [line.strip() for line in evaluation.error.splitlines() if line.strip()]
        if lines:
            return lines[-1]
    if evaluation.exit_code:
        return f"exit code {evaluation.exit_code}"
    return ""
