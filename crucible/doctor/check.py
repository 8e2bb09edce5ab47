"""One finding of ``crucible doctor``."""

from __future__ import annotations

import enum

import msgspec


class Severity(enum.StrEnum):
    """``ok``: met. ``warn``: met, but worth a look. ``fail``: Crucible cannot run."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Check(msgspec.Struct, frozen=True):
    """One requirement and whether it is met.

    Attributes:
        name: the requirement, in a few words.
        severity: whether it is met.
        detail: what was found.
        remedy: the command or change that fixes it; empty when it is met.
    """

    name: str
    severity: Severity
    detail: str
    remedy: str = ""

    @property
    def ok(self) -> bool:
        """Crucible can work with it."""
        return self.severity is not Severity.FAIL


def passed(name: str, detail: str) -> Check:
    """A requirement that is met."""
    return Check(name, Severity.OK, detail)


def warned(name: str, detail: str, remedy: str) -> Check:
    """A requirement that is met, with a reservation."""
    return Check(name, Severity.WARN, detail, remedy)


def failed(name: str, detail: str, remedy: str) -> Check:
    """A requirement that is not met."""
    return Check(name, Severity.FAIL, detail, remedy)
