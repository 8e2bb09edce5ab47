from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from support.api_rig import running_api
from support.worker_rig import async_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]

ENGINE = "/var/run/docker.sock"


class EngineSwitch:
    """A socket in front of the machine's engine that can be taken away and put back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """What a worker is told as its engine."""
        return f"unix://{self.path}"

    async def on(self) -> None:
        """The engine answers."""
        self._server = await asyncio.start_unix_server(self._relay, self.path)

    async def off(self) -> None:
        """The engine is gone, with every connection to it."""
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            self._server = None
            self.path.unlink(missing_ok=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            upstream_reader, upstream = await asyncio.open_unix_connection(ENGINE)
            self._writers |= {writer, upstream}
            await asyncio.gather(_copy(reader, upstream), _copy(upstream_reader, writer))
            self._writers -= {writer, upstream}
            for stream in (upstream, writer):
                stream.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with suppress(OSError, RuntimeError):
        if writer.can_write_eof():
            writer.write_eof()


@asynccontextmanager
async def engine_switch(folder: Path) -> AsyncIterator[EngineSwitch]:
    """An engine that is there at first."""
    switch = EngineSwitch(folder / "engine.sock")
    await switch.on()
    try:
        yield switch
    finally:
        await switch.off()


async def ready(client: aiohttp.ClientSession) -> tuple[int, dict[str, Any]]:
    """Status and body of ``/ready``."""
    async with client.get("/ready") as response:
        return response.status, await response.json()


async def until_ready(client: aiohttp.ClientSession, status: int) -> dict[str, Any]:
    """The first report with this HTTP status and a worker in it."""
    async with asyncio.timeout(60):
        while True:
            found, report = await ready(client)
            if found == status and report["workers_connected"]:
                return report
            await asyncio.sleep(0.1)


async def until_status(client: aiohttp.ClientSession, status: str) -> None:
    """Wait until evaluation ``e`` has this status."""
    async with asyncio.timeout(30):
        while True:
            async with client.get("/api/eval/e") as response:
                if (await response.json())["status"] == status:
                    return
            await asyncio.sleep(0.02)


async def test_an_engine_that_is_gone_costs_no_task_and_is_no_verdict(
    redis_url: str, tmp_path: Path
) -> None:
    """Docker down: /ready says so, the evaluation waits, and ends well once Docker is back."""
    async with engine_switch(tmp_path) as engine, running_api(redis_url) as client:
        async with async_worker(redis_url, CRUCIBLE_DOCKER_URL=engine.url):
            await until_ready(client, 200)
            await engine.off()
            report = await until_ready(client, 503)
            assert report["dependencies"]["executor"]["detail"]
            async with client.post(
                "/api/eval?wait=3", json={"code": "print(6*7)", "eval_id": "e"}
            ) as response:
                assert response.status == 202
            async with client.get("/api/eval/e") as response:
                view = await response.json()
            # Left in its list, where a worker with an engine could take it.
            assert (view["status"], view["verdict"]) == ("queued", None)
            await engine.on()
            await until_ready(client, 200)
            async with client.get("/api/eval/e?wait=60") as response:
                view = await response.json()
    assert (view["status"], view["verdict"], view["output"]) == ("completed", "ok", "42\n")
    assert view["retry_count"] == 0


async def test_an_engine_that_goes_in_the_middle_of_a_program_is_a_retry(
    redis_url: str, tmp_path: Path
) -> None:
    """The program did nothing wrong: it is run again and ends with its own verdict."""
    async with engine_switch(tmp_path) as engine, running_api(redis_url) as client:
        async with async_worker(redis_url, CRUCIBLE_DOCKER_URL=engine.url):
            await until_ready(client, 200)
            code = "import time; time.sleep(3); print('slept')"
            async with client.post("/api/eval", json={"code": code, "eval_id": "e"}) as response:
                assert response.status == 202
            await until_status(client, "running")
            await engine.off()
            await until_status(client, "retrying")
            await engine.on()
            async with client.get("/api/eval/e?wait=60") as response:
                view = await response.json()
    assert (view["status"], view["verdict"], view["output"]) == ("completed", "ok", "slept\n")
    assert view["retry_count"] >= 1


async def test_a_worker_that_starts_without_an_engine_waits_for_it(
    redis_url: str, tmp_path: Path
) -> None:
    """The order in which machines come up does not matter."""
    async with engine_switch(tmp_path) as engine, running_api(redis_url) as client:
        await engine.off()
        async with async_worker(redis_url, CRUCIBLE_DOCKER_URL=engine.url) as worker:
            await until_ready(client, 503)
            await engine.on()
            await until_ready(client, 200)
            async with client.post("/api/eval?wait=60", json={"code": "print(1)"}) as response:
                assert (await response.json())["output"] == "1\n", worker.log
