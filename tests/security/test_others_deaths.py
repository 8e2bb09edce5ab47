"""What happens to other containers of the host says nothing about a program."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiodocker
import msgspec
import pytest
from siege import ISOLATIONS, SiegeExecutor, py, sh
from support.sandboxes import sleeping

from crucible.executor import ExecutorConfig
from crucible.executor.docker import DockerExecutor
from crucible.executor.sandbox import ProgramLost
from crucible.models import Isolation, Limits, Outcome, Program, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.docker
each_isolation = pytest.mark.parametrize("isolation", ISOLATIONS)

#: Filled memory that nobody but process 1 can be killed for: files have no process.
LOST = (
    "open('/proc/self/oom_score_adj', 'w').write('0')\n"
    "for n in range(99):\n"
    "  with open(f'/tmp/{n}', 'wb') as f: f.write(b'x' * (1 << 20))\n"
)


def sleeper() -> Program:
    """A program that waits for as long as no other does, so that it can be found."""
    program = sh('sleep "$1"; exit', Limits(wall_time_s=60))
    return msgspec.structs.replace(program, args=(f"60.{secrets.randbelow(10**6):06}",))


@asynccontextmanager
async def one_sandbox(isolation: Isolation) -> AsyncIterator[SiegeExecutor]:
    """An executor with a single container or lane, which is used again and again."""
    owner = f"{socket.gethostname()}-deaths:{os.getpid()}:{os.urandom(4).hex()}"
    pool_min = 1 if isolation == "container" else 0
    config = ExecutorConfig(
        owner=owner, isolation=isolation, pool_min=pool_min, pool_max=1, lanes_max=1
    )
    async with SiegeExecutor.open(config) as executor:
        assert isinstance(executor, SiegeExecutor)
        executor.isolation = isolation
        yield executor


def containers(executor: DockerExecutor) -> set[str]:
    """All that it has, of either isolation."""
    return executor.pool.container_ids | executor.lanes.container_ids


async def begun(program: Program) -> str:
    """Id of the container that a program sleeps in."""
    async with asyncio.timeout(60):
        while not (found := sleeping(program.args[0])):
            await asyncio.sleep(0.01)
    (container_id,) = set(found.values())
    return container_id


async def kill(container_id: str) -> None:
    async with aiodocker.Docker() as docker:
        await docker.containers.container(container_id).kill()


def oom_kills() -> int:
    for line in Path("/proc/vmstat").read_text().splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


@each_isolation
async def test_a_killed_container_is_no_want_of_memory(isolation: Isolation) -> None:
    """An operator kills a container while the kernel kills for memory in another: no verdict."""
    async with one_sandbox(isolation) as honest, one_sandbox(isolation) as other:
        program = sleeper()
        running = asyncio.create_task(honest.run(program))
        container_id = await begun(program)
        before = oom_kills()
        outcome = await other.run(py("'x' * 10**10", Limits(wall_time_s=40, memory_mb=64)))
        assert outcome.verdict is Verdict.MEMORY_LIMIT
        assert oom_kills() > before
        await kill(container_id)
        with pytest.raises(ProgramLost):
            await running


@each_isolation
async def test_a_want_of_memory_before_is_none_now(isolation: Isolation) -> None:
    """A container used again after a program ran out of memory: killed, that is not its reason."""
    async with one_sandbox(isolation) as executor:
        outcome = await executor.run(py("'x' * 10**10", Limits(wall_time_s=40, memory_mb=64)))
        assert outcome.verdict is Verdict.MEMORY_LIMIT
        (first,) = containers(executor)
        program = sleeper()
        running = asyncio.create_task(executor.run(program))
        container_id = await begun(program)
        assert container_id == first
        await kill(container_id)
        with pytest.raises(ProgramLost):
            await running


@each_isolation
async def test_a_lost_process_1_is_its_own_want_of_memory(isolation: Isolation) -> None:
    """When the kernel can only kill process 1, that sandbox's own control group says so."""

    async def lost(executor: DockerExecutor) -> Outcome:
        return await executor.run(py(LOST, Limits(wall_time_s=40, memory_mb=32, disk_mb=64)))

    async with one_sandbox(isolation) as executor:
        for _ in range(3):
            outcome = await lost(executor)
            assert outcome.verdict is Verdict.MEMORY_LIMIT, outcome
