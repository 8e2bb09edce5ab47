"""Ctrl-C during ``crucible submit``, as the signal that a terminal sends."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from stock_rig.child import Child
from support.api_rig import port_of, running_api
from support.listening import listening
from support.worker_rig import START_S, crucible

from crucible.settings import http_url


@pytest.fixture
def program(tmp_path: Path) -> str:
    """A file to submit; no worker is there to run it."""
    file = tmp_path / "slow.py"
    file.write_text("import time; time.sleep(60)")
    return str(file)


async def status_of(client: aiohttp.ClientSession, eval_id: str) -> str:
    """The status of an evaluation; empty where it is not known."""
    async with client.get(f"/api/eval/{eval_id}") as response:
        return str((await response.json())["status"]) if response.status == 200 else ""


@asynccontextmanager
async def submitted(
    client: aiohttp.ClientSession, program: str, *more: str
) -> AsyncIterator[Child]:
    """``crucible submit`` with the id ``mine``, once the API has the program."""
    url = http_url("127.0.0.1", port_of(client))
    async with crucible(["submit", program, "--eval-id", "mine", "--url", url, *more]) as command:
        async with asyncio.timeout(START_S):
            while not await status_of(client, "mine"):
                await asyncio.sleep(0.02)
        yield command


async def test_ctrl_c_prints_the_id_and_what_can_be_done(redis_url: str, program: str) -> None:
    """The evaluation goes on, and the commands printed for it work as they stand."""
    async with running_api(redis_url) as client:
        async with submitted(client, program) as command:
            command.send_signal(signal.SIGINT)
            assert await command.wait(START_S) == 130
            assert "Traceback" not in command.log
        assert await status_of(client, "mine") == "queued"
        line = next(line for line in command.lines if "to cancel it" in line)
        arguments = line.split("crucible cancel ")[1].split("   ")[0].split()
        async with crucible(["cancel", *arguments]) as cancel:
            assert await cancel.wait(START_S) == 0, cancel.log
        assert await status_of(client, "mine") == "cancelled"
    output = next(line for line in command.lines if "its output" in line)
    assert "crucible result mine --url http://127.0.0.1:" in output


async def test_a_second_ctrl_c_cancels(redis_url: str, program: str) -> None:
    """Nothing of it runs afterwards."""
    async with running_api(redis_url) as client:
        async with submitted(client, program) as command:
            command.send_signal(signal.SIGINT)
            await command.wait_for_log("or Ctrl-C within")
            command.send_signal(signal.SIGINT)
            assert await command.wait(START_S) == 130
        assert command.lines[-1] == "crucible: mine is cancelled"
        assert await status_of(client, "mine") == "cancelled"


@pytest.mark.parametrize("waiting", ["--wait", "--no-wait"])
async def test_the_first_ctrl_c_cancels_if_that_was_asked_for(program: str, waiting: str) -> None:
    """Also while the request is under way: there the API's answer is waited for first."""
    async with held_api() as (url, answer):
        more = ("--cancel-on-interrupt", waiting, "--url", url)
        async with crucible(["submit", program, *more]) as command:
            await answer.asked.wait()
            command.send_signal(signal.SIGINT)
            await command.wait_for_log("waiting for the API")
            answer.allowed.set()
            assert await command.wait(START_S) == 130
    assert command.lines[-1] == "crucible: given-id is cancelled"
    assert answer.cancelled == ["given-id"]


async def test_a_second_ctrl_c_does_not_wait_for_an_api_that_hangs(program: str) -> None:
    """What is not known is said."""
    async with held_api() as (url, answer):
        async with crucible(["submit", program, "--url", url]) as command:
            await answer.asked.wait()
            command.send_signal(signal.SIGINT)
            await command.wait_for_log("waiting for the API")
            command.send_signal(signal.SIGINT)
            assert await command.wait(START_S) == 130
        answer.allowed.set()
    assert "it is not known whether the program is queued" in command.lines[-1]
    assert "Traceback" not in command.log


class HeldApi:
    """An API that answers a submission only when the test says so.

    Attributes:
        asked: set once a program arrived.
        allowed: set to have it answered.
        cancelled: ids that were cancelled.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.allowed = asyncio.Event()
        self.cancelled: list[str] = []

    async def submit(self, _request: web.Request) -> web.Response:
        self.asked.set()
        await self.allowed.wait()
        return web.json_response({"eval_id": "given-id", "status": "queued"}, status=202)

    async def cancel(self, request: web.Request) -> web.Response:
        self.cancelled.append(request.match_info["eval_id"])
        return web.json_response({"eval_id": "given-id", "status": "cancelled"})


@asynccontextmanager
async def held_api() -> AsyncIterator[tuple[str, HeldApi]]:
    """Its URL and itself."""
    held = HeldApi()
    application = web.Application()
    application.router.add_post("/api/eval", held.submit)
    application.router.add_delete("/api/eval/{eval_id}", held.cancel)
    async with listening(application) as url:
        try:
            yield url, held
        finally:
            held.allowed.set()
