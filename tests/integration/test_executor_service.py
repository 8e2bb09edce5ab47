"""The executor behind HTTP, and the client that sends programs to several of them."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from support.listening import executor_service

from crucible.errors import ExecutorRefused, ExecutorUnavailable, SettingsError
from crucible.executor import ExecutorConfig, open_executor
from crucible.executor.sandbox import ProgramLost
from crucible.executor.service import open_service, serve
from crucible.models import Limits, Program, Verdict

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.docker

CONFIG = ExecutorConfig(pool_min=1, pool_max=2)
HELLO = Program(language="python", code="print(6 * 7)")


def refused_port() -> int:
    """A port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


async def test_a_program_runs_through_a_service() -> None:
    """A program sent over TCP comes back with the same outcome, bytes intact."""
    async with open_service(CONFIG) as url:
        async with open_executor(ExecutorConfig(urls=(url,))) as executor:
            await executor.check()
            outcome = await executor.run(
                Program(
                    language="python",
                    code="import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())",
                    stdin=bytes(range(256)),
                )
            )
    assert (outcome.verdict, outcome.stdout) == (Verdict.OK, bytes(range(256)))


async def test_a_service_answers_json() -> None:
    """Any HTTP client can run a program with JSON, and read health, readiness and stats."""
    async with open_service(CONFIG) as url, aiohttp.ClientSession() as session:
        async with session.post(f"{url}/run", json={"language": "sh", "code": "echo hi"}) as answer:
            assert answer.status == 200
            assert (await answer.json())["stdout"] == "aGkK"
        for path, key in (("health", "status"), ("ready", "status"), ("stats", "idle")):
            async with session.get(f"{url}/{path}") as answer:
                assert answer.status == 200
                assert key in await answer.json()


async def test_a_unix_socket_and_a_token(tmp_path: Path) -> None:
    """A service on a unix socket turns away whoever lacks its token."""
    path = str(tmp_path / "executor.sock")
    async with open_service(CONFIG, unix_socket=path, token="s3cret") as url:
        async with open_executor(ExecutorConfig(urls=(url,), token="s3cret")) as executor:
            assert (await executor.run(HELLO)).stdout == b"42\n"
        async with open_executor(ExecutorConfig(urls=(url,), token="wrong")) as executor:
            with pytest.raises(ExecutorRefused, match="token"):
                await executor.run(HELLO)


async def test_no_token_no_listening_beyond_loopback() -> None:
    """Without a token a service binds to loopback only."""
    with pytest.raises(SettingsError, match="CRUCIBLE_EXECUTOR_TOKEN"):
        await serve(CONFIG, "0.0.0.0", 0, None, None, asyncio.Event())


async def test_no_web_page_runs_programs() -> None:
    """Without a token the service checks Host and Origin, and answers problem documents."""
    async with open_service(CONFIG, allowed_hosts=["executor.example"]) as url:
        async with aiohttp.ClientSession() as session:
            for fields, status in (
                ({"Host": "evil.example"}, 421),
                ({"Origin": "http://evil.example"}, 403),
                ({"Host": "executor.example", "Content-Encoding": "gzip"}, 400),
            ):
                async with session.post(f"{url}/run", data=b"{}", headers=fields) as response:
                    assert response.status == status
                    assert response.content_type == "application/problem+json"


async def test_serve_ends_when_told() -> None:
    """``serve`` answers until its event is set, and then returns."""
    stop = asyncio.Event()
    urls: asyncio.Queue[str] = asyncio.Queue()
    async with asyncio.TaskGroup() as group:
        group.create_task(
            serve(CONFIG, "127.0.0.1", 0, None, None, stop, listening=urls.put_nowait)
        )
        url = await urls.get()
        async with open_executor(ExecutorConfig(urls=(url,))) as executor:
            assert (await executor.run(HELLO)).stdout == b"42\n"
        stop.set()


async def test_a_dead_service_is_passed_over() -> None:
    """A program goes to the next service when one refuses the connection."""
    dead = f"http://127.0.0.1:{refused_port()}"
    async with open_service(CONFIG) as url:
        async with open_executor(ExecutorConfig(urls=(dead, url))) as executor:
            for _ in range(3):
                assert (await executor.run(HELLO)).stdout == b"42\n"
            await executor.check()
    async with open_executor(ExecutorConfig(urls=(dead,))) as executor:
        with pytest.raises(ExecutorUnavailable):
            await executor.run(HELLO)
        with pytest.raises(ExecutorUnavailable):
            await executor.check()


async def test_a_busy_service_is_passed_over_and_a_lost_one_is_not() -> None:
    """503 moves a program on; a connection lost after that never starts it a second time."""
    calls: list[str] = []

    async def busy(_: web.Request) -> web.Response:
        calls.append("busy")
        return web.Response(status=503)

    async def vanish(request: web.Request) -> web.Response:
        calls.append("vanish")
        await request.read()
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with asyncio.timeout(30):
        async with (
            executor_service(busy) as first,
            executor_service(vanish) as second,
            open_service(CONFIG) as url,
        ):
            async with open_executor(ExecutorConfig(urls=(first, url))) as executor:
                assert (await executor.run(HELLO)).stdout == b"42\n"
            async with open_executor(ExecutorConfig(urls=(second, url))) as executor:
                with pytest.raises(ProgramLost):
                    await executor.run(HELLO)
    assert calls == ["busy", "vanish"]


async def test_a_client_that_hangs_up_frees_the_sandbox() -> None:
    """Cancelling a run over HTTP kills the program there."""
    config = ExecutorConfig(pool_min=0, pool_max=1)
    async with open_service(config) as url:
        async with open_executor(ExecutorConfig(urls=(url,))) as executor:
            code = "import time; time.sleep(60)"
            slow = asyncio.create_task(
                executor.run(Program(language="python", code=code, limits=Limits(wall_time_s=60)))
            )
            async with aiohttp.ClientSession() as session:
                busy = 0
                while not busy:
                    async with session.get(f"{url}/stats") as answer:
                        busy = (await answer.json())["busy"]
            slow.cancel()
            await asyncio.gather(slow, return_exceptions=True)
            assert (await executor.run(HELLO)).stdout == b"42\n"
