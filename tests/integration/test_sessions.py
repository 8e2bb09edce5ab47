"""Sessions through the api and a worker with containers."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from support.api_rig import port_of, running_api
from support.keyed import make_key
from support.worker_rig import async_worker
from typer.testing import CliRunner

from crucible.cli.main import app
from crucible.client import ApiRefused, AsyncCrucible
from crucible.embedded.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(400),
    pytest.mark.asyncio(loop_scope="module"),
]

PATH = "/api/v1/sessions"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A queue server."""
    async with EmbeddedServer(tmp_path_factory.mktemp("server")) as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    """An api and a worker."""
    async with (
        running_api(url, event_bus_url="off") as session,
        async_worker(url, CRUCIBLE_EVENT_BUS_URL="off", CRUCIBLE_SESSIONS="3"),
    ):
        yield session


async def ask(
    client: aiohttp.ClientSession, method: str, path: str, body: Any = None
) -> tuple[int, Any]:
    async with client.request(method, path, json=body) as response:
        return response.status, await response.json()


async def opened(client: aiohttp.ClientSession, **asked: Any) -> str:
    """A session's path."""
    status, session = await ask(client, "POST", PATH, asked)
    assert (status, session["status"]) == (201, "open"), session
    return f"{PATH}/{session['id']}"


async def run(client: aiohttp.ClientSession, path: str, code: str, **more: Any) -> Any:
    status, result = await ask(client, "POST", f"{path}/execute", {"code": code, **more})
    assert status == 200, result
    return result


@pytest.mark.parametrize("isolation", ["container", "nested"])
async def test_cells_share_a_state(client: aiohttp.ClientSession, isolation: str) -> None:
    """What a cell leaves is there for the next; the last expression is displayed."""
    file = {"name": "in/data.txt", "content": "hi"}
    path = await opened(client, isolation=isolation, files=[file])
    first = await run(client, path, "import sys\nx = 6 * 7\nprint(x)\nprint('e', file=sys.stderr)")
    assert (first["status"], first["stdout"], first["stderr"]) == ("ok", "42\n", "e\n")
    assert (first["display"], first["error"]) == ([], None)
    assert (await run(client, path, "x"))["display"] == [{"text/plain": "42"}]
    assert (await run(client, path, "x;"))["display"] == []
    failed = await run(client, path, "def f():\n    return 1 / 0\nf()")
    assert (failed["status"], failed["error"]["name"]) == ("error", "ZeroDivisionError")
    assert failed["error"]["traceback"][1:4] == [
        '  File "<cell 4>", line 3, in <module>',
        "    f()",
        '  File "<cell 4>", line 2, in f',
    ]
    assert (await run(client, path, "def f(:"))["error"]["name"] == "SyntaxError"
    awaited = await run(client, path, "import asyncio\nawait asyncio.sleep(0, 'slept')")
    assert awaited["display"] == [{"text/plain": "'slept'"}]
    assert (await run(client, path, "raise SystemExit(3)"))["error"]["value"] == "3"
    code = "open('out.txt', 'w').write(open('in/data.txt').read())\nprint('a' * 3000000)"
    names = ["out.txt", "missing"]
    result = await run(client, path, code, output_files=names)
    assert (result["files"], result["files_omitted"]) == (
        {"out.txt": "aGk="},
        {"missing": "missing"},
    )
    assert (result["output_truncated"], len(result["stdout"])) == (True, 1 << 20)
    status, shown = await ask(client, "GET", path)
    assert (status, shown["cells"], shown["isolation"]) == (200, 8, isolation)
    status, closed = await ask(client, "DELETE", path)
    assert (status, closed["status"], closed["reason"]) == (200, "ended", "closed")
    status, gone = await ask(client, "POST", f"{path}/execute", {"code": "x"})
    assert (status, gone["code"], gone["reason"]) == (410, "session_lost", "closed")


async def test_a_cell_that_takes_too_long_is_interrupted(client: aiohttp.ClientSession) -> None:
    """The session goes on after SIGINT; a cell that ignores it costs the session."""
    path = await opened(client)
    slow = await run(client, path, "x = 1\nprint('a')\nwhile True: pass", timeout_s=0.5)
    assert (slow["status"], slow["stdout"]) == ("timeout", "a\n")
    assert slow["error"]["name"] == "KeyboardInterrupt"
    assert (await run(client, path, "x"))["display"] == [{"text/plain": "1"}]
    code = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
    asked = {"code": code, "timeout_s": 0.5}
    status, gone = await ask(client, "POST", f"{path}/execute", asked)
    assert (status, gone["code"], gone["reason"]) == (410, "session_lost", "cell_timeout")
    assert (await ask(client, "GET", path))[1]["reason"] == "cell_timeout"


@pytest.mark.parametrize(
    ("code", "asked", "reason"),
    [
        ("x = bytearray(1 << 30)", {"limits": {"memory_mb": 64}}, "memory_limit"),
        ("import os; os.kill(os.getpid(), 11)", {}, "interpreter_died"),
        ("import os; os._exit(0)", {}, "interpreter_died"),
        ("import os, time; os.kill(os.getppid(), 9); time.sleep(9)", {}, "interpreter_died"),
        ("import time; time.sleep(60)", {"total_timeout_s": 6.0}, "expired"),
    ],
)
async def test_a_lost_session_says_why(
    client: aiohttp.ClientSession, code: str, asked: dict[str, Any], reason: str
) -> None:
    """Whatever ends a session, its state is never silently new."""
    path = await opened(client, **asked)
    for _ in range(2):
        body = {"code": code, "timeout_s": 60}
        status, gone = await ask(client, "POST", f"{path}/execute", body)
        assert (status, gone["code"], gone["reason"]) == (410, "session_lost", reason)
    assert all(one["id"] not in path for one in (await ask(client, "GET", PATH))[1]["sessions"])


async def test_a_session_without_cells_ends(client: aiohttp.ClientSession) -> None:
    """Its idle time over, it is gone by itself."""
    path = await opened(client, idle_timeout_s=1.0)
    async with asyncio.timeout(30):
        while (shown := (await ask(client, "GET", path))[1])["status"] == "open":
            await asyncio.sleep(0.1)
    assert shown["reason"] == "idle"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"limits": {"memory_mb": 1}}, "limits.memory_mb"),
        ({"limits": {"wall_time_s": 1}}, "limits.wall_time_s"),
        ({"idle_timeout_s": 0}, "idle_timeout_s"),
        ({"total_timeout_s": 1e9}, "total_timeout_s"),
        ({"environment": "nowhere"}, "environment"),
        ({"files": [{"name": "../x", "content": ""}]}, "files[0].name"),
    ],
)
async def test_what_cannot_be_is_refused(
    client: aiohttp.ClientSession, body: dict[str, Any], field: str
) -> None:
    """A 422 names the field."""
    status, problem = await ask(client, "POST", PATH, body)
    assert (status, problem["field"]) == (422, field), problem


async def test_unknown_sessions_and_cells(client: aiohttp.ClientSession) -> None:
    """404 for an id that is none, 422 for a cell that cannot be."""
    assert (await ask(client, "GET", f"{PATH}/s_nobody"))[0] == 404
    assert (await ask(client, "POST", f"{PATH}/s_nobody/execute", {"code": "1"}))[0] == 404
    assert (await ask(client, "DELETE", f"{PATH}/s_nobody"))[0] == 404
    path = await opened(client)
    for body, field in (
        ({"code": "1", "timeout_s": 0}, "timeout_s"),
        ({"code": "1", "output_files": ["/etc/passwd"]}, "output_files[0]"),
        ({}, "code"),
    ):
        status, problem = await ask(client, "POST", f"{path}/execute", body)
        assert (status, problem["field"]) == (422, field), problem
    await ask(client, "DELETE", path)


async def test_cells_wait_for_their_turn_and_closing_does_not(
    client: aiohttp.ClientSession,
) -> None:
    """Cells of one session run one after the other; the end of a session kills what runs."""
    path = await opened(client)
    await run(client, path, "import time\nx = []")
    codes = [f"x.append({number}); time.sleep(0.05); x" for number in range(3)]
    results = await asyncio.gather(*(run(client, path, code) for code in codes))
    assert sorted(len(one["display"][0]["text/plain"]) for one in results) == [3, 6, 9]
    sleeping = asyncio.create_task(
        ask(client, "POST", f"{path}/execute", {"code": "time.sleep(60)", "timeout_s": 60})
    )
    await asyncio.sleep(0.2)
    assert (await ask(client, "DELETE", path))[1]["reason"] == "closed"
    assert (await sleeping)[1]["reason"] == "closed"


async def test_a_client_that_hangs_up_leaves_no_session(client: aiohttp.ClientSession) -> None:
    """A session that waited for room, and whose client is gone, does not take the room."""
    paths = [await opened(client) for _ in range(3)]

    async def until(number: int) -> None:
        async with asyncio.timeout(60):
            while len((await ask(client, "GET", PATH))[1]["sessions"]) != number:
                await asyncio.sleep(0.02)

    opening = asyncio.create_task(ask(client, "POST", PATH, {}))
    await until(4)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    await ask(client, "DELETE", paths.pop())
    await until(2)
    # The worker has room again: what was given up does not live on in it.
    paths.append(await opened(client))
    for path in paths:
        await ask(client, "DELETE", path)


async def test_a_session_dies_with_its_worker(url: str, client: aiohttp.ClientSession) -> None:
    """Killed, its worker leaves nobody who answers: within seconds that is said."""
    paths = [await opened(client) for _ in range(3)]
    async with async_worker(url, CRUCIBLE_EVENT_BUS_URL="off", CRUCIBLE_SESSIONS="1") as worker:
        path = await opened(client)
        asking = asyncio.create_task(
            ask(
                client,
                "POST",
                f"{path}/execute",
                {"code": "import time; time.sleep(60)", "timeout_s": 60},
            )
        )
        await asyncio.sleep(0.5)
        worker.send_signal(signal.SIGKILL)
        status, gone = await asking
        assert (status, gone["code"], gone["reason"]) == (410, "session_lost", "worker_lost")
        assert (await ask(client, "GET", path))[1]["reason"] == "worker_lost"
    for one in paths:
        assert (await ask(client, "DELETE", one))[0] == 200


async def test_the_client_has_sessions(client: aiohttp.ClientSession) -> None:
    """Opened, asked, listed and closed by the package's own client."""
    async with AsyncCrucible(f"http://127.0.0.1:{port_of(client)}") as crucible:
        session = await crucible.open_session(limits={"memory_mb": 64})
        await crucible.execute(session.id, "x = 6 * 7")
        found = await crucible.execute(session.id, "x", timeout=5)
        assert found.display == [{"text/plain": "42"}]
        assert session.id in [one.id for one in await crucible.sessions()]
        assert (await crucible.close_session(session.id)).reason == "closed"
        with pytest.raises(ApiRefused) as refused:
            await crucible.execute(session.id, "x")
        assert refused.value.status == 410


async def test_the_command_has_sessions(client: aiohttp.ClientSession) -> None:
    """Opened, asked, listed and closed by ``crucible sessions``."""
    at = ["--url", f"http://127.0.0.1:{port_of(client)}"]

    async def sessions(*arguments: str) -> tuple[int, str]:
        done = await asyncio.to_thread(CliRunner().invoke, app, ["sessions", *arguments, *at])
        return done.exit_code, done.stdout

    code, made = await sessions("open", "--idle-timeout-s", "60")
    assert code == 0, made
    session = made.strip()
    assert await sessions("execute", session, "x = 6 * 7\nprint('hi')\nx") == (0, "hi\n42\n")
    assert (await sessions("execute", session, "1 / 0"))[0] == 1
    assert session in (await sessions("list", "--json"))[1]
    assert await sessions("close", session) == (0, f"{session} ended (closed)\n")


async def test_another_tenant_has_none_of_them(client: aiohttp.ClientSession, url: str) -> None:
    """Ids of others are unknown, and each tenant's maximum is its tier's."""
    mine, theirs = await make_key(url, "mine"), await make_key(url, "theirs", tier="bulk")
    async with client.post(PATH, json={}, headers=mine.headers) as response:
        path = f"{PATH}/{(await response.json())['id']}"
    for method, where, body in (
        ("GET", path, None),
        ("DELETE", path, None),
        ("POST", f"{path}/execute", {"code": "1"}),
    ):
        async with client.request(method, where, json=body, headers=theirs.headers) as response:
            assert response.status == 404
    async with client.get(PATH, headers=theirs.headers) as response:
        assert (await response.json())["sessions"] == []
    async with client.get(PATH) as response:
        assert response.status == 401
    async with client.delete(path, headers=mine.headers) as response:
        assert response.status == 200
