"""Sessions: interpreters that are kept, one sandbox each, while cells come one after the other.

======================= ======================================================================
``interpreter``         runs cells; hostile code is in this process
``driver``              its parent, the program of the sandbox; keeps its time and its output
``live``                the session here, around a sandbox
``served``, ``remote``  the same through an executor service
======================= ======================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from contextlib import AbstractAsyncContextManager

    from crucible.executor import Executor
    from crucible.executor.sessions.models import Cell, CellResult, Reason, SessionSpec


class Session(Protocol):
    """One interpreter that is kept."""

    @property
    def ended(self) -> asyncio.Future[Reason]:
        """Done once it has ended, with the reason."""

    async def execute(self, cell: Cell) -> CellResult:
        """Run a cell.

        Raises:
            SessionLost: it has ended, before or because of the cell.
        """

    def end(self, reason: Reason) -> None:
        """Have it end, for a reason unless it has one."""


def open_session(executor: Executor, spec: SessionSpec) -> AbstractAsyncContextManager[Session]:
    """A session with what an executor has, ended when the context is left.

    Raises:
        ExecutorRefused: it can never be as asked.
        ExecutorUnavailable: it cannot be had now.
    """
    # Imported here: the executor service imports this package, and its client the service.
    from crucible.executor.docker import DockerExecutor
    from crucible.executor.remote import RemoteExecutor
    from crucible.executor.sessions.live import open_here

    if isinstance(executor, RemoteExecutor):
        return executor.open_session(spec)
    assert isinstance(executor, DockerExecutor)
    return open_here(executor, spec)
