"""Runs one program in one container. Knows nothing of queues.

``open_executor`` is the way in::

    async with open_executor(ExecutorConfig()) as executor:
        outcome = await executor.run(Program(language="python", code="print(6 * 7)"))
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from crucible.executor.config import ExecutorConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from crucible.breaker import Circuit
    from crucible.environments import EnvironmentState
    from crucible.executor.artifact import Artifact, Compilation
    from crucible.executor.hooks import ExecutorHooks
    from crucible.grading.models import Grading, Judgement
    from crucible.models import Isolation, Outcome, Program

__all__ = ["Executor", "ExecutorConfig", "circuits_of", "gauges_of", "open_executor"]


class Executor(Protocol):
    """Runs programs; each call is one program in a sandbox of its own."""

    async def run(self, program: Program, artifact: Artifact | None = None) -> Outcome:
        """Run a program to its end.

        One whose language has a compiler is compiled before, unless the same was.

        Args:
            program: what to run.
            artifact: what ``compile`` made of the same program; many may be run with it.

        Cancelling the call kills the program. Where the executor knows what it had written, the
        cancellation is an ``Interrupted``.

        Raises:
            ExecutorUnavailable: the platform could not run it now; another try may help.
            ExecutorRefused: it can never run as asked.
        """

    async def grade(
        self, grading: Grading, judged: Callable[[Judgement], None]
    ) -> Compilation | None:
        """Compile a program, run its tests in one sandbox, and judge each.

        Cancelling the call kills the program.

        Args:
            grading: what to grade.
            judged: called with each judgement, in the order of the tests.

        Returns:
            How compiling it ended, without what was made; None where its language has no compiler.

        Raises:
            ExecutorUnavailable: the platform could not go on; another try may help.
            ExecutorRefused: it can never run as asked.
        """

    async def compile(self, program: Program) -> Compilation:
        """Compile a program, unless the same was before, and hand back what was made.

        Raises:
            ExecutorUnavailable: the platform could not compile it now; another try may help.
            ExecutorRefused: it never can, or its language has no compiler.
        """

    async def check(self) -> None:
        """Return when programs can run now.

        Raises:
            ExecutorError: they cannot.
        """

    async def environments(self) -> list[EnvironmentState]:
        """The environments it serves, including those that were not built.

        Raises:
            ExecutorError: they cannot be looked up now.
        """

    async def isolations(self) -> tuple[Isolation, ...]:
        """What programs can have here.

        Raises:
            ExecutorError: it is not known now.
        """


@asynccontextmanager
async def open_executor(
    config: ExecutorConfig, hooks: ExecutorHooks | None = None
) -> AsyncIterator[Executor]:
    """Open the executor that ``config`` asks for: containers here, or other executors."""
    if config.urls:
        from crucible.executor.remote import RemoteExecutor

        async with RemoteExecutor.open(config) as remote:
            yield remote
        return
    from crucible.executor.docker import DockerExecutor

    async with DockerExecutor.open(config, hooks) as local:
        yield local


@runtime_checkable
class _Measured(Protocol):
    def gauges(self) -> dict[str, int]: ...


def gauges_of(executor: Executor) -> dict[str, int]:
    """What an executor has (``DockerExecutor.gauges``); empty where others have it."""
    return executor.gauges() if isinstance(executor, _Measured) else {}


def circuits_of(executor: Executor) -> dict[str, Circuit]:
    """The circuits before the services an executor sends programs to, by downstream.

    Empty where containers are started here: no call leaves for another service then.
    """
    from crucible.executor.remote import RemoteExecutor

    if not isinstance(executor, RemoteExecutor):
        return {}
    return {breaker.name: breaker.circuit for breaker in executor.breakers}
