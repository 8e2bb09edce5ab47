"""The field that a schema error of msgspec means."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from crucible.evaluation.request import EvalRequest
from crucible.models import Program
from crucible.validation import DETAIL_SHOWN, PATH_SHOWN, input_error


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({}, "language"),
        ({"language": "c"}, "code"),
        ({"language": 1, "code": ""}, "language"),
        ({"language": "c", "code": "", "limits": {"pids": "x"}}, "limits.pids"),
        ({"language": "c", "code": "", "limits": {"moon": 1}}, "limits.moon"),
        ({"language": "c", "code": "", "files": [{"name": "a"}]}, "files[0].content"),
        ([], ""),
    ],
)
def test_the_field_is_named(value: Any, field: str) -> None:
    """Wrong types, and fields that are missing or unknown, at any depth; empty for the whole."""
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(value, Program)
    error = input_error(caught.value)
    assert error.field == field
    assert "at `$" not in error.detail


def test_an_error_repeats_little_of_what_was_sent() -> None:
    """However long the name of an unknown field is."""
    name = "x" * 10_000
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert({"language": "c", "code": "", "limits": {name: 1}}, Program)
    error = input_error(caught.value)
    assert len(error.field) <= PATH_SHOWN
    assert len(error.detail) <= DETAIL_SHOWN


@pytest.mark.parametrize(
    ("value", "field", "choices"),
    [
        ({"isolation": "vm"}, "isolation", "container, nested"),
        ({"stop": 1, "metadata": {}}, "stop", None),
        ({"compare": {"mode": "x"}}, "compare.mode", "checker, exact, float, sorted, tokens, trim"),
        (
            {"files": [{"name": "a", "content": "", "encoding": "hex"}]},
            "files[0].encoding",
            "base64, utf-8",
        ),
    ],
)
def test_the_values_of_a_choice_are_named(value: Any, field: str, choices: str | None) -> None:
    """At any depth; a wrong type is said to be one."""
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert({"code": "x", **value}, EvalRequest)
    error = input_error(caught.value, EvalRequest)
    assert error.field == field
    if choices is None:
        assert error.detail.startswith("must be a string")
    else:
        assert error.detail == f"must be one of {choices}"
