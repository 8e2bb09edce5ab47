"""Bodies of Judge0's submissions: types of fields, numbers as text, base64 that is none."""

from __future__ import annotations

import math
from typing import Any

import pytest

from crucible.compat.judge0_request import (
    NUMBERS,
    TEXTS,
    WHOLE,
    RefusedSubmission,
    Submission,
    decoded,
    submission_from,
)
from crucible.evaluation.judge0_form import digest_of


@pytest.mark.parametrize("value", [True, 1, "1", "true", "on", "yes"])
def test_a_flag_that_is_on(value: Any) -> None:
    asked = submission_from({"redirect_stderr_to_stdout": value})
    assert asked.redirect_stderr_to_stdout is True


@pytest.mark.parametrize("value", [None, False, 0, "0", "false", "off", ""])
def test_a_flag_that_is_off(value: Any) -> None:
    assert submission_from({"redirect_stderr_to_stdout": value}) == Submission()


def test_null_is_as_if_it_were_not_there() -> None:
    assert submission_from(dict.fromkeys((*TEXTS, *NUMBERS, *WHOLE))) == Submission()
    assert submission_from(dict.fromkeys((*NUMBERS, *WHOLE), "")) == Submission()


@pytest.mark.parametrize(
    ("value", "found"), [("71", 71), (71.0, 71), (" 71 ", 71), ("71.9", 71), ("7.1e1", 71)]
)
def test_numbers_may_be_texts(value: Any, found: int) -> None:
    asked = submission_from({"language_id": value})
    assert asked.language_id == found
    assert isinstance(asked.language_id, int)
    assert submission_from({"cpu_time_limit": "1.5"}).cpu_time_limit == 1.5


@pytest.mark.parametrize("name", [*NUMBERS, *WHOLE])
@pytest.mark.parametrize("value", ["much", "1e999", [], {}, True, math.inf, "nan", "1_0", "\u0661"])
def test_what_is_no_number(name: str, value: Any) -> None:
    with pytest.raises(RefusedSubmission) as refused:
        submission_from({name: value})
    assert refused.value.errors == {name: ["is not a number"]}


def test_every_field_that_is_wrong_is_named() -> None:
    with pytest.raises(RefusedSubmission) as refused:
        submission_from({"source_code": 5, "stdin": [], "memory_limit": "x", "unknown": {}})
    assert refused.value.errors == {
        "source_code": ["must be a string"],
        "stdin": ["must be a string"],
        "memory_limit": ["is not a number"],
    }
    with pytest.raises(RefusedSubmission):
        submission_from([])


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("aGk=", b"hi"),
        ("aGk", b"hi"),
        (" aG\nk=\n", b"hi"),
        ("aGk=aGk=", b"hi"),
        ("aGkhI", b"hi!"),
        ("!?", b""),
        ("", b""),
        ("=", b""),
        ("a", b""),
    ],
)
def test_base64_is_read_as_far_as_it_goes(text: str, content: bytes) -> None:
    assert decoded(text) == content


def test_white_space_at_the_ends_of_lines_is_not_compared() -> None:
    assert digest_of(b"1 2 \r\n3\t\n\n") == digest_of(b"1 2\n3")
    assert digest_of(b" 1\n\n2") not in {digest_of(b"1\n\n2"), digest_of(b" 1\n2")}
