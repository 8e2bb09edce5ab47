"""What happens to other containers of the host says nothing about a program."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiodocker
import pytest
from siege import py

from crucible.executor import ExecutorConfig
from crucible.executor.docker import DockerExecutor
from crucible.executor.sandbox import ProgramLost
from crucible.models import Limits, Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.docker

#: Filled memory that nobody but process 1 can be killed for: files have no process.
LOST = (
    "open('/proc/self/oom_score_adj', 'w').write('0')\n"
    "for n in range(99):\n"
    "  with open(f'/tmp/{n}', 'wb') as f: f.write(b'x' * (1 << 20))\n"
)
SLEEP = py("print('begun', flush=True)\nimport time; time.sleep(60)", Limits(wall_time_s=60))


@asynccontextmanager
async def one_sandbox() -> AsyncIterator[DockerExecutor]:
    """An executor with a single container, which is used again and again."""
    owner = f"{socket.gethostname()}-deaths:{os.getpid()}:{os.urandom(4).hex()}"
    async with DockerExecutor.open(ExecutorConfig(owner=owner, pool_min=1, pool_max=1)) as executor:
        yield executor


async def begun(executor: DockerExecutor) -> str:
    """Id of the container whose program runs: it has more than process 1."""
    async with aiodocker.Docker() as docker, asyncio.timeout(60):
        while True:
            for container_id in filter(None, executor.pool.container_ids):
                state = (await docker.containers.container(container_id).show())["State"]
                if state["Running"] and children_of(state["Pid"]):
                    return container_id
            await asyncio.sleep(0.01)


def children_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return ""


async def kill(container_id: str) -> None:
    async with aiodocker.Docker() as docker:
        await docker.containers.container(container_id).kill()


def oom_kills() -> int:
    for line in Path("/proc/vmstat").read_text().splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


async def test_a_killed_container_is_no_want_of_memory() -> None:
    """An operator kills a container while the kernel kills for memory in another: no verdict."""
    async with one_sandbox() as honest, one_sandbox() as other:
        running = asyncio.create_task(honest.run(SLEEP))
        container_id = await begun(honest)
        before = oom_kills()
        outcome = await other.run(py("'x' * 10**10", Limits(wall_time_s=40, memory_mb=64)))
        assert outcome.verdict is Verdict.MEMORY_LIMIT
        assert oom_kills() > before
        await kill(container_id)
        with pytest.raises(ProgramLost):
            await running


async def test_a_want_of_memory_before_is_none_now() -> None:
    """A container used again after a program ran out of memory: killed, that is not its reason."""
    async with one_sandbox() as executor:
        outcome = await executor.run(py("'x' * 10**10", Limits(wall_time_s=40, memory_mb=64)))
        assert outcome.verdict is Verdict.MEMORY_LIMIT
        (first,) = executor.pool.container_ids
        running = asyncio.create_task(executor.run(SLEEP))
        container_id = await begun(executor)
        assert container_id == first
        await kill(container_id)
        with pytest.raises(ProgramLost):
            await running


async def test_a_lost_process_1_is_its_own_want_of_memory() -> None:
    """When the kernel can only kill process 1, that sandbox's own control group says so."""

    async def lost(executor: DockerExecutor) -> Outcome:
        return await executor.run(py(LOST, Limits(wall_time_s=40, memory_mb=32, disk_mb=64)))

    async with one_sandbox() as executor:
        for _ in range(3):
            outcome = await lost(executor)
            assert outcome.verdict is Verdict.MEMORY_LIMIT, outcome
