"""Facades whose clients expect a state between requests: NeMo-Skills' and SandboxFusion's."""

from __future__ import annotations

import asyncio
import base64
import uuid
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
    pytest.mark.timeout(400),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[aiohttp.ClientSession]:
    """An api and a worker with room for three sessions."""
    async with EmbeddedServer(tmp_path_factory.mktemp("server")) as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        async with (
            running_api(url, event_bus_url="off") as session,
            async_worker(url, CRUCIBLE_EVENT_BUS_URL="off", CRUCIBLE_SESSIONS="3"),
        ):
            yield session


async def cell(
    client: aiohttp.ClientSession, session_id: str, code: str, timeout: float = 10.0
) -> Any:
    """The request of NeMo-Skills' ``LocalSandbox``, field by field."""
    body = {
        "generated_code": code,
        "std_input": "",
        "timeout": timeout,
        "language": "ipython",
        "max_output_characters": 1000,
        "traceback_verbosity": "Plain",
    }
    headers = {"X-Session-ID": session_id}
    async with client.post("/execute", json=body, headers=headers) as response:
        answer = await response.json()
        assert response.status == 200, answer
        return answer


async def test_nemo_skills_sessions(client: aiohttp.ClientSession) -> None:
    """A session is made by its first cell, which says so, and again once its state is gone."""
    name = str(uuid.uuid4())
    first = await cell(client, name, "x = 6 * 7\nprint('hi')")
    assert first == {
        "process_status": "completed",
        "stdout": "hi\n",
        "stderr": "",
        "new_session_created": True,
    }
    second = await cell(client, name, "x")
    assert (second["stdout"], second["new_session_created"]) == ("42\n", False)
    failed = await cell(client, name, "1 / 0")
    assert failed["process_status"] == "error"
    assert failed["stdout"].startswith("Traceback (most recent call last):\n")
    assert failed["stdout"].endswith("ZeroDivisionError: division by zero\n")
    slow = await cell(client, name, "print('a')\nwhile True: pass", 0.5)
    assert (slow["process_status"], slow["stdout"]) == ("timeout", "a\n")
    assert slow["stderr"].endswith("Execution timed out after 0.5 seconds\n")
    assert slow["new_session_created"] is False
    assert (await cell(client, name, "x"))["stdout"] == "42\n"
    cut = await cell(client, name, "print('x' * 5000)")
    assert cut["stdout"] == "x" * 1000 + "<output cut>"
    stuck = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
    killed = await cell(client, name, stuck, 0.5)
    assert (killed["process_status"], killed["new_session_created"]) == ("timeout", True)
    again = await cell(client, name, "x")
    assert (again["process_status"], again["new_session_created"]) == ("error", True)
    crashed = await cell(client, name, "import os; os._exit(1)")
    assert (crashed["process_status"], crashed["new_session_created"]) == ("error", True)


async def test_nemo_skills_lists_and_deletes(client: aiohttp.ClientSession) -> None:
    """Sessions by the names that clients gave them; a second deletion is a 404."""
    name = "one/two ü"
    await asyncio.gather(*(cell(client, name, "x = 1") for _ in range(3)))
    async with client.get("/sessions") as response:
        listed = await response.json()
    assert listed["backend"] == "ipython"
    assert set(listed["sessions"][name]) == {"backend", "created", "last_used", "alive"}
    for status in (200, 404):
        async with client.delete("/sessions/one%2Ftwo%20%C3%BC") as response:
            assert response.status == status
    body = {"generated_code": "1", "timeout": 5, "language": "ipython"}
    async with client.post("/execute", json=body) as response:
        refused = await response.json()
    assert (response.status, "X-Session-ID" in refused["error"]) == (400, True)
    async with client.get("/health") as response:
        assert response.status == 200


async def jupyter(client: aiohttp.ClientSession, *cells: str, **more: Any) -> Any:
    async with client.post("/run_jupyter", json={"cells": cells, **more}) as response:
        answer = await response.json()
        assert response.status == 200, answer
        return answer


async def test_sandbox_fusion_notebooks(client: aiohttp.ClientSession) -> None:
    """Cells share a state; what one displays and raises is with it; files come and go."""
    content = base64.b64encode(b"in").decode()
    answer = await jupyter(
        client,
        "a = 123",
        "a",
        "print(a)",
        'import sys; sys.stderr.write("stderr message");',
        'raise RuntimeError("error message")',
        "open('out.txt', 'w').write(open('d/in.txt').read());",
        files={"d/in.txt": content, "IGNORE_THIS_FILE": "!", "nothing": None},
        fetch_files=["out.txt", "/tmp/work/d/in.txt", "missing"],
    )
    assert (answer["status"], answer["message"], answer["executor_pod_name"]) == (
        "Success",
        "",
        None,
    )
    assert (answer["driver"]["status"], answer["driver"]["return_code"]) == ("Finished", 0)
    cells = answer["cells"]
    assert cells[0] == {"stdout": "", "stderr": "", "display": [], "error": []}
    assert cells[1]["display"] == [{"text/plain": "123"}]
    assert (cells[2]["stdout"], cells[3]["stderr"]) == ("123\n", "stderr message")
    [error] = cells[4]["error"]
    assert (error["ename"], error["evalue"]) == ("RuntimeError", "error message")
    assert answer["files"] == {"out.txt": content, "/tmp/work/d/in.txt": content}


async def test_sandbox_fusion_notebooks_that_fail(client: aiohttp.ClientSession) -> None:
    """Time and memory are the user's fault, and never an error of the sandbox."""
    slow = await jupyter(client, "print(1)", "while True: pass", total_timeout=1.0)
    assert (slow["status"], slow["driver"]["status"]) == ("Failed", "TimeLimitExceeded")
    assert (slow["driver"]["return_code"], slow["cells"]) == (None, [])
    one = await jupyter(client, "while True: pass", cell_timeout=0.5)
    assert one["driver"]["status"] == "TimeLimitExceeded"
    hog = await jupyter(client, "x = bytearray(1 << 30)", memory_limit_MB=64)
    assert (hog["status"], hog["driver"]["status"]) == ("Failed", "Error")
    for body in (
        {},
        {"cells": 1},
        {"cells": [], "files": {"/etc/x": ""}},
        {"cells": [], "kernel": 1},
    ):
        async with client.post("/run_jupyter", json=body) as response:
            assert response.status == 422
            assert set((await response.json())["detail"][0]) == {"loc", "msg", "type"}
    async with client.get("/api/v1/sessions") as response:
        names = [one["worker"] for one in (await response.json())["sessions"]]
    assert len(names) <= 2  # those that clients have named: a notebook leaves none


async def test_no_room_is_no_fault_of_the_cell(client: aiohttp.ClientSession) -> None:
    """While every place is taken by sessions in use, each client gets what it takes for that."""
    async with client.get("/sessions") as response:
        for name in (await response.json())["sessions"]:
            await client.delete(f"/sessions/{name}")
    taken = []
    for _ in range(3):
        async with client.post("/api/v1/sessions", json={}) as response:
            opened = await response.json()
            assert response.status == 201, opened
            taken.append(opened["id"])
    body = {"generated_code": "1", "timeout": 0.5, "language": "ipython"}
    async with client.post("/execute", json=body, headers={"X-Session-ID": "new"}) as response:
        assert response.status == 502
    for one in taken:
        await client.delete(f"/api/v1/sessions/{one}")
    assert (await cell(client, "new", "1"))["stdout"] == "1\n"
