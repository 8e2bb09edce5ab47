"""Grading as part of a task: progress while it runs, and the task's result."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.evaluation.result import (
    EvalResult,
    RunTiming,
    compile_view,
    plain,
    text_of,
    whole_ms,
    whole_text,
)
from crucible.evaluation.view import now_text
from crucible.grading.models import skipped
from crucible.grading.scoring import score_of
from crucible.models import TestResult, Usage, Verdict, status_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.executor import Executor
    from crucible.executor.artifact import Compilation
    from crucible.grading.models import Grading, Judgement
    from crucible.worker import TaskContext

#: Seconds between two states that are stored while tests run; the first tests may be all there are.
PROGRESS_S = 0.2
PROGRESS = "PROGRESS"


async def grade(
    ctx: TaskContext, executor: Executor, eval_id: str, grading: Grading, started_at: str
) -> EvalResult:
    """Grade one program; cancelling leaves what was judged until then.

    Args:
        ctx: the task.
        executor: runs the tests.
        eval_id: the evaluation's id.
        grading: what to grade.
        started_at: when the task began, as the HTTP contract writes it.

    Raises:
        ExecutorError: the platform could not run it.
    """
    judgements: list[Judgement] = []
    began_s = asyncio.get_running_loop().time()

    def result(
        verdict: Verdict | None = None, compilation: Compilation | None = None
    ) -> EvalResult:
        rest = [
            skipped(test, "skipped: the evaluation was stopped")
            for test in grading.tests[len(judgements) :]
        ]
        run_s = asyncio.get_running_loop().time() - began_s
        return msgspec.structs.replace(
            graded(eval_id, grading, [*judgements, *rest], verdict, compilation),
            worker=ctx.hostname,
            retry_count=ctx.retries,
            started_at=started_at,
            finished_at=now_text(),
            timing_ms=RunTiming(run=whole_ms(run_s)),
        )

    try:
        async with _reporting(ctx, grading, judgements):
            compilation = await executor.grade(grading, judgements.append)
    except asyncio.CancelledError:
        ctx.leave(plain(result(Verdict.CANCELLED)))
        raise
    if compilation is None or compilation.verdict is Verdict.OK:
        return result(None, compilation)
    return result(compilation.verdict, compilation)


@asynccontextmanager
async def _reporting(
    ctx: TaskContext, grading: Grading, judgements: list[Judgement]
) -> AsyncIterator[None]:
    """Store how far it is, every ``PROGRESS_S`` seconds in which something was judged."""

    async def report() -> None:
        known = 0
        while True:
            await asyncio.sleep(PROGRESS_S)
            if len(judgements) > known:
                known = len(judgements)
                await ctx.update_state(PROGRESS, progress_meta(grading, judgements, ctx.hostname))

    reporting = asyncio.create_task(report(), name=f"progress-{ctx.id}")
    try:
        yield
    finally:
        reporting.cancel()
        # A state on its way is stored before the result is; an outage of the server ends in the
        # same error there.
        await asyncio.gather(reporting, return_exceptions=True)


def progress_meta(grading: Grading, judgements: list[Judgement], hostname: str) -> dict[str, Any]:
    """What is stored with the state ``PROGRESS``; ``progress`` is percent, as events have it."""
    done, total = len(judgements), len(grading.tests)
    return {
        "hostname": hostname,
        "progress": round(100 * done / total, 2),
        "current_step": "tests",
        "message": f"{done} of {total} tests",
        "updated_at": now_text(),
        "tests_done": done,
        "tests_total": total,
        "passed": sum(one.verdict is Verdict.ACCEPTED for one in judgements),
    }


def graded(
    eval_id: str,
    grading: Grading,
    judgements: list[Judgement],
    verdict: Verdict | None = None,
    compilation: Compilation | None = None,
) -> EvalResult:
    """The result of an evaluation from the judgements of all its tests.

    Args:
        eval_id: its id.
        grading: what was asked.
        judgements: in the order of the tests.
        verdict: where it is not that of the tests.
        compilation: how compiling ended, where there was any.
    """
    score = score_of(grading, judgements)
    overall = verdict or score.verdict
    view = compile_view(compilation.report) if compilation else None
    refused = view if overall is Verdict.COMPILE_ERROR else None
    message = f"{score.passed} of {score.total} tests passed"
    if compilation is not None and compilation.message:
        message = compilation.message
    elif score.first is not None:
        message += f"; test {score.first.id}: {score.first.verdict}"
        message += f", {score.first.message}" if score.first.message else ""
    return EvalResult(
        eval_id=eval_id,
        status=status_of(overall),
        verdict=overall,
        error=refused.error if refused else "",
        error_encoding=refused.error_encoding if refused else "utf-8",
        message=message,
        isolation=grading.program.isolation,
        usage=_total([one.usage for one in judgements]),
        tests=[_shown(one) for one in judgements],
        passed=score.passed,
        total=score.total,
        score=score.score,
        compile=view or msgspec.UNSET,
    )


def _total(usages: list[Usage]) -> Usage:
    """Times added up, and the highest of what is a peak."""
    return Usage(
        wall_time_ms=sum(one.wall_time_ms for one in usages),
        cpu_time_ms=sum(one.cpu_time_ms for one in usages),
        memory_peak_kb=max(one.memory_peak_kb for one in usages),
        processes=max(one.processes for one in usages),
    )


def _cut(judgement: Judgement, data: bytes) -> bytes:
    """Output without the part of a character at its end, where the program did not end it there."""
    whole = judgement.exit_code is not None and not judgement.output_truncated
    return data if whole else whole_text(data)


def _shown(judgement: Judgement) -> TestResult:
    output, output_encoding = text_of(_cut(judgement, judgement.stdout))
    error, error_encoding = text_of(_cut(judgement, judgement.stderr))
    return TestResult(
        id=judgement.id,
        verdict=judgement.verdict,
        points=judgement.points,
        output=output,
        error=error,
        output_truncated=judgement.output_truncated,
        exit_code=judgement.exit_code,
        signal=judgement.signal,
        usage=judgement.usage,
        message=judgement.message,
        output_encoding=output_encoding,
        error_encoding=error_encoding,
    )
