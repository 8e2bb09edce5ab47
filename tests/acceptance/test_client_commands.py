from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from stock_rig.child import Child
from support.api_rig import port_of, running_api
from support.client_tasks import registry
from support.listening import listening
from support.worker_rig import START_S, crucible

from crucible.worker.worker import Worker

FOUND = {
    "eval_id": "one",
    "task_id": "eval-one",
    "status": "completed",
    "verdict": "ok",
    "output": "42\n",
}


class Api:
    """What a client asked an API that answers everything with one evaluation.

    Attributes:
        asked: method and path of each request, as they came over the wire.
        bodies: the bodies of the submissions.
    """

    def __init__(self, found: dict[str, Any]) -> None:
        self.asked: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.url = ""
        self._found = found

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.method} {request.raw_path}")
        if request.method == "POST":
            self.bodies.append(await request.json())
        return web.json_response(self._found)


@asynccontextmanager
async def api(host: str = "127.0.0.1", **found: Any) -> AsyncIterator[Api]:
    """An API that only listens; real ones are asked in test_migration_commands.py."""
    fake = Api({**FOUND, **found})
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", fake.answer)
    async with listening(application, host) as fake.url:
        yield fake


async def run(*arguments: str, code: int = 0, **environment: str) -> str:
    """What a command printed; it must end with ``code`` and without a traceback."""
    async with crucible(arguments, COLUMNS="200", **environment) as command:
        assert await command.wait(START_S) == code, command.log
        assert "Traceback" not in command.log
        return command.log


async def test_what_is_given_is_sent_also_when_it_is_zero_or_empty(tmp_path: Path) -> None:
    """Priority 0 is not the default, an empty id is the API's to refuse, and so is no code."""
    program = tmp_path / "empty.py"
    program.touch()
    async with api() as server:
        await run("submit", str(program), "--no-wait", "--url", server.url)
        given = ("--priority", "0", "--eval-id", "", "--language", "")
        await run("submit", str(program), "--no-wait", "--url", server.url, *given)
    assert server.bodies == [
        {"code": "", "language": "python"},
        {"code": "", "language": "", "priority": 0, "eval_id": ""},
    ]


async def test_a_program_is_sent_byte_for_byte(tmp_path: Path) -> None:
    """Line ends of elsewhere stay, and what is not UTF-8 is refused here."""
    program = tmp_path / "dos.py"
    program.write_bytes(b"print(1)\r\nprint(2)\r")
    async with api() as server:
        await run("submit", str(program), "--no-wait", "--url", server.url)
        program.write_bytes(b"print('\xff')")
        refused = await run("submit", str(program), "--url", server.url, code=1)
    assert [body["code"] for body in server.bodies] == ["print(1)\r\nprint(2)\r"]
    assert refused == f"crucible: cannot read {program}: byte 7 is not UTF-8"


@pytest.mark.parametrize("command", ["status", "result", "cancel"])
async def test_an_id_stays_one_part_of_the_path(command: str) -> None:
    """Nothing in an id leads to another resource, and folders are no ids."""
    async with api() as server:
        for eval_id in ("../../health", "a#b?c=d", "%2e", "ä b"):
            await run(command, eval_id, "--url", server.url, code=command == "cancel")
        for eval_id in ("", ".", "..", "a\nb"):
            assert "not a valid" in await run(command, eval_id, "--url", server.url, code=2)
    paths = [asked.split()[1].removesuffix("?wait=0") for asked in server.asked]
    assert paths == [
        "/api/eval/..%2F..%2Fhealth",
        "/api/eval/a%23b%3Fc%3Dd",
        "/api/eval/%252e",
        "/api/eval/%C3%A4%20b",
    ]


async def test_an_evaluation_that_has_not_ended_is_told_as_that() -> None:
    """There is no verdict yet, so none is printed."""
    async with api(status="running", verdict=None, output="") as server:
        printed = await run("result", "one", "--url", server.url, code=1)
    assert printed == "crucible: running, not finished yet"


OTHERS: dict[str, Any] = {
    "nothing": {"eval_id": None, "status": None},
    "other types": {"eval_id": 5, "status": 5, "items": 5, "webhooks": 5, "id": 5},
    "an unknown status": {"eval_id": "one", "status": "done", "webhooks": [5]},
}


@pytest.mark.parametrize("found", OTHERS.values(), ids=OTHERS)
async def test_another_service_is_told_from_the_api(tmp_path: Path, found: dict[str, Any]) -> None:
    """A port may be another's, which answers in JSON as well: one line says so."""
    program = tmp_path / "a.py"
    program.write_text("print(1)")
    commands = (
        ("submit", str(program)),
        ("status", "x"),
        ("result", "x", "--json"),
        ("cancel", "x"),
        ("list",),
        ("webhooks", "list"),
        ("webhooks", "create", "https://example.org/"),
        ("tail",),
    )
    async with api(**found) as server:
        for command in commands:
            printed = await run(*command, "--url", server.url, code=1)
            assert printed.startswith(("crucible: the answer is not one", "crucible: what answers"))
            assert "\n" not in printed


async def test_output_that_is_none_is_told() -> None:
    """What is printed is looked at in full."""
    async with api(output=5) as server:
        printed = await run("result", "x", "--url", server.url, code=1)
    assert printed.endswith("not one of Crucible's: output: must be a string, not a whole number")


async def test_an_api_on_ipv6_loopback_is_found() -> None:
    """Its address is put into brackets."""
    async with api("::1") as server:
        port = server.url.rpartition(":")[2]
        printed = await run("status", "one", CRUCIBLE_HOST="::1", CRUCIBLE_PORT=port)
    assert printed == "completed (ok)"


async def test_an_address_that_is_none_is_one_clear_line() -> None:
    """Neither a traceback nor a request."""
    assert "http://[::1" in await run("status", "x", "--url", "http://[::1", code=1)


@pytest.mark.parametrize("arguments", [["settings", "--json"], ["settings"], ["result", "one"]])
async def test_output_that_cannot_be_written_is_one_clear_line(arguments: list[str]) -> None:
    """A full disk ends a command with exit code 1; Python's own complaint at the exit included."""
    async with api() as server:
        if arguments[0] == "result":
            arguments = [*arguments, "--url", server.url]
        with Path("/dev/full").open("wb") as full:
            done = await _run_into(arguments, stdout=full)
    assert (done.returncode, done.stderr) == (1, b"crucible: the output: No space left on device\n")


@pytest.mark.parametrize(
    "arguments", [["settings", "--json"], ["settings"], ["result", "one"], ["--version"]]
)
async def test_closed_standard_output_is_one_clear_line(arguments: list[str]) -> None:
    """Data that nobody can take is not exit code 0."""
    async with api() as server:
        if arguments[0] == "result":
            arguments = [*arguments, "--url", server.url]
        done = await _run_into(arguments, closed=True)
    assert done.returncode == 1
    assert done.stderr == b"crucible: the output cannot be written: its descriptor is closed\n"


async def test_a_service_without_standard_output_serves_and_ends() -> None:
    """It has nothing to print there, and none of its sockets gets the free number."""
    command = [sys.executable, "-m", "crucible", "legacy", "queue", "--port", "0"]
    shell = Child(["sh", "-c", 'exec "$@" >&-', "sh", *command], dict(os.environ))
    async with shell as service:
        await service.wait_for_log("legacy queue listening", START_S)
        assert await service.stop() == 0


async def _run_into(
    arguments: list[str], *, stdout: Any = None, closed: bool = False
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "crucible", *arguments]
    if closed:
        command = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    return await asyncio.to_thread(
        subprocess.run,
        command,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=START_S,
        check=False,
    )


@pytest.mark.parametrize(
    "command", [pytest.param(["executor"], marks=pytest.mark.docker), ["legacy", "queue"]]
)
async def test_a_taken_port_of_a_command_s_own_blames_no_setting(command: list[str]) -> None:
    """CRUCIBLE_PORT is the api's; these have ``--port``."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        printed = await run(*command, "--port", str(port), code=1)
    assert printed.endswith(
        f"crucible: port {port} on 127.0.0.1 is taken (choose another with --port)"
    )


async def test_a_folder_is_run(tmp_path: Path, redis_url: str) -> None:
    """Each program of it once, with a table of them; what is no program is left out."""
    (tmp_path / "below").mkdir()
    (tmp_path / "a.py").write_text("one")
    (tmp_path / "below" / "b.sh").write_text("fail")
    (tmp_path / "notes.txt").write_text("no program")
    queues = ("high_priority", "evaluation", "batch")
    async with Worker(registry, broker_url=redis_url, queues=queues), running_api(redis_url) as api:
        url = f"http://127.0.0.1:{port_of(api)}"
        table = await run("submit", str(tmp_path), "--url", url, code=1)
        assert [line.split()[:3] for line in table.splitlines()[1:]] == [
            ["a.py", "ok", "0"],
            ["below/b.sh", "nonzero_exit", "1"],
            ["1", "of", "2"],
        ]
        found = json.loads(await run("submit", str(tmp_path), "--url", url, "--json", code=1))
        assert [one["evaluation"]["output"] for one in found] == ["one", "fail"]
        (tmp_path / "below" / "b.sh").unlink()
        assert "1 of 1 ok" in await run("submit", str(tmp_path), "--url", url)
        refused = await run("submit", str(tmp_path), "--url", url, "--limit", "pids=0", code=1)
        assert "limits.pids" in refused
        assert "there is no program" in await run(
            "submit", str(tmp_path), "--language", "go", "--url", url, code=2
        )
