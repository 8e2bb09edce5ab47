"""Bare Docker on the sandbox image, as many containers at once as the job says.

``create``: create, start, read the output, wait, remove. ``restart``: restart a stopped read-only
container that is kept. Output is read in the way that is fastest for the engine: attached, no log.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiodocker

LABEL = "crucible-bench"
#: Plain limits, no network, a read-only root with an empty work directory.
CONFIG: dict[str, Any] = {
    "Cmd": ["/usr/bin/python3", "-c", "print(6 * 7)"],
    "NetworkDisabled": True,
    "Labels": {LABEL: ""},
    "HostConfig": {
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": "size=16m", "/box": "size=16m"},
        "LogConfig": {"Type": "none"},
        "Memory": 256 * 2**20,
        "PidsLimit": 64,
        "NetworkMode": "none",
    },
}
_docker: aiodocker.Docker
_job: dict[str, Any] = {}


def setup(job: dict[str, Any]) -> None:
    """Connect."""
    global _docker
    _docker = aiodocker.Docker()
    _job.update(job)


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run cycles for some seconds; the rate counts complete cycles."""
    started = time.perf_counter()
    until = started + job["seconds"]
    lanes = [_lane(until) for _ in range(_job.get("at_once", 2))]
    counts = await asyncio.gather(*lanes)
    return {"sent": sum(counts), "elapsed_s": time.perf_counter() - started}


async def _lane(until: float) -> int:
    done = 0
    container = None if _job["cycle"] == "create" else await _create()
    while time.perf_counter() < until:
        using = container or await _create()
        await _cycle(using)
        if container is None:
            await using.delete(force=True)
        done += 1
    if container is not None:
        await container.delete(force=True)
    return done


async def _cycle(container: Any) -> None:
    output = b""
    async with container.attach(stdout=True) as stream:
        await container.start()
        while (piece := await stream.read_out()) is not None:
            output += piece.data
    ended = await container.wait()
    if ended["StatusCode"] != 0 or output != b"42\n":
        raise RuntimeError(f"the program exited with {ended} after {output!r}")


async def _create() -> Any:
    config = {**CONFIG, "Image": _job.get("image", "crucible-sandbox:latest")}
    return await _docker.containers.create(config)


async def teardown(job: dict[str, Any]) -> None:
    """Remove containers left by failures, and disconnect."""
    left = await _docker.containers.list(all=True, filters={"label": [LABEL]})
    for container in left:
        await container.delete(force=True)
    await _docker.close()
