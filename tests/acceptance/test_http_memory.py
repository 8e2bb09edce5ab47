"""The memory of an api process whose clients do not finish, or do not read."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from support.patience import PATIENCE_S
from support.raw_http import connected, post

from crucible.embedded.server import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

START_S = 30.0
#: 64 MiB of bodies or answers (``CRUCIBLE_MAX_UNFINISHED_MB``) on what the process has anyway.
MOST_MB = 250


@asynccontextmanager
async def api_process(queue_url: str) -> AsyncIterator[tuple[int, int]]:
    """``crucible api``; yields its port and its process id."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "crucible", "api", "--port", str(port),
        "--celery-broker-url", queue_url, "--event-bus-url", queue_url,
        env={name: text for name, text in os.environ.items() if "CRUCIBLE" not in name},
    )  # fmt: skip
    try:
        async with asyncio.timeout(START_S), aiohttp.ClientSession() as client:
            while True:
                try:
                    async with client.get(f"http://127.0.0.1:{port}/health") as response:
                        if response.status == 200:
                            break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.1)
        yield port, process.pid
    finally:
        process.terminate()
        await process.wait()


def resident_mb(pid: int) -> int:
    """The highest resident memory of a process so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) // 1024


async def test_unfinished_bodies_do_not_fill_the_memory(redis_url: str) -> None:
    """Three hundred of nearly 2 MB, on both paths; a client that finishes is served meanwhile."""
    big = b'{"code":"' + b"x" * 1_950_000
    async with api_process(redis_url) as (port, pid), AsyncExitStack() as stack:
        for number in range(300):
            target = b"/api/eval" if number % 2 else b"/api/eval?wait=1"
            client = await stack.enter_async_context(connected(port))
            client.transport.write(post(big + b'"}', target=target)[:-2])
            async with asyncio.timeout(PATIENCE_S):
                while client.transport.get_write_buffer_size() and not client.closed.done():
                    await asyncio.sleep(0.001)
        async with connected(port) as honest:
            honest.transport.write(post(b'{"code":"x"}'))
            await honest.got(b"202 Accepted")
        assert resident_mb(pid) < MOST_MB


async def test_unread_answers_do_not_fill_the_memory(redis_url: str) -> None:
    """A hundred clients that ask for much and read nothing."""
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with api_process(redis_url) as (port, pid), AsyncExitStack() as stack:
        for _ in range(100):
            client = await stack.enter_async_context(connected(port))
            client.transport.pause_reading()
            client.transport.write(ask * 3000)
        for _ in range(20):
            async with connected(port) as honest:
                honest.transport.write(post(b'{"code":"x"}'))
                await honest.got(b"202 Accepted")
        assert resident_mb(pid) < MOST_MB
