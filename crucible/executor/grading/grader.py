"""Grades one program: its tests one after the other, each compared, checked or talked to.

Expected answers stay in this process, and go into the sandbox of a checker at most: no sandbox the
judged program is in ever sees one, nor the checker.
"""

from __future__ import annotations

import asyncio
import base64
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import msgspec

from crucible.executor.grading.series import Series
from crucible.grading.comparison import compare
from crucible.grading.models import Judgement, Ruling, judgement_of, skipped
from crucible.grading.scoring import StopRule
from crucible.grading.testlib import ANSWER, INPUT, OUTPUT, PYTHON_MAIN, ruling_of
from crucible.models import Program, SourceFile, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from crucible.executor.docker import DockerExecutor
    from crucible.grading.models import Grader, Grading, GradingTest
    from crucible.models import Outcome

#: Bytes compared at once in the event loop; more is compared in a thread.
AT_ONCE_BYTES = 64 << 10
#: KiB kept of what a checker writes.
CHECKER_OUTPUT_KB = 64
CHECKER_FILE = "checker.py"


async def grade(
    executor: DockerExecutor, grading: Grading, judged: Callable[[Judgement], None]
) -> None:
    """Run the tests and judge each.

    Args:
        executor: has the sandboxes.
        grading: what to grade.
        judged: called with each judgement, in the order of the tests.

    Raises:
        ExecutorError: the platform could not run a test or its checker; what was judged is known.
    """
    program = grading.program
    rule = StopRule(grading.stop)
    deadline_s = time.monotonic() + grading.time_s
    async with AsyncExitStack() as stack:
        if grading.checker or grading.interactor:
            await stack.enter_async_context(executor.two_lanes)
        # Of the two, ``nested`` is in a lane of the tenant's, as any program that asks for it.
        fresh = program.isolation == "container"
        series = await stack.enter_async_context(Series(executor, fresh=fresh))
        checking = await stack.enter_async_context(Series(executor, fresh=True))
        for test in grading.tests:
            why = rule.why_skipped(test)
            if why is None and time.monotonic() > deadline_s:
                why = f"skipped: the {grading.time_s:g} s of the request were used up"
            if why is not None:
                judged(skipped(test, why))
                continue
            outcome = await series.run(_program_of(program, test))
            ruling = await _rule(grading, test, outcome, checking)
            judgement = judgement_of(test, outcome, ruling, grading.shown_bytes)
            rule.judged(test, judgement.verdict)
            judged(judgement)


def _program_of(program: Program, test: GradingTest) -> Program:
    return msgspec.structs.replace(
        program, stdin=test.stdin, args=test.args, files=test.files, limits=test.limits
    )


async def _rule(grading: Grading, test: GradingTest, outcome: Outcome, checking: Series) -> Ruling:
    """What a test whose program has ended is worth."""
    if outcome.verdict is not Verdict.OK:
        return Ruling(outcome.verdict, outcome.message)
    if grading.checker is not None:
        checker = checker_program(grading.checker, grading.program, test, outcome.stdout)
        return ruling_of(await checking.run(checker), "checker")
    if test.expected is None:
        return Ruling(Verdict.ACCEPTED)
    if len(test.expected) + len(outcome.stdout) < AT_ONCE_BYTES:
        return compare(grading.comparison, test.expected, outcome.stdout)
    return await asyncio.to_thread(compare, grading.comparison, test.expected, outcome.stdout)


def checker_program(checker: Grader, judged: Program, test: GradingTest, output: bytes) -> Program:
    """The program that checks one output.

    Args:
        checker: its source.
        judged: the program whose output it is.
        test: the test.
        output: what was written.
    """
    files = [
        _file(INPUT, test.stdin), _file(OUTPUT, output), _file(ANSWER, test.expected or b""),
    ]  # fmt: skip
    code = checker.code
    if checker.language == "python":
        files.append(SourceFile(name=CHECKER_FILE, content=code))
        code = PYTHON_MAIN.format(name=CHECKER_FILE)
    return Program(
        language=checker.language,
        code=code,
        args=(INPUT, OUTPUT, ANSWER),
        files=tuple(files),
        limits=msgspec.structs.replace(checker.limits, output_kb=CHECKER_OUTPUT_KB),
        environment=checker.environment,
        tenant=judged.tenant,
        eval_id=judged.eval_id,
    )


def _file(name: str, content: bytes) -> SourceFile:
    return SourceFile(name=name, content=base64.b64encode(content).decode(), encoding="base64")
