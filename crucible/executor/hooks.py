"""What an executor reports to its observers: one protocol, one frozen detail object a method.

No metrics, tracing or logging library is known here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from crucible.models import Isolation, Verdict


class SandboxReady(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox has become ready.

    Attributes:
        took_s: seconds of preparation.
        recycled: it was restarted, not created.
        uses: programs it has served before.
    """

    took_s: float
    recycled: bool
    uses: int


class SandboxTaken(msgspec.Struct, frozen=True, kw_only=True):
    """A program got a sandbox.

    Attributes:
        isolation: ``container``, or ``nested`` for a lane.
        hit: one was waiting.
        waited_s: seconds from asking to getting.
        age_s: seconds the sandbox had been ready.
    """

    isolation: Isolation
    hit: bool
    waited_s: float
    age_s: float


class CompileLookup(msgspec.Struct, frozen=True, kw_only=True):
    """It is known whether a program has to be compiled.

    Attributes:
        hit: the same was compiled before, or is by another program that came first.
    """

    hit: bool


class SandboxRetired(msgspec.Struct, frozen=True, kw_only=True):
    """A container was removed, or a lane is restarted before it serves anybody again.

    Attributes:
        isolation: ``container``, or ``nested`` for a lane; None where that is not known.
        reason: of a removal ``unclean``, ``used_up``, ``too_old``, ``not_needed``, ``idle``,
            ``closing``, ``orphan``; of a restart ``programs`` (it ran as many as a lane may),
            ``verdict`` (one of them did not come to its own end), ``apart`` (it was lent as one
            that nobody else has), ``turn`` (another tenant waits).
        uses: programs its container served.
    """

    isolation: Isolation | None
    reason: str
    uses: int


class ProgramEnded(msgspec.Struct, frozen=True, kw_only=True):
    """A program has ended, whatever its verdict.

    Attributes:
        language: its language.
        isolation: ``container`` or ``nested``.
        verdict: how it ended.
        sandbox_s: seconds spent waiting for and preparing a sandbox.
        run_s: seconds from handing the program over to its end.
    """

    language: str
    isolation: str
    verdict: Verdict
    sandbox_s: float
    run_s: float


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """The platform failed at something; no program is to blame.

    Attributes:
        doing: what was being done, such as ``prepare``.
        error: what went wrong.
    """

    doing: str
    error: Exception


class ExecutorHooks(Protocol):
    """Called in the event loop; must return at once and raise nothing."""

    def sandbox_ready(self, details: SandboxReady) -> None:
        """A sandbox has become ready."""

    def sandbox_taken(self, details: SandboxTaken) -> None:
        """A program got a sandbox."""

    def compile_looked_up(self, details: CompileLookup) -> None:
        """It is known whether a program has to be compiled."""

    def sandbox_retired(self, details: SandboxRetired) -> None:
        """A container was removed, or a lane is restarted."""

    def program_ended(self, details: ProgramEnded) -> None:
        """A program has ended."""

    def trouble(self, details: Trouble) -> None:
        """The platform failed at something."""


class NoHooks:
    """Listens to nothing."""

    def sandbox_ready(self, details: SandboxReady) -> None:
        """Ignore it."""

    def sandbox_taken(self, details: SandboxTaken) -> None:
        """Ignore it."""

    def compile_looked_up(self, details: CompileLookup) -> None:
        """Ignore it."""

    def sandbox_retired(self, details: SandboxRetired) -> None:
        """Ignore it."""

    def program_ended(self, details: ProgramEnded) -> None:
        """Ignore it."""

    def trouble(self, details: Trouble) -> None:
        """Ignore it."""


class HookGroup:
    """Passes everything on to several observers, in order.

    Args:
        hooks: they.
    """

    def __init__(self, *hooks: ExecutorHooks) -> None:
        self._hooks = hooks

    def sandbox_ready(self, details: SandboxReady) -> None:
        """A sandbox has become ready."""
        for one in self._hooks:
            one.sandbox_ready(details)

    def sandbox_taken(self, details: SandboxTaken) -> None:
        """A program got a sandbox."""
        for one in self._hooks:
            one.sandbox_taken(details)

    def compile_looked_up(self, details: CompileLookup) -> None:
        """It is known whether a program has to be compiled."""
        for one in self._hooks:
            one.compile_looked_up(details)

    def sandbox_retired(self, details: SandboxRetired) -> None:
        """A container was removed, or a lane is restarted."""
        for one in self._hooks:
            one.sandbox_retired(details)

    def program_ended(self, details: ProgramEnded) -> None:
        """A program has ended."""
        for one in self._hooks:
            one.program_ended(details)

    def trouble(self, details: Trouble) -> None:
        """The platform failed at something."""
        for one in self._hooks:
            one.trouble(details)
