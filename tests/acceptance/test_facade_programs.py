"""Programs as clients of other systems send them that no client of the api would."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from support.api_rig import running_api
from support.worker_rig import async_worker

from crucible.embedded.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="module"),
]

SERVED = ("default", "judge")
TEXT = base64.b64encode(b"text").decode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[aiohttp.ClientSession]:
    """An api and a worker with containers and a session."""
    async with EmbeddedServer(tmp_path_factory.mktemp("server")) as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        async with (
            running_api(url, event_bus_url="off", environments=SERVED) as session,
            async_worker(
                url,
                CRUCIBLE_EVENT_BUS_URL="off",
                CRUCIBLE_ENVIRONMENTS=",".join(SERVED),
                CRUCIBLE_SESSIONS="1",
            ),
        ):
            yield session


async def ask(client: aiohttp.ClientSession, path: str, body: Any, **headers: str) -> Any:
    async with client.post(path, json=body, headers=headers) as response:
        answer = await response.json()
        assert response.status == 200, answer
        return answer


async def fusion(client: aiohttp.ClientSession, **body: Any) -> Any:
    return await ask(client, "/run_code", {"language": "python", **body})


async def test_no_program_is_no_fault_of_the_sandbox(client: aiohttp.ClientSession) -> None:
    """A model that has written nothing is rewarded for nothing, by a result like any other."""
    for code in ("", "\n  \n"):
        nothing = await fusion(client, code=code, stdin="1")
        assert (nothing["status"], nothing["run_result"]["return_code"]) == ("Success", 0)
        assert nothing["run_result"]["stdout"] == ""
    broken = await fusion(client, language="c", code="")
    assert (broken["status"], broken["run_result"]) == ("Failed", None)
    body = {"generated_code": "", "language": "python", "timeout": 5}
    assert (await ask(client, "/execute", body))["process_status"] == "completed"
    body = {"code": " ", "language": "nodejs"}
    assert (await ask(client, "/v1/sandbox/run", body))["data"]["exit_code"] == 0


async def test_php_needs_no_tag(client: aiohttp.ClientSession) -> None:
    """Models leave it out, and SandboxFusion puts it in."""
    for code in ("echo 6 * 7;", "<?php echo 6 * 7;"):
        answer = await fusion(client, language="php", code=code)
        assert (answer["status"], answer["run_result"]["stdout"]) == ("Success", "42")


async def test_files_come_back_by_the_names_they_were_asked_for_by(
    client: aiohttp.ClientSession,
) -> None:
    """However a client writes a path, it finds the file under it."""
    names = ["./out.txt", "/tmp/work/out.txt", "d/../out.txt", "folder", "folder/", "", "none"]
    code = "import os; os.mkdir('folder'); open('out.txt', 'w').write('text')"
    answer = await fusion(client, code=code, fetch_files=names)
    assert answer["status"] == "Success", answer
    assert answer["files"] == dict.fromkeys(names[:3], TEXT)
    notebook = await ask(client, "/run_jupyter", {"cells": [code], "fetch_files": names[:2]})
    assert notebook["files"] == dict.fromkeys(names[:2], TEXT)


async def test_times_are_those_that_passed(client: aiohttp.ClientSession) -> None:
    """A program that was stopped took the time it had, and not what was asked for."""
    slow = await fusion(client, code="import time; time.sleep(60)", run_timeout=0.5)
    assert slow["run_result"]["status"] == "TimeLimitExceeded"
    assert 0.5 <= slow["run_result"]["execution_time"] < 60
    body = {"generated_code": "while 1: pass", "language": "python", "timeout": 1}
    late = await ask(client, "/execute", body)
    assert late["stderr"].endswith("Execution timed out after 1 seconds\n")


async def test_memory_limits(client: aiohttp.ClientSession) -> None:
    """A program's own limit leaves its compiler room."""
    tiny = await fusion(client, language="cpp", code="int main() {}", memory_limit_MB=16)
    assert (tiny["status"], tiny["compile_result"]["return_code"]) == ("Success", 0)
    # Where nothing is asked for there is no limit but the key's; so it is with none.
    large = "x = bytearray(300 << 20); print(len(x))"
    for memory_mb in (0, -1):
        answer = await fusion(client, code=large, memory_limit_MB=memory_mb)
        assert answer["status"] == "Success", answer


async def test_an_ipython_cell_ends_with_a_line_break(client: aiohttp.ClientSession) -> None:
    """Printed or shown, the output is the same."""
    headers = {"X-Session-ID": "one"}
    for code in ("print(42, end='')", "42", "print('42\\n')", r"print('\x1b[31m42\x1b[0m')"):
        body = {"generated_code": code, "language": "ipython", "timeout": 10}
        assert (await ask(client, "/execute", body, **headers))["stdout"] == "42\n"
    endless: dict[str, Any] = {"generated_code": "1", "language": "ipython", "timeout": None}
    assert (await ask(client, "/execute", endless, **headers))["process_status"] == "completed"
