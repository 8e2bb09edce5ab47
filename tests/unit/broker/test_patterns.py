"""Patterns of remote control requests: what kombu matches, unless it could hold up the worker."""

from __future__ import annotations

import re

import pytest

from crucible.broker.control.patterns import matches
from crucible.errors import MessageError

NODE = "crucible12345@worker-host-1"


@pytest.mark.parametrize(
    "pattern",
    [
        ".*",
        "crucible",
        "host",
        r"crucible\d+@",
        r"^[a-z]+\d*@worker-\w+-[0-9]$",
        "(crucible|celery).*@",
        "(?:crucible|celery)[0-9]+",
        "(?P<kind>cru)cible",
        "(?i)CRUCIBLE",
        "cru(cible)?",
        r"[(?+*]|\(\+\)|cru",
        "(?=cru).+1$",
        "c{1}r{1,2}",
    ],
)
def test_usual_patterns_are_matched(pattern: str) -> None:
    """As ``re.match`` has it."""
    assert matches(NODE, pattern, "pcre") == (re.match(pattern, NODE) is not None)


@pytest.mark.parametrize(
    "pattern",
    [
        "(.+)+!",
        "(.*)*!",
        "(.|.)+!",
        "(?:a?){20}!",
        "((.+))+!",
        r"(\w+){2,}!",
        ".*.*.*.*.*.*.*.*!",
        ".?" * 40 + "!",
        "(.|.)(.|.)(.|.)(.|.)(.|.)(.|.)(.|.)(.|.)(.|.)(.|.)!",
        "(?x)(.+) +!",
        "(c)(?(1).+|x)",
        "a{99999999999}",
        "(",
        "x" * 256,
        5,
    ],
)
def test_patterns_that_may_take_long_are_refused(pattern: object) -> None:
    """Unmatched: their time doubles with each character of the name."""
    with pytest.raises(MessageError):
        matches(NODE, pattern, "pcre")


def test_an_allowed_pattern_ends_on_a_long_name() -> None:
    """The longer the name, the fewer repetitions are allowed."""
    long = "c" * 255
    assert not matches(long, ".*.*!", "pcre")
    with pytest.raises(MessageError):
        matches(long, ".*.*.*.*!", "pcre")


def test_globs_and_unknown_matchers() -> None:
    """Globs cost nothing to speak of."""
    assert matches(NODE, "crucible*@*", "glob")
    assert not matches(NODE, "stock*", "glob")
    with pytest.raises(MessageError):
        matches(NODE, "*", "magic")
