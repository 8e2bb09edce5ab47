"""A worker that runs nothing: every program has printed its own code, every cell ended at once.

For benchmarks and fuzzing of the api, to which it is a worker like any other.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

from crucible.evaluation.result import plain, result_of
from crucible.evaluation.view import now_text
from crucible.executor.sessions.live import SessionLost
from crucible.executor.sessions.models import CellResult
from crucible.models import Outcome, Verdict
from crucible.redis_keys import Keys
from crucible.sessions.host import serving_sessions
from crucible.worker import TaskRegistry
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.executor import Executor
    from crucible.executor.sessions.models import Cell, Reason, SessionSpec

#: More than a run of the fuzzer can have open.
_SESSIONS = 100
#: Seconds that one lives.
_SESSION_S = 1.0
_QUEUES = ("high_priority", "evaluation", "batch")

registry = TaskRegistry()


@registry.task("tasks.evaluate_code", track_started=True)
async def evaluate_code(
    ctx: Any, eval_id: str, code: str, language: str = "python", **options: Any
) -> dict[str, Any]:
    """An evaluation's result as the real task returns it, at once."""
    now = now_text()
    printed = code.encode("utf-8", "replace")
    outcome = Outcome(verdict=Verdict.OK, exit_code=0, stdout=printed)
    ended = result_of(
        eval_id, outcome, worker=ctx.hostname, retry_count=0, started_at=now, finished_at=now
    )
    return plain(ended)


class FakeSession:
    """A session whose cells print nothing; it ends early, so that a tenant never has too many."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Reason] = loop.create_future()
        loop.call_later(_SESSION_S, self.end, "idle")

    async def execute(self, cell: Cell) -> CellResult:
        """Raises SessionLost where it has ended."""
        if self.ended.done():
            raise SessionLost(self.ended.result())
        return CellResult(status="ok")

    def end(self, reason: Reason) -> None:
        """Have it end, for a reason unless it has one."""
        if not self.ended.done():
            self.ended.set_result(reason)


@asynccontextmanager
async def _open_session(executor: Executor, spec: SessionSpec) -> AsyncIterator[FakeSession]:
    yield FakeSession()


@asynccontextmanager
async def fake_worker(url: str, *, concurrency: int = 8) -> AsyncIterator[None]:
    """Serve evaluations and sessions in this process while the context is open.

    Args:
        url: the task queue server.
        concurrency: evaluations at a time.
    """
    executor = cast("Executor", None)  # what would ask it is replaced
    with mock.patch("crucible.sessions.host.open_session", _open_session):
        async with (
            serving_sessions(executor, url, Keys(), _SESSIONS),
            Worker(registry, broker_url=url, queues=_QUEUES, concurrency=concurrency),
        ):
            yield
