"""The limit of the database's driver: ``executemany`` of the same rows, made beforehand."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Any

import asyncpg

from benchmarks.history_events import events
from crucible.history.rows import batch_of
from crucible.history.schema import attempts, evaluations, labels, transitions
from crucible.settings import load_settings

if TYPE_CHECKING:
    from sqlalchemy import Table

_url: str


def setup(job: dict[str, Any]) -> None:
    global _url
    _url = job["database"]


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Plain inserts, one transaction for as many evaluations as a historian's batch has."""
    batches = _batches(job["evaluations"])
    if _url.startswith("sqlite"):
        return _sqlite(batches)
    return await _postgresql(batches)


def _batches(count: int) -> list[list[tuple[Table, list[tuple[Any, ...]]]]]:
    found, made, size = [], list(events(count)), load_settings({}).history_batch
    for first in range(0, len(made), size):
        batch = batch_of(made[first : first + size])
        rows = {
            evaluations: batch.evaluations[0],
            transitions: batch.transitions,
            attempts: batch.attempts,
            labels: batch.labels,
        }
        found.append(
            [
                (table, [tuple(row[c.name] for c in table.columns) for row in some])
                for table, some in rows.items()
            ]
        )
    return found


def _sqlite(batches: list[list[tuple[Table, list[tuple[Any, ...]]]]]) -> dict[str, Any]:
    connection = sqlite3.connect(_url.partition(":///")[2], isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")
    began, used = time.perf_counter(), time.process_time()
    for batch in batches:
        connection.execute("BEGIN IMMEDIATE")
        for table, rows in batch:
            places = ", ".join("?" * len(table.columns))
            connection.executemany(f"INSERT OR IGNORE INTO {table.name} VALUES ({places})", rows)
        connection.execute("COMMIT")
    answer = _answer(began, used)
    connection.close()
    return answer


async def _postgresql(batches: list[list[tuple[Table, list[tuple[Any, ...]]]]]) -> dict[str, Any]:
    connection = await asyncpg.connect(_url)
    began, used = time.perf_counter(), time.process_time()
    for batch in batches:
        async with connection.transaction():
            for table, rows in batch:
                names = ", ".join(column.name for column in table.columns)
                places = ", ".join(f"${n + 1}" for n in range(len(table.columns)))
                await connection.executemany(
                    f"INSERT INTO {table.name} ({names}) VALUES ({places}) ON CONFLICT DO NOTHING",
                    rows,
                )
    answer = _answer(began, used)
    await connection.close()
    return answer


def _answer(began: float, used: float) -> dict[str, Any]:
    return {
        "elapsed_s": time.perf_counter() - began,
        "cpu_s": time.process_time() - used,
        "lags_s": [],
    }


def teardown(job: dict[str, Any]) -> None:
    """Nothing is kept open."""
