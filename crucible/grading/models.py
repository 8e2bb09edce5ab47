"""The plain data of grading: a program, its tests, who compares, and what came of each test."""

from __future__ import annotations

from typing import Literal

import msgspec

from crucible.models import Limits, Outcome, Program, SourceFile, Usage, Verdict

#: Tests of one request.
MAX_TESTS = 1000

Mode = Literal["exact", "trim", "tokens", "float", "sorted", "checker"]
#: When the rest of the tests is skipped: ``never``; after the first test that fails; or the rest
#: of a group after its first test that fails.
Stop = Literal["never", "first_failure", "group"]


class GradingTest(msgspec.Struct, frozen=True, kw_only=True):
    """One input and its expected answer.

    Attributes:
        id: its name, unique in the request.
        stdin: what the program reads.
        expected: the answer; None where any end with exit code 0 will do, or a checker needs none.
        args: the program's arguments.
        files: placed beside the program, all of them.
        points: what it is worth.
        group: name of its group; empty for none.
        limits: of the program in this test.
    """

    id: str
    stdin: bytes = b""
    expected: bytes | None = None
    args: tuple[str, ...] = ()
    files: tuple[SourceFile, ...] = ()
    points: float = 1.0
    group: str = ""
    limits: Limits = Limits()


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """How an output is compared with the expected answer.

    Attributes:
        mode: see ``grading.comparison``.
        abs: largest difference of two numbers in mode ``float``.
        rel: the same as a share of the expected number.
    """

    mode: Mode = "trim"
    abs: float = 0.0
    rel: float = 0.0


class Grader(msgspec.Struct, frozen=True, kw_only=True):
    """A program that judges: a checker after each test, or an interactor during it.

    Attributes:
        language: a name from the language table.
        code: source text.
        environment: the image it runs in.
        limits: what it may use in one test.
    """

    language: str
    code: str
    environment: str = "default"
    limits: Limits = Limits()


class Grading(msgspec.Struct, frozen=True, kw_only=True):
    """All that an executor needs to grade a program.

    Attributes:
        program: what is judged; standard input, arguments, files and limits are those of a test.
        tests: run in this order.
        comparison: of outputs with expected answers, where there is neither of the next two.
        checker: judges outputs.
        interactor: talks to the program while it runs, and judges it.
        stop: when the rest of the tests is skipped.
        shown_bytes: most bytes reported of standard output, and of standard error, of one test.
        time_s: seconds after which the rest of the tests is skipped.
    """

    program: Program
    tests: tuple[GradingTest, ...]
    comparison: Comparison = Comparison()
    checker: Grader | None = None
    interactor: Grader | None = None
    stop: Stop = "never"
    shown_bytes: int = 4096
    time_s: float = 600.0


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one test.

    Attributes:
        id: the test's.
        verdict: ``accepted``, how it failed, or ``skipped``.
        points: what it earned.
        stdout: the first bytes of standard output.
        stderr: the first bytes of standard error.
        output_truncated: there was more than is shown of either.
        exit_code: the program's own; None when it did not exit by itself.
        signal: that ended it, or None.
        usage: of the program alone.
        message: one sentence for people, or None.
    """

    id: str
    verdict: Verdict
    points: float = 0.0
    stdout: bytes = b""
    stderr: bytes = b""
    output_truncated: bool = False
    exit_code: int | None = None
    signal: int | None = None
    usage: Usage = Usage()
    message: str | None = None


class Ruling(msgspec.Struct, frozen=True):
    """What a comparison, a checker or an interactor says of one test.

    Attributes:
        verdict: ``accepted``, ``wrong_answer``, ``presentation_error``, ``partial``, or
            ``internal_error`` where whoever judges failed.
        message: one sentence for people, or None.
        points: earned where the verdict is ``partial``.
    """

    verdict: Verdict
    message: str | None = None
    points: float = 0.0


def judgement_of(
    test: GradingTest, outcome: Outcome, ruling: Ruling, shown_bytes: int
) -> Judgement:
    """The judgement of a test, from how its program ended and what was ruled of that."""
    longest = max(len(outcome.stdout), len(outcome.stderr))
    earned = {Verdict.ACCEPTED: test.points, Verdict.PARTIAL: min(ruling.points, test.points)}
    return Judgement(
        id=test.id,
        verdict=ruling.verdict,
        points=earned.get(ruling.verdict, 0.0),
        stdout=outcome.stdout[:shown_bytes],
        stderr=outcome.stderr[:shown_bytes],
        output_truncated=outcome.output_truncated or longest > shown_bytes,
        exit_code=outcome.exit_code,
        signal=outcome.signal,
        usage=outcome.usage,
        message=ruling.message,
    )


def skipped(test: GradingTest, why: str) -> Judgement:
    """The judgement of a test that did not run."""
    return Judgement(id=test.id, verdict=Verdict.SKIPPED, message=why)
