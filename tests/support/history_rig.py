"""Databases of the history, and events to write to them, for tests."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import select

from crucible.events.event import Event, Transition, sequence, terminal_sequence
from crucible.history.database import open_database
from crucible.history.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncEngine

#: When events of tests happen, milliseconds since the epoch.
START_MS = 1_795_856_253_000


@asynccontextmanager
async def migrated(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine of a database with the newest schema."""
    async with open_database(url) as engine:
        await migrate(engine)
        yield engine


async def rows_of(engine: AsyncEngine, table: Table) -> list[dict[str, Any]]:
    """Every row of a table, in the order of its key."""
    async with engine.connect() as connection:
        found = await connection.execute(select(table).order_by(*table.primary_key))
        return [dict(row) for row in found.mappings()]


def life(
    eval_id: str, *, at: int = START_MS, tenant: str = "local", **of_queued: Any
) -> list[Event]:
    """The events of an evaluation that is queued, runs and completes."""
    queued = Event(
        eval_id,
        0,
        at,
        Transition.QUEUED,
        "queued",
        tenant,
        "evaluation",
        language="python",
        environment="default",
        priority=5,
        code_bytes=10,
    )
    queued = msgspec.structs.replace(queued, **of_queued)
    running = Event(
        eval_id,
        sequence(1),
        at + 2,
        Transition.RUNNING,
        "running",
        tenant,
        queued.queue,
        worker="w@host",
    )
    return [queued, running, end_of(running)]


def end_of(running: Event, verdict: str = "ok", **changes: Any) -> Event:
    """The end of an evaluation that runs."""
    end = msgspec.structs.replace(
        running,
        seq=terminal_sequence(running.attempt),
        at=running.at + 20,
        transition=Transition.COMPLETED,
        status="completed",
        verdict=verdict,
        started_ms=running.at,
        sandbox_ms=1,
        run_ms=19,
        wall_time_ms=18,
        cpu_time_ms=11,
        memory_peak_kb=9200,
        exit_code=0,
        isolation="container",
        output_bytes=3,
        error_bytes=0,
    )
    return msgspec.structs.replace(end, **changes)


def story() -> list[Event]:
    """An evaluation with a retry, a dead worker, a dead letter and a replay of it."""
    queued, running, _ = life("one", metadata={"run": "a b"})
    again = msgspec.structs.replace(
        running,
        seq=sequence(1, retries=1, deliveries=1),
        retry_count=1,
        deliveries=1,
        at=running.at + 9,
    )
    retrying = msgspec.structs.replace(
        running, seq=sequence(99_999), transition=Transition.RETRYING, status="retrying"
    )
    letter = end_of(
        again, "internal_error", transition=Transition.DEAD_LETTER, status="failed", message="gone"
    )
    replay = msgspec.structs.replace(again, attempt=1, deliveries=0, seq=sequence(1, attempt=1))
    return [queued, running, retrying, again, letter, replay, end_of(replay)]


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
