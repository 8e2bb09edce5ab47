"""``crucible api --processes``: several processes, one port, one log, one view of the metrics."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from support.worker_rig import START_S, crucible

if TYPE_CHECKING:
    from stock_rig.child import Child

    from crucible.embedded.server import EmbeddedServer

LINE = r"2 api processes on (http://\S+)"


def api(server: EmbeddedServer, *arguments: str) -> Child:
    environment = {"CELERY_BROKER_URL": server.url, "CRUCIBLE_EVENT_BUS_URL": server.url}
    return crucible(["api", "--processes", "2", "--port", "0", *arguments], **environment)


def members(parent: int) -> list[int]:
    """Its child processes."""
    text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(pid) for pid in text.split()]


async def submit(url: str, count: int) -> None:
    """Submit over a connection each, so that every process gets some."""
    for _ in range(count):
        async with (
            aiohttp.ClientSession(url) as client,
            client.post("/api/eval", json={"code": "1"}) as response,
        ):
            assert response.status == 202


async def counted(url: str) -> float:
    """What the process that the kernel chose says was submitted."""
    async with aiohttp.ClientSession(url) as client, client.get("/metrics") as response:
        text = await response.text()
    counter = r'^tasks_submitted_total\{queue_system="celery"\} (\S+)'
    [value] = re.findall(counter, text, re.MULTILINE)
    return float(value)


async def until_counted(url: str, count: float) -> None:
    async with asyncio.timeout(START_S):
        while await counted(url) < count:
            await asyncio.sleep(0.05)


async def test_they_serve_one_port_and_one_view(scratch_server: EmbeddedServer) -> None:
    """Every answer to a scrape is about both; a sum never falls, whoever is killed."""
    async with api(scratch_server) as parent:
        line = await parent.wait_for_log(LINE, START_S)
        match = re.search(LINE, line)
        assert match is not None
        url = match[1]
        for number in (1, 2):
            await parent.wait_for_log(rf"api-{number} *\| .*listening", START_S)
        await submit(url, 40)
        await until_counted(url, 40)
        assert {await counted(url) for _ in range(20)} == {40}

        os.kill(members(parent.pid)[0], signal.SIGKILL)
        await parent.wait_for_log(r"api-\d exited with code -9, restarting it", START_S)
        await submit(url, 10)
        await until_counted(url, 50)
        assert {await counted(url) for _ in range(10)} == {50}
        async with asyncio.timeout(START_S):
            while len(members(parent.pid)) < 2:
                await asyncio.sleep(0.05)

        left = members(parent.pid)
        parent.send_signal(signal.SIGTERM)
        assert await parent.wait(START_S) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in left)
        assert sum("restarting it" in line for line in parent.lines) == 1


async def test_a_port_that_is_taken_is_said(scratch_server: EmbeddedServer) -> None:
    """Not shared with a stranger, and not tried for ever."""
    taken = str(scratch_server.port)
    async with api(scratch_server, "--port", taken) as parent:
        assert await parent.wait(START_S) == 1
        assert f"port {taken} on 127.0.0.1 is taken" in parent.log
        assert "Traceback" not in parent.log
