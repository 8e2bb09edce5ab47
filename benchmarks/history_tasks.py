"""``tasks.evaluate_code`` with an executor that runs nothing, and the events of the real one.

What becomes of a program is its code: a verdict, ``slow``, or ``refused``.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from crucible.errors import ExecutorRefused
from crucible.evaluation.completion_hooks import CompletionHooks
from crucible.evaluation.completions import CompletionCounter
from crucible.evaluation.event_hooks import EventHooks
from crucible.evaluation.result import plain, result_of
from crucible.evaluation.view import now_text
from crucible.events.writer import LateSink, open_writer
from crucible.models import Outcome, Verdict
from crucible.redis_keys import Keys
from crucible.settings import load_settings
from crucible.worker import TaskRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_TASKS = ("tasks.evaluate_code",)
#: What each code ends with: status and verdict.
ENDS = {
    "ok": ("completed", "ok"),
    "nonzero_exit": ("completed", "nonzero_exit"),
    "timeout": ("failed", "timeout"),
    "memory_limit": ("failed", "memory_limit"),
    "slow": ("completed", "ok"),
    "refused": ("failed", "internal_error"),
}
_SLOW_S = 0.5
_tally, _sink = CompletionCounter(), LateSink()
_events = EventHooks(_sink, _TASKS)


@asynccontextmanager
async def _platform() -> AsyncIterator[Callable[[Any, str], None]]:
    settings, keys = load_settings(), Keys()
    assert settings.event_bus is not None
    async with (
        open_writer(settings.event_bus, keys) as writer,
        _tally.writing(settings.celery_broker_url, keys, settings.result_ttl_s),
    ):
        with _sink.writing_to(writer):
            yield _events.running


registry = TaskRegistry(_platform, hooks=(CompletionHooks(_tally, _TASKS), _events))


@registry.task(_TASKS[0], track_started=True)
async def evaluate_code(
    ctx: Any, eval_id: str, code: str, language: str = "python", **options: Any
) -> dict[str, Any]:
    """An evaluation's result as the real task returns it."""
    started_at = now_text()
    ctx.state(ctx, eval_id)
    if code == "refused":
        raise ExecutorRefused("asked for")
    await asyncio.sleep(_SLOW_S if code == "slow" else 0)
    verdict = Verdict(ENDS[code][1])
    outcome = Outcome(verdict=verdict, exit_code=0 if verdict is Verdict.OK else 1, stdout=b"42\n")
    return plain(
        result_of(
            eval_id,
            outcome,
            worker=ctx.hostname,
            retry_count=ctx.retries,
            started_at=started_at,
            finished_at=now_text(),
        )
    )
