"""What README.md, client.md, library.md and stock-workers.md have a reader type works."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio
from stock_rig.child import Child
from support.page_blocks import code, commands, run_python
from support.worker_rig import START_S, crucible, plain_environment

from crucible.broker import Publisher
from crucible.embedded.server import EmbeddedServer, free_port
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.docker, pytest.mark.stock, pytest.mark.timeout(300)]

#: Where the commands of the pages are.
BIN = Path(sys.executable).parent
#: Seconds for what a page shows to be so.
SHOWN_S = 60.0


class Service:
    """What the pages take for running.

    Attributes:
        api: URL of the api.
        queue: URL of the queue server.
    """

    def __init__(self, api: str, queue: str) -> None:
        self.api, self.queue = api, queue


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """``crucible up``, on ports of the test's own."""
    directory, port = tmp_path_factory.mktemp("service"), free_port()
    async with EmbeddedServer(directory / "queue") as server:
        own = ["--data-dir", str(directory), "--port", str(port), "--celery-broker-url", server.url]
        async with crucible(["up", *own]) as up:
            await up.wait_for_log("stop +Ctrl-C", START_S)
            yield Service(f"http://127.0.0.1:{port}", server.url)


def child(words: list[str], **environment: str) -> Child:
    """A command of a page."""
    return Child([str(BIN / words[0]), *words[1:]], plain_environment(**environment))


async def output_of(words: list[str], **environment: str) -> str:
    """What a command of a page prints once it has ended."""
    process = await asyncio.create_subprocess_exec(
        *(str(BIN / words[0]), *words[1:]),
        env=plain_environment(**environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), SHOWN_S)
    return output.decode()


@pytest.mark.asyncio(loop_scope="module")
async def test_use_from_your_program(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """docs/client.md: one program, and several in their order."""
    text = code("docs/client.md", "python", "with Crucible", {"http://127.0.0.1:8000": service.api})
    await asyncio.to_thread(exec, text, {})
    assert capsys.readouterr().out == "1\n\n2\n\n"
    text = code("README.md", "python", "client.map", {"http://127.0.0.1:8000": service.api})
    await asyncio.to_thread(exec, text, {})
    assert capsys.readouterr().out == "1\n\n2\n\n"
    stock = code(
        "README.md", "python", "import Celery", {"redis://127.0.0.1:6380/0": service.queue}
    )
    # Shown, as an interpreter would.
    shown = f"print(({stock.partition('app.send_task')[1]}{stock.partition('app.send_task')[2]}))"
    await asyncio.to_thread(exec, stock.partition("app.send_task")[0] + shown, {})
    assert capsys.readouterr().out == "42\n\n"


@pytest.mark.asyncio(loop_scope="module")
async def test_write_your_own_tasks(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/library.md: tasks in a module, a worker that serves them, calls and canvases."""
    here = {"redis://127.0.0.1:6379/0": service.queue}
    (tmp_path / "proj").mkdir()
    jobs = code("docs/library.md", "python", "registry = TaskRegistry()", {})
    (tmp_path / "proj" / "jobs.py").write_text(jobs)
    exports, [serve] = commands(code("docs/library.md", "console", "--tasks", here))
    async with child(serve, PYTHONPATH=str(tmp_path), **exports) as worker:
        await worker.wait_for_log("is ready", START_S)
        await run_python(code("docs/library.md", "python", "Publisher.connect", here), {})
        async with Publisher.connect(service.queue) as publisher:
            canvas = code("docs/library.md", "python", "send_chain", {})
            await run_python(canvas, {"publisher": publisher})
        assert await worker.stop(SHOWN_S) == 0
    monkeypatch.syspath_prepend(tmp_path)
    inside = code("docs/library.md", "python", "async with Worker(", {"redis://…": service.queue})
    names: dict[str, Any] = {"stop_event": asyncio.Event()}
    await run_python(jobs, names)
    running = asyncio.create_task(run_python(inside, names))
    async with Publisher.connect(service.queue) as publisher:
        assert await (await publisher.send_task("proj.tasks.add", [1, 2])).get(SHOWN_S) == 3
    names["stop_event"].set()
    await asyncio.wait_for(running, SHOWN_S)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_tasks_of_the_readme(service: Service) -> None:
    """README.md: the task that one block defines and the other sends."""
    names: dict[str, Any] = {}
    await run_python(code("README.md", "python", "registry = TaskRegistry()", {}), names)
    here = {"redis://127.0.0.1:6380/0": service.queue}
    async with Worker(names["registry"], broker_url=service.queue, queues=["celery"]):
        await run_python(code("README.md", "python", "Publisher.connect", here), {})


@pytest.mark.asyncio(loop_scope="module")
async def test_attach_stock_workers_and_flower(service: Service) -> None:
    """docs/stock-workers.md: a stock worker joins, Flower shows it beside the async one."""
    here = {"redis://127.0.0.1:6380/0": service.queue}
    exports, [_install, attach] = commands(
        code("docs/stock-workers.md", "console", "stock1@demo -c", here)
    )
    port = free_port()
    flower = code("docs/stock-workers.md", "console", "flower --address", {"5555": str(port)})
    _, [_install, show, _async_worker] = commands(flower)
    async with child(attach, **exports) as stock, child(show, **exports) as shown:
        await stock.wait_for_log(r"\[queues\]", START_S)
        await shown.wait_for_log(r"Visit me at|Connected to redis", START_S)
        await asyncio.wait_for(_both_shown(f"http://127.0.0.1:{port}"), SHOWN_S)
        status = await output_of(["celery", "-A", "crucible.celery_app", "status"], **exports)
        assert "stock1@demo: OK" in status
        assert "2 nodes online." in status
        control = code("docs/stock-workers.md", "python", "ControlClient.connect", here)
        await run_python(control, {})


async def _both_shown(flower: str) -> None:
    async with aiohttp.ClientSession(flower) as client:
        while True:
            async with client.get("/workers?json=1") as response:
                rows = (await response.json(content_type=None))["data"]
            names = [row["hostname"] for row in rows if row["status"]]
            if "stock1@demo" in names and any(name.startswith("crucible") for name in names):
                return
            await asyncio.sleep(0.2)
