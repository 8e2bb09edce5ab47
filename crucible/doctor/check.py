"""One finding of ``crucible doctor``."""

from __future__ import annotations

import enum

import msgspec


class Severity(enum.StrEnum):
    """What a finding means: fine, worth knowing, or in the way."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Check(msgspec.Struct, frozen=True):
    """One requirement and how it stands.

    Attributes:
        name: the requirement, in a few words.
        severity: how it stands.
        detail: what was found.
        remedy: what to type or install; empty when all is well.
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
    """A requirement that is met in a way somebody should look at."""
    return Check(name, Severity.WARN, detail, remedy)


def failed(name: str, detail: str, remedy: str) -> Check:
    """A requirement that is not met."""
    return Check(name, Severity.FAIL, detail, remedy)
