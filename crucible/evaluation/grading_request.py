"""Tests in a request: their schema and checks, and the ``Grading`` made of them."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from crucible.errors import InputError
from crucible.evaluation.limits import LimitsRequest, checked_limits
from crucible.executor.admission import (
    check_arguments,
    check_code,
    check_environment,
    check_files,
    check_memory,
    check_stdin,
    from_base64,
)
from crucible.grading.models import MAX_TESTS, Comparison, Grader, Grading, GradingTest, Mode
from crucible.models import Program, SourceFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crucible.evaluation.request import EvalRequest
    from crucible.executor.languages import Language
    from crucible.executor.served import ServedEnvironments
    from crucible.models import Limits

#: Seconds that whatever is around a test may take beside its program: namespaces, a comparison, a
#: checker; and around all tests: a sandbox, the compiler.
PER_TEST_S, PER_REQUEST_S = 1.0, 60.0
#: Bytes of output reported of all tests together, and of one at most.
SHOWN_TOTAL_BYTES, SHOWN_BYTES = 1 << 20, 16 << 10
#: Tolerances of mode ``float`` where a request names none.
TOLERANCE = 1e-6
MAX_POINTS = 1e9
#: Seconds that a request may take by the limits of its tests. It holds a slot of a worker and a
#: sandbox all the while.
MAX_TIME_S = 14_400.0

Name = Annotated[str, Meta(min_length=1, max_length=64)]
Encoding = Literal["utf-8", "base64"]


class TestRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One test of a request.

    Attributes:
        id: its name; its number, counted from 1, where there is none.
        stdin: what the program reads.
        expected: the answer; without one, any end with exit code 0 passes, or a checker decides.
        args: the program's arguments in this test; those of the request where there are none.
        files: placed beside the program on top of the request's.
        points: what it is worth.
        group: name of its group, for ``stop: "group"``.
        limits: of this test, on top of the request's.
        stdin_encoding: ``base64`` where ``stdin`` is not text.
        expected_encoding: ``base64`` where ``expected`` is not text.
    """

    id: Name | None = None
    stdin: str = ""
    expected: str | None = None
    args: list[str] | None = None
    files: list[SourceFile] = []
    points: Annotated[float, Meta(ge=0, le=MAX_POINTS)] = 1.0
    group: Name | None = None
    limits: LimitsRequest | None = None
    stdin_encoding: Encoding = "utf-8"
    expected_encoding: Encoding = "utf-8"


class CompareRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How outputs are compared.

    Attributes:
        mode: ``exact``, ``trim``, ``tokens``, ``float``, ``sorted`` or ``checker``.
        abs: largest difference of two numbers in mode ``float``.
        rel: the same as a share of the expected number.
    """

    mode: Mode = "trim"
    abs: Annotated[float, Meta(ge=0)] | None = None
    rel: Annotated[float, Meta(ge=0)] | None = None


class GraderRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A checker or an interactor.

    Attributes:
        language: ``python``, ``c`` or ``cpp``.
        code: source text, not empty.
        protocol: ``testlib``.
    """

    language: Literal["python", "c", "cpp"]
    code: str
    protocol: Literal["testlib"] = "testlib"


def check_grading(
    request: EvalRequest,
    limits: Limits,
    language: Language,
    served: ServedEnvironments,
    ceilings: Limits,
) -> Grading | None:
    """What is to be graded; None where a request has no tests.

    The program in it is empty: the caller has it.

    Args:
        request: with a program that was found to be fit to run.
        limits: of the program.
        language: of the program.
        served: the environments that checkers may run in.
        ceilings: the most that a test and a checker may ask for.

    Raises:
        InputError: naming the first field that is wrong.
    """
    if request.tests is None:
        for name in ("compare", "checker", "interactor"):
            if getattr(request, name) is not None:
                raise InputError(name, "needs `tests`")
        return None
    if not 1 <= len(request.tests) <= MAX_TESTS:
        raise InputError("tests", f"must be 1 to {MAX_TESTS} tests")
    for name in ("stdin", "output_files"):
        if getattr(request, name):
            raise InputError(name, "cannot be had together with `tests`")
    comparison = _comparison_of(request)
    checker = _grader("checker", request.checker, served, ceilings)
    interactor = _grader("interactor", request.interactor, served, ceilings)
    tests = _tests_of(request, limits, language, ceilings)
    time_s = _time_of(tests)
    return Grading(
        program=Program(language=language.name, code=""),
        tests=tests,
        comparison=comparison,
        checker=checker,
        interactor=interactor,
        stop=request.stop,
        shown_bytes=min(SHOWN_BYTES, SHOWN_TOTAL_BYTES // len(tests) // 2),
        time_s=time_s,
    )


def _time_of(tests: Sequence[GradingTest]) -> float:
    """Seconds that all tests may take together, with what is around them."""
    time_s = sum(test.limits.wall_time_s + PER_TEST_S for test in tests) + PER_REQUEST_S
    if time_s > MAX_TIME_S:
        raise InputError(
            "tests",
            f"may take {time_s:.0f} s and a request {MAX_TIME_S:.0f} s: for each of the "
            f"{len(tests)} tests its wall_time_s and {PER_TEST_S:g} s, and {PER_REQUEST_S:g} s",
        )
    return time_s


def _comparison_of(request: EvalRequest) -> Comparison:
    asked = request.compare or CompareRequest()
    for name in ("abs", "rel"):
        if not math.isfinite(getattr(asked, name) or 0.0):
            raise InputError(f"compare.{name}", "must be a finite number")
    if asked.mode == "checker" and request.checker is None:
        raise InputError("checker", "is missing: `compare.mode` is `checker`")
    if request.checker is not None and request.interactor is not None:
        raise InputError("interactor", "cannot be had together with a checker: it decides itself")
    untold = asked.abs is None and asked.rel is None
    return Comparison(
        mode=asked.mode,
        abs=TOLERANCE if untold else asked.abs or 0.0,
        rel=TOLERANCE if untold else asked.rel or 0.0,
    )


def _tests_of(
    request: EvalRequest, limits: Limits, language: Language, ceilings: Limits
) -> tuple[GradingTest, ...]:
    taken: set[str] = set()
    tests = []
    for index, asked in enumerate(request.tests or ()):
        with _below(f"tests[{index}]"):
            test = _test_of(asked, str(index + 1), request, limits, language, ceilings)
            if test.id in taken:
                raise InputError("id", "is that of another test")
        taken.add(test.id)
        tests.append(test)
    return tuple(tests)


def _test_of(
    asked: TestRequest,
    number: str,
    base: EvalRequest,
    limits: Limits,
    language: Language,
    ceilings: Limits,
) -> GradingTest:
    if not math.isfinite(asked.points):
        raise InputError("points", "must be a finite number")
    if asked.limits is not None:
        limits = checked_limits(asked.limits, ceilings, limits)
    if asked.args is not None:
        check_arguments(asked.args)
    stdin = _bytes_of("stdin", asked.stdin, asked.stdin_encoding)
    check_stdin(len(stdin))
    files = _files_of(asked, base, language)
    check_memory(limits, base.code, len(stdin), files)
    expected = asked.expected
    return GradingTest(
        id=asked.id or number,
        stdin=stdin,
        expected=None
        if expected is None
        else _bytes_of("expected", expected, asked.expected_encoding),
        args=tuple(base.args if asked.args is None else asked.args),
        files=files,
        points=asked.points,
        group=asked.group or "",
        limits=limits,
    )


def _files_of(asked: TestRequest, base: EvalRequest, language: Language) -> tuple[SourceFile, ...]:
    if not asked.files:
        return tuple(base.files)
    check_files(asked.files, language.file_name)
    files = (*base.files, *asked.files)
    try:
        check_files(files, language.file_name)
    except InputError as error:
        raise InputError("files", f"beside those of the request: {error.detail}") from None
    return files


def _bytes_of(field: str, text: str, encoding: Encoding) -> bytes:
    if encoding == "base64":
        return from_base64(field, text)
    return text.encode("utf-8", "surrogatepass")


def _grader(
    name: str, asked: GraderRequest | None, served: ServedEnvironments, ceilings: Limits
) -> Grader | None:
    if asked is None:
        return None
    if not asked.code or asked.code.isspace():
        raise InputError(f"{name}.code", "must not be empty")
    with _below(name):
        check_code(asked.code)
        environment, language = served.find(asked.language)
        limits = checked_limits(None, ceilings, language.defaults)
        check_environment(environment, limits)
    return Grader(
        language=language.name, code=asked.code, environment=environment.name, limits=limits
    )


@contextmanager
def _below(field: str) -> Iterator[None]:
    """Errors of a part of the request as those of the request."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{field}.{error.field}", error.detail) from None
