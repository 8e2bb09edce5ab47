"""How long pages of the list take, with many evaluations in the history.

    python -m benchmarks.history_list --rows 1000000 --database sqlite postgresql

Fills an empty database with made-up evaluations, by statements of the database itself, and asks for
pages as the api does: the newest, and those that follow cursors to random places. Beside them is
what PostgreSQL itself takes, and how many pages of its own it reads. Where it plans anything but
walks of indexes, its plan is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from benchmarks.postgres import PostgresServer
from crucible.breaker import BreakerPolicy
from crucible.history.database import open_database
from crucible.history.filters import Filters, Place, cursor_of
from crucible.history.migrate import migrate
from crucible.history.queries import page_queries
from crucible.history.reader import HistoryReader, open_reader
from crucible.history.schema import evaluations, labels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Index
    from sqlalchemy.ext.asyncio import AsyncEngine

#: When the first one was accepted, milliseconds since the epoch, and milliseconds between two.
FIRST_MS, STEP_MS = 1_788_000_000_000, 700
TENANT, LIMIT = "local", 50
#: Pages that are asked for with each filter.
PAGES = 300
_ROWS = {
    "sqlite": "WITH RECURSIVE s(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM s"
    " WHERE n < {last} - 1)",
    "postgresql": "WITH s AS (SELECT generate_series({first}::bigint, {last} - 1) AS n)",
}
#: Deterministic, in the same words for both databases. One in ten is another tenant's.
_EVALUATIONS = """
INSERT INTO evaluations (tenant, eval_id, celery_task_id, submitted, created_ms, language, priority,
  code_bytes, queue, queue_system, seq, status, verdict, worker, started_ms, finished_ms, run_ms,
  wall_time_ms, cpu_time_ms, memory_peak_kb, exit_code, isolation, output_bytes, error_bytes,
  output_truncated, retry_count, attempt, metadata)
{rows} SELECT
  CASE WHEN n % 10 = 9 THEN 'other' ELSE 'local' END, 'e' || (n * 7919 % 100000007),
  'eval-e' || (n * 7919 % 100000007), {true}, {at}, CASE n % 20 WHEN 0 THEN 'rust' WHEN 1 THEN 'c'
  WHEN 2 THEN 'go' ELSE 'python' END, 5, 120, CASE n % 50 WHEN 0 THEN 'high_priority' WHEN 1 THEN
  'batch' ELSE 'evaluation' END, 'celery', 999999999999, CASE WHEN n % 100 = 3 THEN 'cancelled'
  WHEN n % 25 = 4 THEN 'failed' ELSE 'completed' END, CASE WHEN n % 100 = 3 THEN 'cancelled'
  WHEN n % 25 = 4 THEN 'timeout' WHEN n % 1000 = 5 THEN 'memory_limit' WHEN n % 8 = 6 THEN
  'nonzero_exit' ELSE 'ok' END, 'w' || (n % 8) || '@host', {at} + 2, {at} + 22, 19, 18, 11, 9200, 0,
  'container', 3, 0, {false}, 0, 0, '{{"run":"r' || (n / 1000) || '"}}'
FROM s
"""
_LABELS = """
INSERT INTO labels (tenant, name, value, created_ms, eval_id)
{rows} SELECT
  CASE WHEN n % 10 = 9 THEN 'other' ELSE 'local' END, {name}, {value}, {at},
  'e' || (n * 7919 % 100000007)
FROM s WHERE n % {every} = 0
"""
#: Name, value and how many have it: a run of a thousand; a word that a tenth has; a rare one.
_LABELLED = (
    ("'run'", "'r' || (n / 1000)", 1),
    ("''", "'r' || (n / 1000)", 1),
    ("''", "'nightly'", 10),
    ("''", "'rare'", 100_000),
)
_PART = 500_000


def cases(rows: int) -> Iterator[tuple[str, Filters]]:
    """What is asked for, by a description."""
    run = f"r{rows // 2000}"
    middle_ms = FIRST_MS + rows // 2 * STEP_MS
    for name, given in {
        "no filter": {},
        "status=failed": {"status": ("failed",)},
        "status=completed": {"status": ("completed",)},
        "status=failed,cancelled": {"status": ("failed", "cancelled")},
        "verdict=memory_limit": {"verdict": ("memory_limit",)},
        "verdict=ok": {"verdict": ("ok",)},
        "language=rust": {"language": "rust"},
        "queue=batch": {"queue": "batch"},
        "since, until": {"since_ms": middle_ms, "until_ms": middle_ms + 3_600_000},
        "status=failed, since": {"status": ("failed",), "since_ms": middle_ms},
        "verdict=timeout, language=python": {"verdict": ("timeout",), "language": "python"},
        "metadata.run": {"metadata": (("run", run),)},
        "q=nightly": {"q": "nightly"},
        "q=rare": {"q": "rare"},
        "q=nightly, metadata.run": {"q": "nightly", "metadata": (("run", run),)},
    }.items():
        yield name, Filters(tenant=TENANT, **given)  # type: ignore[arg-type]  # as its fields are


async def fill(engine: AsyncEngine, rows: int) -> None:
    """Insert so many evaluations, and make the indexes after that."""
    dialect = engine.dialect.name
    writing = engine.execution_options(writes=True)
    indexes: list[Index] = [*evaluations.indexes, *labels.indexes]
    async with writing.begin() as connection:
        for index in indexes:
            await connection.run_sync(index.drop)
    words = {"true": "true", "false": "false"} if dialect == "postgresql" else None
    words = words or {"true": "1", "false": "0"}
    for first in range(0, rows, _PART):
        part = _ROWS[dialect].format(first=first, last=min(rows, first + _PART))
        at = f"({FIRST_MS} + n * {STEP_MS})"
        async with writing.begin() as connection:
            await connection.exec_driver_sql(_EVALUATIONS.format(rows=part, at=at, **words))
            for name, value, every in _LABELLED:
                statement = _LABELS.format(rows=part, at=at, name=name, value=value, every=every)
                await connection.exec_driver_sql(statement)
    async with writing.begin() as connection:
        for index in indexes:
            await connection.run_sync(index.create)
    async with engine.connect() as connection:
        analyzing = await connection.execution_options(isolation_level="AUTOCOMMIT")
        statement = "VACUUM ANALYZE" if dialect == "postgresql" else "ANALYZE"
        await analyzing.execute(text(statement))


async def measure(reader: HistoryReader, filters: Filters, rows: int) -> tuple[float, float, int]:
    """Median and 99th percentile of the milliseconds of a page; and rows of the first page."""
    found, _ = await reader.page(filters, LIMIT, None)
    places = random.Random(7)
    taken = []
    for number in range(PAGES):
        cursor = None
        if number % 3:
            at_ms = FIRST_MS + places.randrange(rows) * STEP_MS
            cursor = cursor_of(filters, Place(at_ms, "e5"))
        began = time.perf_counter()
        await reader.page(filters, LIMIT, cursor)
        taken.append((time.perf_counter() - began) * 1000)
    taken.sort()
    return taken[PAGES // 2], taken[int(PAGES * 0.99)], len(found)


async def served(engine: AsyncEngine, filters: Filters, rows: int) -> str:
    """What PostgreSQL itself takes for pages at random places, and the indexes it walks."""
    if engine.dialect.name != "postgresql":
        return ""
    places = random.Random(11)
    taken, buffers, read, indexes = [], 0, 0, set()
    async with engine.connect() as connection:
        for _ in range(PAGES // 3):
            after = Place(FIRST_MS + places.randrange(rows) * STEP_MS, "e5")
            page_ms = 0.0
            for query in page_queries(filters, after, LIMIT + 1):
                compiled = query.compile(engine.sync_engine, compile_kwargs={"literal_binds": True})
                asked = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {compiled}"
                answer = (await connection.exec_driver_sql(asked)).scalar_one()
                (plan,) = json.loads(answer) if isinstance(answer, str) else answer
                page_ms += plan["Execution Time"]
                buffers += plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
                read += plan["Plan"]["Shared Read Blocks"]
                indexes.update(re.findall(r'"Index Name": "(\w+)"', json.dumps(plan)))
            taken.append(page_ms)
    taken.sort()
    pages = len(taken)
    return (
        f"server P50 {taken[pages // 2]:6.2f} ms  P99 {taken[int(pages * 0.99)]:6.2f} ms  "
        f"buffers {buffers // pages}, read {read // pages}  {', '.join(sorted(indexes))}"
    )


async def other_plans(engine: AsyncEngine, filters: Filters) -> list[str]:
    """Plans that read a table from end to end, or sort; of PostgreSQL only."""
    if engine.dialect.name != "postgresql":
        return []
    found = []
    for query in page_queries(filters, None, LIMIT + 1):
        compiled = query.compile(engine.sync_engine, compile_kwargs={"literal_binds": True})
        async with engine.connect() as connection:
            rows: Any = await connection.exec_driver_sql(f"EXPLAIN {compiled}")
            plan = "\n".join(row[0] for row in rows)
        if "Seq Scan" in plan or "Sort" in plan:
            found.append(plan)
    return found


async def run(url: str, rows: int) -> bool:
    """Fill a database and print the table; whether every P99 is within 20 ms."""
    async with open_database(url, statement_s=3600.0) as engine:
        await migrate(engine)
        began = time.perf_counter()
        await fill(engine, rows)
        name = engine.dialect.name
        print(f"{name}: {rows} evaluations, filled in {time.perf_counter() - began:.0f} s")
        within = True
        async with open_reader(url, BreakerPolicy()) as reader:
            for what, filters in cases(rows):
                p50_ms, p99_ms, first = await measure(reader, filters, rows)
                within = within and p99_ms <= 20
                print(
                    f"  {what:34} P50 {p50_ms:7.2f} ms  P99 {p99_ms:7.2f} ms  rows {first}  "
                    f"{await served(engine, filters, rows)}",
                    flush=True,
                )
                for plan in await other_plans(engine, filters):
                    print(plan)
    return within


async def main() -> int:
    """Measure on every database that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--database", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--directory", type=Path, help="where databases are made; needs room")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.directory) as directory:
        Path(directory).chmod(0o711)
        within = True
        if "sqlite" in asked.database:
            within = await run(f"sqlite:///{directory}/history.sqlite", asked.rows)
        if "postgresql" in asked.database:
            async with PostgresServer(Path(directory) / "postgresql") as server:
                within = await run(await server.create("history"), asked.rows) and within
    return 0 if within else 1


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
