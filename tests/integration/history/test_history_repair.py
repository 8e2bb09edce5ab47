"""Restoring what the event bus has lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
from redis.asyncio import Redis
from support.api_rig import running_api
from support.history_rig import end_of, life, migrated, rows_of
from support.worker_rig import crucible

from crucible.events.event import ATTEMPT, sequence
from crucible.history.schema import evaluations, labels
from crucible.history.writer import HistoryWriter

if TYPE_CHECKING:
    from pathlib import Path

RESULT = {
    "eval_id": "", "status": "completed", "verdict": "ok", "output": "4\n", "exit_code": 0,
    "worker": "w@host", "started_at": "2026-11-28T08:00:00.000Z",
    "finished_at": "2026-11-28T08:00:01.000Z",
    "usage": {"wall_time_ms": 3, "cpu_time_ms": 2, "memory_peak_kb": 9},
}  # fmt: skip


async def store(redis: Redis, eval_id: str) -> None:
    """The result of an evaluation, as a worker stores it."""
    task_id = f"eval-{eval_id}"
    meta: dict[str, Any] = {
        "status": "SUCCESS", "result": {**RESULT, "eval_id": eval_id}, "traceback": None,
        "children": [], "date_done": "2026-11-28T08:00:01+00:00", "task_id": task_id,
    }  # fmt: skip
    await redis.set(f"celery-task-meta-{task_id}", json.dumps(meta))


async def test_submissions_and_ends_are_restored(
    history_url: str, redis_url: str, redis: Redis
) -> None:
    """From records and results; what the history has stays, and a second time does nothing."""
    variables = {"CRUCIBLE_HISTORY_URL": history_url, "CELERY_BROKER_URL": redis_url}
    async with migrated(history_url) as engine:
        async with running_api(redis_url, event_bus_url="off") as client:
            for name in ("lost", "queued", "has-end"):
                body = {"code": "1", "eval_id": name, "metadata": {"run": "a"}}
                async with client.post("/api/eval", json=body) as response:
                    assert response.status == 202
        for name in ("lost", "has-end", "sent-by-celery", "again"):
            await store(redis, name)
        queued, running, _ = life("has-end")
        await HistoryWriter(engine).write([queued, running, end_of(running, "nonzero_exit")])
        # Started anew after its end; the end of that attempt is lost.
        _, again, _ = life("again")
        replay = {"attempt": 1, "seq": sequence(1, attempt=1)}
        await HistoryWriter(engine).write([msgspec.structs.replace(again, **replay)])
        for expected in ("looked at 7 evaluations: 2 submissions and 3 ends",
                         "looked at 7 evaluations: 0 submissions and 0 ends"):  # fmt: skip
            async with crucible(["historian", "repair"], **variables) as repair:
                assert await repair.wait() == 0, repair.log
                assert expected in repair.log
        rows = {row["eval_id"]: row for row in await rows_of(engine, evaluations)}
        assert {name: (row["status"], row["verdict"]) for name, row in rows.items()} == {
            "again": ("completed", "ok"),
            "has-end": ("completed", "nonzero_exit"),
            "lost": ("completed", "ok"),
            "queued": ("queued", None),
            "sent-by-celery": ("completed", "ok"),
        }
        assert rows["again"]["seq"] == 2 * ATTEMPT - 1
        assert rows["lost"]["cpu_time_ms"] == 2
        assert rows["lost"]["submitted"]
        assert {row["eval_id"] for row in await rows_of(engine, labels)} == {
            "lost",
            "queued",
            "has-end",
        }


async def test_a_repair_needs_a_history(tmp_path: Path) -> None:
    """The setting is named."""
    async with crucible(["historian", "repair"]) as repair:
        assert await repair.wait() == 1
        assert "CRUCIBLE_HISTORY_URL: is not set" in repair.log
