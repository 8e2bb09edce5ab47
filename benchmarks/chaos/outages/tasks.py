"""``tasks.evaluate_code`` without sandboxes: the program is the seconds it takes."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

from benchmarks.chaos.outages.runs import LEDGER_VARIABLE, WORKER_VARIABLE, Began, Ended, write
from crucible.evaluation.result import plain, result_of
from crucible.evaluation.view import now_text
from crucible.models import Outcome, Verdict
from crucible.worker import TaskRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.worker import TaskContext

_DONE = Outcome(verdict=Verdict.OK, exit_code=0, stdout=b"done\n")


@asynccontextmanager
async def _ledger() -> AsyncIterator[Redis]:
    async with Redis.from_url(os.environ[LEDGER_VARIABLE], socket_timeout=None) as client:
        yield client


registry = TaskRegistry(_ledger)


@registry.task("tasks.evaluate_code", track_started=True)
async def evaluate_code(
    ctx: TaskContext, eval_id: str, code: str, language: str = "python", **options: Any
) -> dict[str, Any]:
    """Take as many seconds as the code says."""
    run, began = uuid.uuid4().hex, now_text()
    await write(ctx.state, Began(eval_id, run, os.environ[WORKER_VARIABLE], time.time()))
    await asyncio.sleep(float(code))
    await write(ctx.state, Ended(eval_id, run, time.time()))
    ended = result_of(
        eval_id, _DONE, worker=ctx.hostname, retry_count=0, started_at=began, finished_at=now_text()
    )
    return plain(ended)
