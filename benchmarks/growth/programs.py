"""Lists of a long history, and gradings with many tests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp

from benchmarks import history_list
from benchmarks.driven import Driven
from benchmarks.growth.part import Cost, by_size, median_of
from benchmarks.scenarios.grading import CODE, busy_s, ended
from crucible.breaker import BreakerPolicy
from crucible.embedded.server import EmbeddedServer
from crucible.errors import RequirementError
from crucible.history.database import open_database
from crucible.history.filters import Filters
from crucible.history.migrate import migrate
from crucible.history.reader import open_reader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.growth.lines import Series
    from benchmarks.growth.part import Effort

ROWS = (1_000, 10_000, 100_000, 1_000_000, 3_000_000)
TESTS = (1, 2, 5, 10, 20, 50, 100)
TURNS = 3
#: Seconds that filling the longest history may take.
FILL_S = 3600.0


async def history(effort: Effort) -> list[Series]:
    """Milliseconds of a page of the list, from SQLite with so many evaluations."""

    async def of(size: int) -> Sequence[float]:
        url = f"sqlite:///{effort.directory}/history-{size}.sqlite"
        everything = Filters(tenant=history_list.TENANT)
        failed = Filters(tenant=history_list.TENANT, status=("failed",))
        async with open_database(url, statement_s=FILL_S) as engine:
            await migrate(engine)
            await history_list.fill(engine, size)
            async with open_reader(url, BreakerPolicy()) as reader:
                taken = [await history_list.measure(reader, f, size) for f in (everything, failed)]
        return [ms for p50_ms, p99_ms, _ in taken for ms in (p50_ms, p99_ms)]

    costs = [
        Cost(f"{what} of a page, {percentile} ms", "flat")
        for what in ("all", "failed ones")
        for percentile in ("P50", "P99")
    ]
    sizes = effort.of("history", ROWS, 100_000)
    return await by_size(effort, "history", "evaluations", sizes, costs, of)


async def tests(effort: Effort) -> list[Series]:
    """Processor time of the whole machine for a request with so many tests, and how long it takes.

    Most of it is of engine and kernel, so nothing else may run meanwhile.
    """
    environment = {"CRUCIBLE_ISOLATION": "container", "CRUCIBLE_CONCURRENCY": "4"}
    async with EmbeddedServer(effort.directory / "tests", durable=False) as server:
        job = {"redis": server.url, "environment": environment}
        async with Driven("crucible_service", job=job) as service:
            base = f"http://127.0.0.1:{service.facts['port']}"
            async with aiohttp.ClientSession(base) as client:

                async def of(size: int) -> Sequence[float]:
                    return await median_of(TURNS, lambda: _graded(client, size))

                sizes = effort.of("tests", TESTS, 20)
                costs = (Cost("machine, ms a request", "linear"), Cost("ms a request", "linear"))
                return await by_size(effort, "tests", "tests", sizes, costs, of)


async def _graded(client: aiohttp.ClientSession, count: int) -> Sequence[float]:
    cases = [{"stdin": f"{n} {n * n}\n", "expected": f"{n + n * n}\n"} for n in range(count)]
    loop = asyncio.get_running_loop()
    began_s, used_s = loop.time(), busy_s()
    view = await ended(client, {"code": CODE, "tests": cases})
    if view["verdict"] != "accepted":
        raise RequirementError("a program did not end as it must")
    return 1000 * (busy_s() - used_s), 1000 * (loop.time() - began_s)
