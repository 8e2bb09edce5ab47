"""Cancelling evaluations whose programs run, by either kind of worker."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from support.api_rig import running_api
from support.worker_rig import async_worker, stock_worker

pytestmark = [pytest.mark.docker, pytest.mark.stock, pytest.mark.timeout(400)]


def processes_with(argument: str) -> list[int]:
    """Processes of this machine, those in containers too, that were started with an argument."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if argument.encode() in words:
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("kind", ["async", "stock"])
async def test_a_running_program_is_stopped(redis_url: str, kind: str) -> None:
    """It ends cancelled within seconds, the worker goes on, and the next program runs."""
    worker = async_worker(redis_url) if kind == "async" else stock_worker(redis_url)
    async with running_api(redis_url) as client, worker as process:
        eval_id = f"forever-{kind}-{time.time_ns()}"
        # Its own child, found by the argument nobody else has.
        mark = f"1000.{time.time_ns()}"
        body = {
            "code": f"echo so far; sleep 1; sleep {mark}; true",
            "language": "bash",
            "eval_id": eval_id,
            "limits": {"wall_time_s": 100},
        }
        async with client.post("/api/eval", json=body) as response:
            assert response.status == 202
        async with asyncio.timeout(90):
            while True:
                async with client.get(f"/api/eval/{eval_id}") as response:
                    if (await response.json())["status"] == "running":
                        break
                await asyncio.sleep(0.05)
        async with asyncio.timeout(60):
            while not processes_with(mark):
                await asyncio.sleep(0.05)
        async with (
            asyncio.timeout(60),
            client.delete(f"/api/eval/{eval_id}") as response,
        ):
            view = await response.json()
            assert response.status == 200, (view, process.log)
        assert (view["status"], view["verdict"]) == ("cancelled", "cancelled"), process.log
        if kind == "async":  # a stock worker kills its child, which leaves nothing
            assert view["output"] == "so far\n"
            assert view["usage"]["wall_time_ms"] > 0
            assert view["worker"]
            assert view["created_at"] <= view["started_at"] <= view["finished_at"]
        async with asyncio.timeout(60):
            while processes_with(mark):
                await asyncio.sleep(0.1)
        async with client.post("/api/eval?wait=60", json={"code": "print(6*7)"}) as response:
            view = await response.json()
        assert view["output"] == "42\n", process.log
