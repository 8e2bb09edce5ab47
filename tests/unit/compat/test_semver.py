"""Ranges of versions, as npm's ``semver`` answers for them."""

from __future__ import annotations

import pytest

from crucible.compat.semver import MAX_RANGE, satisfies


@pytest.mark.parametrize(
    "wanted",
    [
        "*", "x", "X", "", " ", "3", "v3", "=3", "3.x", "3.*", "3.X.x", "3.11", "3.11.x", "3.11.2",
        "^3", "^3.0.0", "^3.11.2", "~3", "~3.11", "~>3.11.1", "~3.11.2", ">=3", ">= 3", ">3.10",
        ">2", "<4", "<=3", "<=3.11", "<=3.11.2", ">=3 <4", "> 3.9  < 3.12", "3 - 4", "3.9 - 3.11",
        "3.11.2 - 3.11.2", "2 || 3", "2||^3.10", ">=3.11.2-rc.1", "*.1",
    ],
)  # fmt: skip
def test_ranges_that_have_a_version(wanted: str) -> None:
    assert satisfies("3.11.2", wanted)


@pytest.mark.parametrize(
    "wanted",
    [
        "3.1", "3.1.x", "2", "4", "3.12", "3.11.1", "^2", "^3.12", "^4", "~3.10", "~3.11.3", ">3",
        ">3.11", ">3.11.2", ">=3.12", "<3", "<3.11", "<3.11.2", "<=3.10", ">=3 <3.11", "1 - 2",
        "3.9 - 3.10", "1 || 2", ">*", "<*", "latest", "3.11.2.1", "3,11", "python3", "3 ||| 4",
        "03", "3.011", "3 || latest", "<3.11.3" + " " * MAX_RANGE,
    ],
)  # fmt: skip
def test_ranges_that_do_not(wanted: str) -> None:
    assert not satisfies("3.11.2", wanted)


@pytest.mark.parametrize(
    ("version", "wanted", "has"),
    [
        ("0.2.5", "^0.2.3", True),
        ("0.3.0", "^0.2.3", False),
        ("0.0.3", "^0.0.3", True),
        ("0.0.4", "^0.0.3", False),
        ("0.0.9", "^0.0", True),
        ("0.1.0", "^0.0", False),
        ("0.9.27", "^0", True),
        ("1.0.0", "^0", False),
        ("17", "17.0.0", True),
        ("5.4", "5.4.x", True),
        ("5.2.15(1)-release", "5.2.15", True),
        ("", "*", False),
        ("unknown", "*", False),
    ],
)
def test_other_versions(version: str, wanted: str, has: bool) -> None:
    assert satisfies(version, wanted) is has
