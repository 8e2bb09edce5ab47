"""Grades one program: its tests one after the other, each compared, checked or talked to.

Expected answers stay in this process, and go into the sandbox of a checker at most: no sandbox the
judged program is in ever sees one, nor the checker.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from crucible.executor.grading.checker import PreparedGrader, check
from crucible.executor.grading.interaction import interact
from crucible.executor.grading.series import Series
from crucible.grading.comparison import compare
from crucible.grading.models import Judgement, Ruling, judgement_of, skipped
from crucible.grading.scoring import StopRule
from crucible.models import Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from crucible.executor.artifact import Artifact, Compilation
    from crucible.executor.docker import DockerExecutor
    from crucible.grading.models import Grading, GradingTest
    from crucible.models import Limits, Outcome, Program

#: Bytes compared at once in the event loop; more is compared in a thread.
AT_ONCE_BYTES = 64 << 10


async def grade(
    executor: DockerExecutor, grading: Grading, judged: Callable[[Judgement], None]
) -> Compilation | None:
    """Compile a program, run its tests, and judge each.

    Args:
        executor: has the sandboxes.
        grading: what to grade.
        judged: called with each judgement, in the order of the tests.

    Returns:
        How compiling it ended, without what was made; None where its language has no compiler.

    Raises:
        ExecutorError: the platform could not run a test or its checker; what was judged is known.
    """
    compilation = await _compiled(executor, grading.program)
    artifact = compilation.artifact if compilation else None
    if compilation is not None and artifact is None:
        for test in grading.tests:
            judged(skipped(test, "skipped: the program was not compiled"))
        return compilation
    async with GradingRun.open(executor, grading, artifact) as run:
        await run.judge_all(judged)
    return compilation and msgspec.structs.replace(compilation, artifact=None)


async def _compiled(executor: DockerExecutor, program: Program) -> Compilation | None:
    """How a program compiles; None where its language has no compiler."""
    return await executor.compile(program) if executor.admit(program).language.compile else None


class GradingRun:
    """One program's tests on their way.

    Args:
        grading: what to grade.
        series: runs the program.
        artifact: what was compiled of it.
        checker: judges outputs, where a program does that.
        interactor: talks to the program, where one does that.
        ceiling: the most that any program may ask for.
    """

    def __init__(
        self,
        grading: Grading,
        series: Series,
        artifact: Artifact | None,
        *,
        checker: PreparedGrader | None,
        interactor: PreparedGrader | None,
        ceiling: Limits,
    ) -> None:
        self._grading = grading
        self._series = series
        self._artifact = artifact
        self._checker = checker
        self._interactor = interactor
        self._ceiling = ceiling
        self._rule = StopRule(grading.stop)
        self._deadline_s = time.monotonic() + grading.time_s

    @classmethod
    @asynccontextmanager
    async def open(
        cls, executor: DockerExecutor, grading: Grading, artifact: Artifact | None
    ) -> AsyncIterator[GradingRun]:
        """Have the sandboxes it takes."""
        async with AsyncExitStack() as stack:
            graders: list[PreparedGrader | None] = []
            if grading.checker or grading.interactor:
                await stack.enter_async_context(executor.two_lanes)
            for grader in (grading.checker, grading.interactor):
                if grader is None:
                    graders.append(None)
                    continue
                apart = await stack.enter_async_context(Series(executor, fresh=True))
                graders.append(
                    await PreparedGrader.prepare(executor, apart, grader, grading.program)
                )
            checker, interactor = graders
            # Isolation ``nested`` is in a lane of the tenant's, as any program that asks for it.
            fresh = grading.program.isolation == "container"
            series = await stack.enter_async_context(Series(executor, fresh=fresh))
            ceiling = executor.config.ceiling
            yield cls(
                grading, series, artifact, checker=checker, interactor=interactor, ceiling=ceiling
            )

    async def judge_all(self, judged: Callable[[Judgement], None]) -> None:
        """Run what is to run, and judge each test."""
        for test in self._grading.tests:
            why = self._rule.why_skipped(test)
            if why is None and time.monotonic() > self._deadline_s:
                why = f"skipped: the {self._grading.time_s:g} s of the request were used up"
            if why is not None:
                judged(skipped(test, why))
                continue
            judgement = await self._judge(test)
            self._rule.judged(test, judgement.verdict)
            judged(judgement)

    async def _judge(self, test: GradingTest) -> Judgement:
        program = _program_of(self._grading.program, test)
        if self._interactor is not None:
            outcome, ruling = await interact(
                self._series, program, self._artifact, self._interactor, test, self._ceiling
            )
        else:
            outcome = await self._series.run(program, self._artifact)
            ruling = await self._ruling(test, outcome)
        return judgement_of(test, outcome, ruling, self._grading.shown_bytes)

    async def _ruling(self, test: GradingTest, outcome: Outcome) -> Ruling:
        """What a test whose program has ended is worth."""
        if outcome.verdict is not Verdict.OK:
            return Ruling(outcome.verdict, outcome.message)
        if self._checker is not None:
            return await check(self._checker, test, outcome.stdout)
        if test.expected is None:
            return Ruling(Verdict.ACCEPTED)
        comparison = self._grading.comparison
        if len(test.expected) + len(outcome.stdout) < AT_ONCE_BYTES:
            return compare(comparison, test.expected, outcome.stdout)
        return await asyncio.to_thread(compare, comparison, test.expected, outcome.stdout)


def _program_of(program: Program, test: GradingTest) -> Program:
    return msgspec.structs.replace(
        program, stdin=test.stdin, args=test.args, files=test.files, limits=test.limits
    )
