"""The list, its pages, and the counts, in both databases."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from support.api_rig import running_api
from support.history_rig import START_MS, end_of, life, migrated

from crucible.history.filters import Filters, Place
from crucible.history.queries import one_query, page_queries
from crucible.history.writer import HistoryWriter

if TYPE_CHECKING:
    import aiohttp
    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncEngine

    from crucible.events.event import Event

VERDICTS = ("ok", "timeout", "nonzero_exit")
HOUR_MS = 3_600_000


def several(count: int) -> list[Event]:
    """Evaluations a minute apart, of two languages, three verdicts and two tenants."""
    events: list[Event] = []
    for number in range(count):
        queued, running, _ = life(
            f"e{number:04}",
            at=START_MS + number // 2 * 60_000,
            tenant="other" if number % 10 == 9 else "local",
            language="c" if number % 4 == 0 else "python",
            metadata={"run": f"r{number % 5}", "note": f"word{number} common"},
        )
        verdict = VERDICTS[number % 3]
        failed = {"status": "failed"} if verdict == "timeout" else {}
        events += [queued, running, end_of(running, verdict, **failed)]
    return events


async def filled(engine: AsyncEngine, count: int) -> None:
    """Write them."""
    await HistoryWriter(engine).write(several(count))


async def get(client: aiohttp.ClientSession, path: str, status: int = 200) -> dict[str, Any]:
    """The answer to a GET."""
    async with client.get(path) as response:
        found: dict[str, Any] = await response.json()
        assert response.status == status, found
        return found


async def ids(client: aiohttp.ClientSession, query: str) -> list[str]:
    """The ids of a whole list, page by page."""
    found: list[str] = []
    cursor = ""
    while True:
        page = await get(client, f"/api/eval?limit=7{query}{cursor}")
        found += [one["eval_id"] for one in page["items"]]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


async def test_lists_and_counts(history_url: str, redis_url: str) -> None:
    """Every filter, in pages; ids of the same millisecond included; never another tenant's."""
    ours = [number for number in range(100) if number % 10 != 9]
    async with migrated(history_url) as engine:
        await filled(engine, 100)
        async with running_api(redis_url, history_url=history_url) as client:

            async def expect(query: str, fits: Any) -> None:
                expected = [f"e{number:04}" for number in reversed(ours) if fits(number)]
                assert await ids(client, query) == expected, query

            await expect("", lambda number: True)
            await expect("&status=failed", lambda number: number % 3 == 1)
            await expect("&status=failed,completed", lambda number: True)
            await expect("&verdict=ok,timeout", lambda number: number % 3 < 2)
            await expect("&language=c", lambda number: number % 4 == 0)
            await expect("&language=c&verdict=ok&status=completed&queue=evaluation",
                         lambda number: number % 12 == 0)  # fmt: skip
            await expect("&metadata.run=r3", lambda number: number % 5 == 3)
            await expect("&metadata.run=r3&language=c", lambda number: number % 20 == 8)
            await expect("&q=Common+word12", lambda number: number == 12)
            await expect("&q=e0013", lambda number: number == 13)
            await expect("&queue=batch", lambda number: False)
            since, until = "2026-11-28T08:57:00%2B00:00", "2026-11-28T09:00:00Z"
            times = [START_MS + number // 2 * 60_000 for number in range(100)]
            low, high = (_ms(one) for one in ("2026-11-28T08:57:00Z", until))
            await expect(f"&since={since}&until={until}",
                         lambda number: low <= times[number] < high)  # fmt: skip
            await check_answers(client)


def _ms(moment: str) -> int:
    from datetime import datetime

    return int(datetime.fromisoformat(moment).timestamp() * 1000)


async def check_answers(client: aiohttp.ClientSession) -> None:
    """One evaluation, refusals, and counts."""
    past = await get(client, "/api/eval/e0001")
    assert (past["status"], past["verdict"], past["output"]) == ("failed", "timeout", "")
    assert past["usage"]["cpu_time_ms"] == 11
    assert past["timing_ms"] == {"queued": 2, "sandbox": 1, "run": 19, "total": 22}
    assert past["metadata"] == {"run": "r1", "note": "word1 common"}
    await get(client, "/api/eval/e0009", 404)  # another tenant's
    assert len(await ids(client, "&tenant=other")) == 10
    cursor = (await get(client, "/api/eval?limit=1&status=failed"))["next_cursor"]
    problem = await get(client, f"/api/eval?cursor={cursor}", 422)
    assert problem["errors"][0]["field"] == "cursor"
    for query in ("status=done", "limit=501", "since=soon", "cursor=x", "q=--", "metadata.=1"):
        await get(client, f"/api/eval?{query}", 422)
    counted = await get(
        client, "/api/v1/stats?since=2026-11-28T00:00:00Z&until=2026-11-30T00:00:00Z"
    )
    assert counted["total"] == 90
    verdicts = Counter(VERDICTS[number % 3] for number in range(100) if number % 10 != 9)
    assert counted["verdict"] == verdicts
    assert counted["status"] == {
        "failed": verdicts["timeout"],
        "completed": 90 - verdicts["timeout"],
    }
    assert sum(bucket["total"] for bucket in counted["buckets"]) == 90
    assert len(counted["buckets"]) in (1, 2)
    await get(client, "/api/v1/stats?bucket=1", 422)


async def test_without_a_history_the_setting_is_named(redis_url: str) -> None:
    """Nothing a client does helps, so it says what the operator has to set."""
    async with running_api(redis_url) as client:
        for path in ("/api/eval", "/api/v1/stats"):
            problem = await get(client, path, 503)
            assert "CRUCIBLE_HISTORY_URL" in problem["detail"]
        await get(client, "/api/eval/nobody", 404)


async def test_a_database_that_is_away_does_not_reach_submissions(
    redis_url: str, tmp_path: Any
) -> None:
    """The list is 503, its circuit opens and is shown, and submissions are queued."""
    url = f"sqlite:///{tmp_path}/missing/history.sqlite"
    async with running_api(redis_url, history_url=url, breaker_failures=2) as client:
        for _ in range(3):
            problem = await get(client, "/api/eval", 503)
        assert "does not answer" in problem["detail"]
        async with client.post("/api/eval", json={"code": "1"}) as response:
            assert response.status == 202
        async with client.get("/ready") as response:
            report = await response.json()
        assert report["circuits"]["history"] == "open"
        assert report["dependencies"]["history"]["ok"] is False
        async with client.get("/metrics") as response:
            shown = await response.text()
        assert 'circuit_breaker_state{downstream="history"} 2.0' in shown
        assert "historians 0.0" in shown


CASES = [
    Filters(tenant="local"),
    *(Filters(tenant="local", verdict=(one,)) for one in ("ok", "timeout")),
    Filters(tenant="local", status=("completed",)),
    Filters(tenant="local", status=("completed",), verdict=("ok",), language="c"),
    Filters(tenant="local", queue="evaluation"),
    Filters(tenant="local", metadata=(("run", "r1"),), status=("failed",)),
    Filters(tenant="local", q="common word1"),
    Filters(tenant="local", since_ms=START_MS, until_ms=START_MS + HOUR_MS),
]


async def test_no_page_scans_or_sorts(history_url: str) -> None:
    """Each walks one index from its place: as fast with millions of rows."""
    async with migrated(history_url) as engine:
        await filled(engine, 60)
        for case in CASES:
            for after in (None, Place(START_MS + 60_000, "e0002")):
                for query in page_queries(case, after, 11):
                    plan = await plan_of(engine, query)
                    assert not re.search(r"Seq Scan|\bSort\b|TEMP B-TREE|SCAN", plan), plan
        plan = await plan_of(engine, one_query("local", "e0001"))
        assert not re.search(r"Seq Scan|SCAN", plan), plan


async def plan_of(engine: AsyncEngine, query: Select[Any]) -> str:
    """How a statement is carried out."""
    sql = str(query.compile(engine.sync_engine, compile_kwargs={"literal_binds": True}))
    async with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            rows = await connection.execute(
                text(f"EXPLAIN QUERY PLAN {sql.replace(':', chr(92) + ':')}")
            )
            return "\n".join(row[-1] for row in rows)
        # A table of a few rows is read as a whole, and sorted, whatever its indexes.
        for kind in ("seqscan", "sort", "bitmapscan"):
            await connection.execute(text(f"SET LOCAL enable_{kind} = off"))
        rows = await connection.execute(text(f"EXPLAIN {sql.replace(':', chr(92) + ':')}"))
        return "\n".join(row[0] for row in rows)


@pytest.mark.parametrize("word", ["", "--"])
def test_a_search_needs_a_word(word: str) -> None:
    """Nothing would be looked up by it."""
    from crucible.errors import ParameterError

    with pytest.raises(ParameterError):
        list(page_queries(Filters(tenant="local", q=word), None, 1))
