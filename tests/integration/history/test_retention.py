"""Old evaluations are deleted, and the tasks that do it are sent when they are due."""

from __future__ import annotations

import msgspec
import pytest
from redis.asyncio import Redis
from support.api_rig import queued
from support.history_rig import life, migrated, now_ms, rows_of

from crucible.broker import Publisher
from crucible.broker.claiming.deadletters import DeadLetter
from crucible.evaluation.maintenance import analysis
from crucible.evaluation.schedule import TASKS, send_due
from crucible.history import retention
from crucible.history.schema import attempts, evaluations, labels, transitions
from crucible.history.writer import HistoryWriter

DAY_MS = 86_400_000


async def test_each_tier_is_kept_as_long_as_its_setting_says(
    history_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In transactions of a few; of every table; whosever they are."""
    monkeypatch.setattr(retention, "_BATCH", 3)
    events = []
    for queue in ("high_priority", "evaluation", "batch"):
        for age in range(10):
            for tenant in ("local", "other"):
                at = now_ms() - age * DAY_MS - 1000
                one = life(f"{queue}-{age}", at=at, tenant=tenant, metadata={"a": 1})
                events += [msgspec.structs.replace(event, queue=queue) for event in one]
    async with migrated(history_url) as engine:
        await HistoryWriter(engine).write(events)
        days = {"high_priority": 0, "batch": 2}
        assert await retention.Retention(engine, days, 5).delete_old() == 2 * (5 + 8)
        left = {f"{queue}-{age}" for queue, kept in
                (("high_priority", 10), ("evaluation", 5), ("batch", 2))
                for age in range(kept)}  # fmt: skip
        for table in (evaluations, transitions, attempts, labels):
            assert {row["eval_id"] for row in await rows_of(engine, table)} == left
        assert await retention.Retention(engine, days, 5).delete_old() == 0


async def test_one_of_several_workers_sends_what_is_due(redis_url: str, redis: Redis) -> None:
    """Once for all of them, and again when the lease has ended."""
    async with Publisher.connect(redis_url) as publisher:
        assert await send_due(redis, publisher, "a@host") == list(TASKS)
        assert await send_due(redis, publisher, "b@host") == []
        assert len(await queued(redis)) == len(TASKS)
        await redis.delete(publisher.keys.schedule("tasks.cleanup"))
        assert await send_due(redis, publisher, "b@host") == ["tasks.cleanup"]
        assert await redis.llen("maintenance") == len(TASKS) + 1


def test_dead_letters_are_counted_by_cause() -> None:
    """And by task and queue."""
    letters = [
        DeadLetter(
            letter_id="1-0",
            raw=b"",
            queue="evaluation",
            reason="failed",
            task="tasks.evaluate_code",
            at="1",
        ),
        DeadLetter(letter_id="2-0", raw=b"", queue="batch", reason="unreadable", at="2"),
    ]
    assert analysis(letters) == {
        "total": 2,
        "by_cause": {"failed": 1, "unreadable": 1},
        "by_task": {"tasks.evaluate_code": 1, "unknown": 1},
        "by_queue": {"evaluation": 1, "batch": 1},
        "newest_at": "2",
    }
