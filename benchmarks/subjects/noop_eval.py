"""``tasks.evaluate_code`` with an executor that does nothing, for Crucible's worker.

Completions are counted and records kept as in the real one.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from crucible.evaluation.completion_hooks import CompletionHooks
from crucible.evaluation.completions import CompletionCounter
from crucible.evaluation.result import plain, result_of
from crucible.evaluation.view import now_text
from crucible.models import Outcome, Verdict
from crucible.redis_keys import Keys
from crucible.settings import load_settings
from crucible.worker import TaskRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


_tally = CompletionCounter()


@asynccontextmanager
async def _counting() -> AsyncIterator[None]:
    settings = load_settings()
    keys = Keys(settings.global_keyprefix)
    async with _tally.writing(settings.celery_broker_url, keys, settings.result_ttl_s):
        yield


registry = TaskRegistry(_counting, hooks=CompletionHooks(_tally, ("tasks.evaluate_code",)))
_DONE = Outcome(verdict=Verdict.OK, exit_code=0, stdout=b"42\n")


@registry.task("tasks.evaluate_code")
async def evaluate_code(
    ctx: Any, eval_id: str, code: str, language: str = "python", **options: Any
) -> dict[str, Any]:
    """An evaluation's result as the real task returns it, at once."""
    now = now_text()
    ended = result_of(
        eval_id, _DONE, worker=ctx.hostname, retry_count=0, started_at=now, finished_at=now
    )
    return plain(ended)
