"""The lower bound of running a program in a warm container, with nothing but Docker's API.

Some stopped read-only containers are started ahead of need, each with an interpreter that waits for
a line of code on its attached input. A program goes into one of them, its output comes back, and
the container is restarted while others wait. No queue, no framing, no verdict, no limits beyond
those of a plain container.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiodocker

from benchmarks.subjects.bare_docker import CONFIG, LABEL
from benchmarks.subjects.open_loop import open_loop

#: Number of containers, and how many are prepared at once.
CONTAINERS, PREPARED_AT_ONCE = 8, 2
#: Seconds from an answer to the next preparation, so that the two do not compete for processors.
PAUSE_S = 0.01
CODE = b"print(6 * 7)\n"
#: Prints that it is ready, then executes the program.
_WAITING = "import sys; print('.', flush=True); exec(sys.stdin.readline())"
_docker: aiodocker.Docker
_ready: asyncio.Queue[tuple[Any, Any]] = asyncio.Queue()
_preparing = asyncio.Semaphore(PREPARED_AT_ONCE)
_tasks: set[asyncio.Task[None]] = set()


async def setup(job: dict[str, Any]) -> None:
    """Connect, make the containers, and run one program."""
    global _docker
    _docker = aiodocker.Docker()
    config = {
        **CONFIG,
        "Cmd": ["/usr/bin/python3", "-c", _WAITING],
        "Image": job.get("image", "crucible-sandbox:latest"),
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
    }
    for _ in range(CONTAINERS):
        _begin(_prepare(await _docker.containers.create(config)))
    await _one()


def _begin(work: Any) -> None:
    task = asyncio.create_task(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def _prepare(container: Any) -> None:
    async with _preparing:
        stream = container.attach(stdin=True, stdout=True)
        await stream._init()  # noqa: SLF001 - attached before the start, as its own "async with" is
        await container.start()
        piece = await stream.read_out()
        if piece is None or piece.data != b".\n":
            raise RuntimeError(f"not ready: {piece}")
    _ready.put_nowait((container, stream))


async def _one() -> None:
    container, stream = await _ready.get()
    await stream.write_in(CODE)
    piece = await stream.read_out()
    if piece is None or piece.data != b"42\n":
        raise RuntimeError(f"wrong answer: {piece}")
    _begin(_again(container, stream))


async def _again(container: Any, stream: Any) -> None:
    await asyncio.sleep(PAUSE_S)
    await stream.close()
    await container.wait()
    await _prepare(container)


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run programs for some seconds: as fast as containers become ready, or at a given rate."""
    if job.get("rate"):
        return await open_loop(_one, job)
    started = time.perf_counter()
    done = 0
    while time.perf_counter() - started < job["seconds"]:
        await _one()
        done += 1
    return {"sent": done, "elapsed_s": time.perf_counter() - started}


async def teardown(job: dict[str, Any]) -> None:
    """Remove the containers and disconnect."""
    for task in _tasks:
        task.cancel()
    await asyncio.gather(*_tasks, return_exceptions=True)
    for container in await _docker.containers.list(all=True, filters={"label": [LABEL]}):
        await container.delete(force=True)
    await _docker.close()
