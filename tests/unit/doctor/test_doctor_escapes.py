"""Judging versions by what is published about them."""

from __future__ import annotations

import pytest

from crucible.doctor.check import Severity
from crucible.doctor.escapes import (
    ESCAPES,
    is_affected,
    is_distribution_build,
    judge_component,
    numbers,
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1.1.5+ds1-1+deb12u1", (1, 1, 5)),
        ("v2.0.4", (2, 0, 4)),
        ("1.3.0-rc.1", (1, 3, 0)),
        ("27.5.1", (27, 5, 1)),
        ("unknown", ()),
        ("", ()),
    ],
)
def test_numbers_of_a_version(text: str, found: tuple[int, ...]) -> None:
    """Suffixes of distributions and pre-releases do not hide the numbers."""
    assert numbers(text) == found


@pytest.mark.parametrize(
    ("version", "distribution"),
    [
        ("1.1.5+ds1-1+deb12u1", True),
        ("20.10.24+dfsg1", True),
        ("1.6.20~ds1-1+deb12u3", True),
        ("1.1.12-0ubuntu3.1", True),
        ("1.1.12-2.el9", True),
        ("1.1.12", False),
        ("v1.2.5-0-g59923ef", False),
        ("1.3.0-rc.1", False),
    ],
)
def test_distribution_builds(version: str, distribution: bool) -> None:
    """A distribution's own numbering is told from upstream's."""
    assert is_distribution_build(version) is distribution


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((1, 1, 15), True),
        ((1, 2, 7), True),
        ((1, 2, 8), False),
        ((1, 3, 2), True),
        ((1, 3, 3), False),
        ((1, 4, 0), False),
    ],
)
def test_each_branch_has_its_fix(version: tuple[int, ...], affected: bool) -> None:
    """A fixed old branch is good, an unfixed one is not, whatever newer ones have."""
    assert is_affected(version, ((1, 2, 8), (1, 3, 3))) is affected


def test_an_upstream_version_with_an_escape_fails() -> None:
    """A version that is surely affected stands in the way and says what to install."""
    check = judge_component("runc", "1.1.11")
    assert check.severity is Severity.FAIL
    assert "CVE-2024-21626" in check.detail
    assert "1.3.3" in check.remedy


def test_a_distribution_version_is_a_warning() -> None:
    """Debian fixes without changing the number, so only a warning is honest."""
    check = judge_component("runc", "1.1.5+ds1-1+deb12u1")
    assert check.severity is Severity.WARN
    assert "cannot be detected" in check.detail
    assert check.remedy


def test_a_fixed_version_is_fine() -> None:
    """A release with every fix is no finding."""
    assert judge_component("runc", "1.3.3").severity is Severity.OK
    assert judge_component("containerd", "2.1.0").severity is Severity.OK


def test_an_unreadable_version_is_a_warning() -> None:
    """A version that says nothing is not called safe."""
    assert judge_component("runc", "unknown").severity is Severity.WARN


def test_authorization_plugins_matter_only_where_they_are() -> None:
    """The engine's plug-in hole counts only when a plug-in is there."""
    assert judge_component("Engine", "26.1.4").severity is Severity.OK
    assert judge_component("Engine", "26.1.4", authz=True).severity is Severity.FAIL


def test_every_escape_has_a_fix() -> None:
    """Each entry can be acted on."""
    assert all(escape.fixed and escape.cve.startswith("CVE-") for escape in ESCAPES)
