"""What an async worker writes for canvases, beside what a stock 5.7.0 worker was seen to write."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis
from stock_rig import golden
from stock_rig.client import StockClient
from stock_rig.mask import decoded_body, mask_text
from stock_rig.monitor import Monitor
from stock_rig.reading import messages, results
from stock_rig.scenarios import run_scenario
from support.canvas_tasks import registry

from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

pytestmark = pytest.mark.stock

VERSION = "5.7.0"
CANVASES = [
    "link", "link_two", "link_immutable", "link_error_sent", "link_error_inline",
    "link_error_two", "chain", "chain_failure", "chain_to_group", "chain_to_chord", "group",
    "chord", "chord_one", "chord_failure", "chord_then_task", "chord_retrying_member", "map",
    "starmap", "chunks", "stamped", "stamped_link", "retry_then_ok_with_link", "spawn",
    "replaced",
]  # fmt: skip
EXTENDED = ("extended_stamped", "extended_chain")
SCENARIOS = {scenario["scenario"]: scenario for scenario in golden.scenarios()}


def _told(trace: Sequence[Sequence[str]]) -> str:
    """Messages and results in the order written, ids numbered through all of them."""
    lines = []
    for where, raw in messages(trace):
        message = json.loads(raw)
        message["body"] = json.loads(decoded_body(message))
        # Where a process's name or the time is told, it is its own.
        message["headers"].pop("origin")
        if "origin" in message["properties"]:
            message["properties"]["origin"] = None
        if message["headers"]["retries"]:
            # Stock writes a retry anew, with what it knows of the task; here only what changes is.
            message["headers"].update(argsrepr=None, ignore_result=None)
        lines.append(json.dumps([where, message]))
    for meta in results(trace):
        if meta["traceback"] is not None:
            meta["traceback"] = "<traceback>"
        lines.append(json.dumps(meta))
    return mask_text("\n".join(lines))


def _golden(name: str) -> str:
    entries = golden.load(VERSION, "traces")["entries"]
    return _told(next(entry["trace"] for entry in entries if entry["scenario"] == name))


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[StockClient]:
    async with StockClient(VERSION, redis_url) as client:
        yield client


async def _run(scenario: str, url: str, client: StockClient, **options: Any) -> dict[str, Any]:
    async with (
        Redis.from_url(url, decode_responses=True) as redis,
        Monitor(url) as monitor,
        Worker(registry, broker_url=url, concurrency=1, **options),
    ):
        return await run_scenario(SCENARIOS[scenario], client, monitor, redis)


@pytest.mark.parametrize("name", CANVASES)
async def test_worker_writes_what_stock_writes(
    name: str, redis_url: str, client: StockClient
) -> None:
    """Every message sent and every result stored equals stock's, ids and their relations too."""
    entry = await _run(name, redis_url, client)
    assert _told(entry["trace"]).splitlines() == _golden(name).splitlines()


@pytest.mark.parametrize("name", EXTENDED)
async def test_worker_writes_extended_results_as_stock(name: str, redis_url: str) -> None:
    """With ``result_extended`` the results equal stock's, those of steps that never ran too."""
    async with StockClient(VERSION, redis_url, config=SCENARIOS[name]["config"]) as client:
        entry = await _run(name, redis_url, client, name="stock1@rig", result_extended=True)
    assert _told(entry["trace"]).splitlines() == _golden(name).splitlines()
