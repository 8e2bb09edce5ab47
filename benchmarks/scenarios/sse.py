"""Two thousand clients follow the events of one api, beside a bare aiohttp handler.

Every client has to get every event, in the order of the bus. The bare handler writes frames of the
same size to as many streams: that limit has no bus to read, no tenant to compare and nothing to
encode. ``python -m benchmarks.sse_clients`` is the longer form.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from benchmarks.scenario import Scenario, Stage, Subject, plain_stage
from benchmarks.sse_clients import api_of_many, follow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CRUCIBLE, BARE = "crucible", "bare aiohttp"
CLIENTS, EVALUATIONS = 2000, 50


async def measure(stage: Stage, label: str) -> None:
    """Open the streams, submit, read everything."""
    clients = stage.bench.count(CLIENTS, least=20)
    evaluations = stage.bench.count(EVALUATIONS, least=5)
    async with _served(stage, label, clients) as (address, pid):
        found = await follow(address, pid, clients, evaluations)
    stage.record(label, "complete_share", found.complete / clients)
    stage.record(label, "resident_mb", found.after_mb)
    stage.record(label, "kb_a_client", (found.opened_mb - found.before_mb) * 1024 / clients)
    stage.record(label, "cpu_us_per_event", found.cpu_us)
    stage.record(label, "events_per_s", clients * evaluations / found.took_s)


@asynccontextmanager
async def _served(stage: Stage, label: str, clients: int) -> AsyncIterator[tuple[str, int]]:
    if label == BARE:
        async with stage.driven(label) as bare:
            yield f"http://127.0.0.1:{bare.facts['port']}", bare.facts["pid"]
        return
    directory = stage.bench.directory / f"{stage.scenario}-{stage.bench.repeat}"
    async with api_of_many(directory, clients) as served:
        yield served


SCENARIO = Scenario(
    name="sse",
    summary="clients that follow the events of one api",
    subjects={CRUCIBLE: Subject("crucible_api"), BARE: Subject("bare_sse")},
    open=plain_stage,
    measure=measure,
    turn_s=7.0,
)
