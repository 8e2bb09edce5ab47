"""Evaluations written to the history: how many a second, how late at 2 000 a second, and memory.

A backlog of events is on the bus before the historian starts, so that it is the only limit. Beside
it the same rows, made beforehand, are inserted by the driver's own ``executemany``: that limit has
no bus to read, nothing to fold and no row to look for.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from benchmarks.append_only import emptied
from benchmarks.driven import Driven
from benchmarks.machine import cpu_s, rss_mb
from benchmarks.postgres import PostgresServer
from benchmarks.scenario import Scenario, Stage, Subject, redis_stage
from crucible.history.database import open_database
from crucible.history.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.scenario import Bench

#: Evaluations of the backlog, and of each of the parts in which memory is looked at.
EVALUATIONS, PARTS = 40_000, 4
#: Evaluations a second at which the lag is measured, and for how many seconds.
RATE, LAG_S = 2000, 10


async def measure(stage: Stage, label: str) -> None:
    """Write a backlog; then, of historians, follow a steady rate."""
    database = await _database(stage, label)
    evaluations = stage.bench.count(EVALUATIONS, least=200)
    async with stage.driven(label, job={"database": database}) as subject:
        if not stage.subjects[label].job["historian"]:
            answer = await subject.run(evaluations=evaluations)
            _record(stage, label, evaluations, answer["elapsed_s"], answer["cpu_s"])
            return
        async with Redis.from_url(stage.redis) as redis:
            await emptied(redis)
        async with Driven("history_feed", job={"redis": stage.redis}) as feed:
            await _backlog(stage, label, subject, feed, evaluations)
            await _steady(stage, label, subject, feed)


async def _backlog(
    stage: Stage, label: str, subject: Driven, feed: Driven, evaluations: int
) -> None:
    resident_mb: list[float] = []
    elapsed_s = used_s = server_s = 0.0
    part = evaluations // PARTS
    for _ in range(PARTS):
        await feed.run(evaluations=part, rate=0)
        before = _server_s(stage)
        answer = await subject.run(evaluations=part, lag=False)
        elapsed_s, used_s = elapsed_s + answer["elapsed_s"], used_s + answer["cpu_s"]
        server_s += _server_s(stage) - before
        resident_mb.append(rss_mb(subject.facts["pid"]))
    _record(stage, label, part * PARTS, elapsed_s, used_s)
    if server_s:
        stage.record(label, "cpu_us_of_server_per_evaluation", server_s / (part * PARTS) * 1e6)
    stage.record(label, "resident_mb", resident_mb[-1])
    stage.record(label, "resident_growth_mb", resident_mb[-1] - resident_mb[1])


async def _steady(stage: Stage, label: str, subject: Driven, feed: Driven) -> None:
    evaluations = stage.bench.count(RATE * LAG_S, least=200)
    fed, followed = await asyncio.gather(
        feed.run(evaluations=evaluations, rate=RATE),
        subject.run(evaluations=evaluations, lag=True),
    )
    lags = sorted(followed["lags_s"])
    stage.record(label, "lag_at_2000_per_s_p99_s", lags[int(len(lags) * 0.99)])
    stage.record(label, "lag_at_2000_per_s_max_s", lags[-1])
    stage.record(label, "feed_late_s", fed["late_s"])


def _record(stage: Stage, label: str, evaluations: int, elapsed_s: float, used_s: float) -> None:
    stage.record(label, "evaluations_per_s", evaluations / elapsed_s)
    stage.record(label, "cpu_us_per_evaluation", used_s / evaluations * 1e6)


def _server_s(stage: Stage) -> float:
    server: PostgresServer | None = stage.more["postgresql"]
    return 0.0 if server is None else cpu_s(server.pid)


async def _database(stage: Stage, label: str) -> str:
    """A database with tables; made here, as what makes them is no part of a historian's memory."""
    name = f"history_{secrets.token_hex(4)}"
    if stage.subjects[label].job["kind"] == "sqlite":
        url = f"sqlite:///{stage.bench.directory}/{name}.sqlite"
    else:
        server: PostgresServer = stage.more["postgresql"]
        url = await server.create(name)
    async with open_database(url, statement_s=600.0) as engine:
        await migrate(engine)
    return url


@asynccontextmanager
async def open_stage(bench: Bench, scenario: Scenario) -> AsyncIterator[Stage]:
    """An event bus, and a PostgreSQL server as it is installed."""
    # Run by root the server is another user's, who has to get to its files.
    bench.directory.chmod(0o711)
    async with (
        redis_stage(bench, scenario) as stage,
        PostgresServer(bench.directory / "postgresql") as server,
    ):
        stage.more["postgresql"] = server
        yield stage


SCENARIO = Scenario(
    name="history",
    summary="evaluations written to the history",
    subjects={
        "bare sqlite": Subject("bare_history", job={"kind": "sqlite", "historian": False}),
        "sqlite": Subject("crucible_historian", job={"kind": "sqlite", "historian": True}),
        "bare postgresql": Subject("bare_history", job={"kind": "postgresql", "historian": False}),
        "postgresql": Subject("crucible_historian", job={"kind": "postgresql", "historian": True}),
    },
    open=open_stage,
    measure=measure,
    turn_s=16.0,
)
