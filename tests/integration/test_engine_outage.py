"""An engine that is killed, restarted or stands still under the executor.

The engine here is one of the test's own (``support.own_engine``).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
from typing import TYPE_CHECKING

import aiodocker
import msgspec
import pytest
from support.own_engine import own_engine

from crucible.errors import ExecutorError, ExecutorUnavailable
from crucible.executor import ExecutorConfig
from crucible.executor.docker import DockerExecutor
from crucible.models import Limits, Outcome, Program, Verdict

if TYPE_CHECKING:
    from crucible.models import Isolation

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start an engine"),
]

HELLO = Program(language="python", code="print(6 * 7)")
SLEEP = Program(
    language="python", code="import time; time.sleep(60)", limits=Limits(wall_time_s=60)
)


def hello(executor: DockerExecutor) -> Program:
    """A program in the isolation of those that name none."""
    return msgspec.structs.replace(HELLO, isolation=executor.config.isolation)


async def recovered(executor: DockerExecutor) -> Outcome:
    """The first program that runs again."""
    async with asyncio.timeout(90):
        while True:
            try:
                return await executor.run(hello(executor))
            except ExecutorUnavailable:
                await asyncio.sleep(0.1)


async def begun(executor: DockerExecutor) -> asyncio.Task[Outcome]:
    """A program that is under way."""
    program = msgspec.structs.replace(SLEEP, isolation=executor.config.isolation)
    task = asyncio.create_task(executor.run(program))
    async with asyncio.timeout(30):
        while not executor.pool.counts.busy + executor.lanes.counts.busy:
            await asyncio.sleep(0.01)
    return task


@pytest.mark.parametrize("isolation", ["container", "nested"])
async def test_an_engine_may_be_killed_restarted_and_stand_still(isolation: Isolation) -> None:
    """Programs under way are the platform's failure, never a verdict; then all goes on."""
    async with own_engine() as engine:
        config = ExecutorConfig(
            docker_url=engine.url,
            isolation=isolation,
            owner=f"{socket.gethostname()}-outage:{secrets.token_hex(4)}:x",
            pool_min=2,
            pool_max=4,
            engine_s=5.0,
        )
        async with DockerExecutor.open(config) as executor:
            assert (await recovered(executor)).stdout == b"42\n"

            running = await begun(executor)
            await engine.kill()
            with pytest.raises(ExecutorUnavailable):
                await running
            with pytest.raises(ExecutorError):
                await executor.run(hello(executor))
            with pytest.raises(ExecutorError):
                await executor.check()
            engine.spoil_a_volume()
            await engine.start()
            assert (await recovered(executor)).stdout == b"42\n"

            running = await begun(executor)
            await engine.stop()
            with pytest.raises(ExecutorUnavailable):
                await running
            await engine.start()
            assert (await recovered(executor)).stdout == b"42\n"

            engine.send(signal.SIGSTOP)
            still = asyncio.create_task(
                executor.run(
                    msgspec.structs.replace(
                        hello(executor), code="while True: pass", limits=Limits(wall_time_s=1.0)
                    )
                )
            )
            try:
                outcome = await still
                assert outcome.verdict in {Verdict.TIMEOUT, Verdict.CPU_LIMIT}
            except ExecutorUnavailable:
                pass
            engine.send(signal.SIGCONT)
            assert (await recovered(executor)).stdout == b"42\n"
            for _ in range(5):
                assert (await executor.run(hello(executor))).stdout == b"42\n"
        async with aiodocker.Docker(url=engine.url) as docker:
            left = await docker.containers.list(
                all=True, filters={"label": [f"crucible={config.owner}"]}
            )
        assert left == []
