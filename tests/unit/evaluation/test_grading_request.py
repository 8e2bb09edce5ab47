from __future__ import annotations

from typing import Any

import msgspec
import pytest

from crucible.errors import InputError
from crucible.evaluation.request import (
    check_request,
    decode_request,
    job_from,
    options_of,
    program_from,
)
from crucible.executor.served import ServedEnvironments
from crucible.grading.models import Grading
from crucible.models import Limits
from crucible.validation import pointer_of

SERVED, CEILINGS = ServedEnvironments(), Limits(wall_time_s=120, cpu_time_s=120, memory_mb=1024)


def checked(**fields: Any) -> Grading | None:
    """What is made of a request on its way through the API and a queue."""
    body = msgspec.json.encode({"code": "print(1)", **fields})
    asked = check_request(decode_request(body), SERVED, CEILINGS)
    sent = msgspec.json.decode(msgspec.json.encode(options_of(asked)))
    _, grading = job_from("id", asked.code, asked.language, sent, served=SERVED, ceilings=CEILINGS)
    return grading


def refused(**fields: Any) -> InputError:
    """Why a request is refused."""
    with pytest.raises(InputError) as caught:
        checked(**fields)
    return caught.value


def test_the_contracts_example() -> None:
    """The request of the contract, made into what an executor needs."""
    grading = checked(
        language="c",
        tests=[{"id": "1", "stdin": "…", "expected": "…", "points": 1, "group": "a", "limits": {}}],
        compare={"mode": "tokens"},
        checker={"language": "c", "code": "int main(){}", "protocol": "testlib"},
        interactor=None,
        stop="never",
    )
    assert grading is not None
    (test,) = grading.tests
    assert (test.id, test.stdin, test.expected) == ("1", "…".encode(), "…".encode())
    assert (test.points, test.group, test.limits) == (1.0, "a", Limits())
    assert grading.checker is not None
    assert grading.checker.language == "c"
    assert grading.comparison.mode == "tokens"
    assert grading.program.code == "print(1)"


def test_defaults() -> None:
    """Ids count from 1; arguments, files and limits are the request's where a test has none."""
    grading = checked(
        args=["a"],
        files=[{"name": "x", "content": "1"}],
        limits={"wall_time_s": 2, "pids": 7},
        tests=[
            {},
            {"args": [], "limits": {"wall_time_s": 3}, "files": [{"name": "y", "content": ""}]},
        ],
    )
    assert grading is not None
    first, second = grading.tests
    assert (first.id, second.id) == ("1", "2")
    assert (first.args, second.args) == (("a",), ())
    assert first.expected is None
    assert [file.name for file in second.files] == ["x", "y"]
    assert (first.limits.wall_time_s, second.limits.wall_time_s) == (2, 3)
    assert second.limits.pids == 7
    assert grading.comparison.mode == "trim"
    assert grading.time_s == 2 + 3 + 2 + 60


@pytest.mark.parametrize(
    ("given", "abs_", "rel"),
    [({}, 1e-6, 1e-6), ({"abs": 0.5}, 0.5, 0.0), ({"rel": 0}, 0.0, 0.0)],
)
def test_tolerances(given: dict[str, float], abs_: float, rel: float) -> None:
    """Where one is named the other is none; where none is, both are a millionth."""
    grading = checked(tests=[{}], compare={"mode": "float", **given})
    assert grading is not None
    assert (grading.comparison.abs, grading.comparison.rel) == (abs_, rel)


GRADER = {"language": "python", "code": "x"}


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"tests": []}, "#/tests"),
        ({"tests": [{}] * 1001}, "#/tests"),
        ({"tests": [{"id": "a"}, {"id": "a"}]}, "#/tests/1/id"),
        ({"tests": [{"id": "2"}, {}]}, "#/tests/1/id"),
        ({"tests": [{"id": ""}]}, "#/tests/0/id"),
        ({"tests": [{"points": -1}]}, "#/tests/0/points"),
        ({"tests": [{}, {"limits": {"wall_time_s": 1000}}]}, "#/tests/1/limits/wall_time_s"),
        ({"tests": [{"limits": {"wall_time": 1}}]}, "#/tests/0/limits/wall_time"),
        ({"tests": [{"stdin": 1}]}, "#/tests/0/stdin"),
        ({"tests": [{"stdout": ""}]}, "#/tests/0/stdout"),
        ({"tests": [{"stdin": "?", "stdin_encoding": "base64"}]}, "#/tests/0/stdin"),
        ({"tests": [{"expected": "?", "expected_encoding": "base64"}]}, "#/tests/0/expected"),
        ({"tests": [{"args": ["\0"]}]}, "#/tests/0/args/0"),
        ({"tests": [{"files": [{"name": "../x", "content": ""}]}]}, "#/tests/0/files/0/name"),
        (
            {
                "files": [{"name": "x", "content": ""}],
                "tests": [{"files": [{"name": "x", "content": ""}]}],
            },
            "#/tests/0/files",
        ),
        (
            {"tests": [{"limits": {"memory_mb": 16}, "stdin": "x" * 12_000_000}]},
            "#/tests/0/limits/memory_mb",
        ),
        ({"tests": [{}], "compare": {"mode": "fuzzy"}}, "#/compare/mode"),
        ({"tests": [{}], "compare": {"mode": "float", "abs": -1}}, "#/compare/abs"),
        ({"tests": [{}], "compare": {"mode": "checker"}}, "#/checker"),
        ({"tests": [{}], "checker": {"language": "bash", "code": "x"}}, "#/checker/language"),
        ({"tests": [{}], "checker": {"language": "python", "code": " "}}, "#/checker/code"),
        ({"tests": [{}], "checker": {**GRADER, "protocol": "cms"}}, "#/checker/protocol"),
        ({"tests": [{}], "checker": {"language": "cpp", "code": "x"}}, "#/checker/language"),
        ({"tests": [{}], "checker": GRADER, "interactor": GRADER}, "#/interactor"),
        ({"tests": [{}], "stop": "soon"}, "#/stop"),
        ({"tests": [{}], "stdin": "x"}, "#/stdin"),
        ({"tests": [{}], "output_files": ["x"]}, "#/output_files"),
        ({"compare": {"mode": "trim"}}, "#/compare"),
        ({"checker": GRADER}, "#/checker"),
        ({"interactor": GRADER}, "#/interactor"),
        ({"tests": [{}] * 1000, "limits": {"wall_time_s": 60}}, "#/tests"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], pointer: str) -> None:
    """Each error names its field."""
    assert pointer_of(refused(**fields)) == pointer


def test_too_long_is_refused_with_the_numbers() -> None:
    """The sum of the limits, and what a request may take."""
    detail = refused(tests=[{}] * 1000, limits={"wall_time_s": 60}).detail
    assert "61060 s" in detail
    assert "14400 s" in detail


def test_a_thousand_tests_with_default_limits_fit() -> None:
    """The largest number of tests needs no limits of its own."""
    grading = checked(tests=[{}] * 1000)
    assert grading is not None
    assert [test.id for test in grading.tests] == [str(n) for n in range(1, 1001)]
    # All that is shown of outputs is bounded together.
    assert grading.shown_bytes * 2 * 1000 <= 1 << 20


def test_where_programs_only_are_run() -> None:
    """The legacy queue has no field for tests."""
    with pytest.raises(InputError) as caught:
        program_from("id", "x", "python", {"tests": [{}]}, served=SERVED, ceilings=CEILINGS)
    assert caught.value.field == "tests"
