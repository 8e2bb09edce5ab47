"""The maintenance tasks: the same in async and stock workers, and safe to run twice."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

from crucible.broker.admin.operator import Admin
from crucible.errors import RequirementError
from crucible.evaluation.dead_letter_alert import report_growth
from crucible.evaluation.large_outputs import open_orphans
from crucible.evaluation.schedule import TASKS
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crucible.broker.claiming.deadletters import DeadLetter
    from crucible.settings import Settings
    from crucible.worker import TaskContext, TaskRegistry

log = logging.getLogger(__name__)

#: Dead letters that one analysis reads, and of one page.
_LETTERS, _PAGE = 10_000, 500


def register(registry: TaskRegistry, settings: Settings) -> None:
    """Add the tasks to a registry.

    Args:
        registry: of the platform.
        settings: name the servers, and how long things are kept.
    """

    async def cleanup(ctx: TaskContext) -> dict[str, Any]:
        """Delete evaluations older than they are kept, and objects that no result names."""
        return {"deleted": await _delete_old(settings), "objects": await _sweep(settings)}

    async def process_dlq(ctx: TaskContext) -> dict[str, Any]:
        """Say why messages became dead letters, and notify operators of new ones."""
        letters = await _letters(settings)
        found = analysis(letters)
        found["new"] = await report_growth(settings, letters, dict(found))
        if found["total"]:
            log.warning("%d dead letters: %s", found["total"], found["by_cause"])
        return found

    registry.task("tasks.process_dlq")(process_dlq)
    # Two names of the contract for one job: whichever is sent, by whomever.
    for name in ("tasks.cleanup", "tasks.cleanup_old_tasks"):
        registry.task(name)(cleanup)
    assert {"tasks.process_dlq", "tasks.cleanup", "tasks.cleanup_old_tasks"} < TASKS.keys()


def analysis(letters: Iterable[DeadLetter]) -> dict[str, Any]:
    """Dead letters by cause, task and queue, and when the newest came (seconds since the epoch)."""
    found = list(letters)
    return {
        "total": len(found),
        "by_cause": dict(Counter(letter.reason for letter in found)),
        "by_task": dict(Counter(letter.task or "unknown" for letter in found)),
        "by_queue": dict(Counter(letter.queue for letter in found)),
        "newest_at": max((letter.at for letter in found), default=None),
    }


async def _letters(settings: Settings) -> list[DeadLetter]:
    letters: list[DeadLetter] = []
    async with Admin.connect(
        settings.celery_broker_url,
        result_url=settings.result_url,
        global_keyprefix=settings.global_keyprefix,
        result_keyprefix=settings.result_prefix,
        scripting=settings.claim == "atomic",
    ) as admin:
        while len(letters) < _LETTERS:
            before = letters[-1].letter_id if letters else ""
            page = await admin.dead_letters.page(_PAGE, before)
            letters += page
            if len(page) < _PAGE:
                break
    return letters


async def _sweep(settings: Settings) -> int:
    keys = Keys(settings.global_keyprefix, settings.result_prefix)
    async with open_orphans(settings, keys) as orphans:
        return 0 if orphans is None else await orphans.sweep()


async def _delete_old(settings: Settings) -> int:
    if settings.history is None:
        return 0
    try:
        # Imported here: without a history no worker needs SQLAlchemy.
        from crucible.history.database import open_database
        from crucible.history.retention import Retention
        from crucible.history.version import require_newest
    except ImportError as error:
        raise RequirementError(
            f"the history needs {error.name}", "pip install 'crucible-sandbox[history]'"
        ) from None
    days = {
        "high_priority": settings.history_days_premium,
        "batch": settings.history_days_bulk,
    }
    async with open_database(settings.history) as engine:
        await require_newest(engine)
        return await Retention(engine, days, settings.history_days_standard).delete_old()
