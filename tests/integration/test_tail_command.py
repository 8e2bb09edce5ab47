"""``crucible tail`` as a process of its own."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

from support.api_rig import port_of, running_api
from support.migration_rig import celery_worker, completed, submit
from support.worker_rig import plain_environment

if TYPE_CHECKING:
    import aiohttp


async def start(client: aiohttp.ClientSession, *arguments: str) -> asyncio.subprocess.Process:
    """``crucible tail`` on the API of a client."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "crucible", "tail", *arguments),
        *("--url", f"http://127.0.0.1:{port_of(client)}"),
        env=plain_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_one_evaluation_up_to_its_end(redis_url: str) -> None:
    """Lines for people, and with --json the events themselves; exit code 0 by itself."""
    async with running_api(redis_url) as client, celery_worker(redis_url):
        eval_id = (await submit(client, "import time; time.sleep(0.2)"))["eval_id"]
        await completed(client, eval_id)
        for arguments in ((eval_id,), (eval_id, "--json")):
            process = await start(client, *arguments)
            output, errors = await process.communicate()
            assert (process.returncode, errors) == (0, b"")
            *_, last = output.decode().splitlines()
            if "--json" in arguments:
                assert json.loads(last)["verdict"] == "ok"
            else:
                assert last.endswith(f"  {eval_id}  completed (ok)")


async def test_all_of_them_until_it_is_stopped(redis_url: str) -> None:
    """Only the statuses that are asked for."""
    async with running_api(redis_url) as client, celery_worker(redis_url):
        process = await start(client, "--json", "--status", "completed")
        assert process.stdout is not None
        async with asyncio.timeout(60):
            while True:
                async with client.get("/metrics") as response:
                    if "event_streams 1.0" in await response.text():
                        break
            ids = [(await submit(client, f"print({n})"))["eval_id"] for n in range(3)]
            found = [json.loads(await process.stdout.readline()) for _ in ids]
        assert sorted(one["eval_id"] for one in found) == sorted(ids)
        assert {one["status"] for one in found} == {"completed"}
        process.terminate()
        await process.wait()


async def test_mistakes_are_one_line(redis_url: str) -> None:
    """An unknown id, and an API without a bus; exit code 1."""
    async with running_api(redis_url) as client:
        process = await start(client, "nobody")
        _, errors = await process.communicate()
        assert process.returncode == 1
        assert errors.decode().count("\n") == 1
        assert "nobody" in errors.decode()
