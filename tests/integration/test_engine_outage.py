"""An engine that is killed, restarted or stands still under the executor.

The engine here is one of the test's own, with its own data, state and socket; the machine's is
left alone.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiodocker
import msgspec
import pytest

from crucible.errors import ExecutorError, ExecutorUnavailable
from crucible.executor import ExecutorConfig
from crucible.executor.docker import DockerExecutor
from crucible.models import Limits, Outcome, Program, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.models import Isolation

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start an engine"),
]

IMAGE = "crucible-sandbox:latest"
HELLO = Program(language="python", code="print(6 * 7)")
SLEEP = Program(
    language="python", code="import time; time.sleep(60)", limits=Limits(wall_time_s=60)
)


class OwnEngine:
    """A second engine, to be killed and started at will."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"unix://{folder}/docker.sock"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        # The engine's own containerd dies with it and leaves a pid that may be somebody's by now.
        (self.folder / "exec/containerd/containerd.pid").unlink(missing_ok=True)
        log = (self.folder / "log").open("ab")
        self.process = await asyncio.create_subprocess_exec(
            "dockerd",
            f"--host={self.url}",
            f"--data-root={self.folder}/data",
            f"--exec-root={self.folder}/exec",
            f"--pidfile={self.folder}/pid",
            "--bridge=none",
            "--iptables=false",
            stdout=log,
            stderr=log,
        )
        log.close()
        async with asyncio.timeout(60):
            while not await self.answers():
                assert self.process.returncode is None, (self.folder / "log").read_text()[-2000:]
                await asyncio.sleep(0.1)

    async def answers(self) -> bool:
        try:
            async with aiodocker.Docker(url=self.url) as docker:
                await docker.version()
        except (aiodocker.DockerError, OSError):
            return False
        return True

    async def load(self) -> None:
        pipe = f"docker save {IMAGE} | docker --host={self.url} load"
        process = await asyncio.create_subprocess_shell(pipe, stdout=subprocess.DEVNULL)
        assert await process.wait() == 0

    def end_shims(self) -> None:
        """End what a killed engine has lost sight of."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    command = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if str(self.folder).encode() in command:
                    os.kill(int(entry.name), signal.SIGKILL)

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def stop(self) -> None:
        if self.process is None or self.process.returncode is not None:
            await self.start()
        assert self.process is not None
        self.process.terminate()
        async with asyncio.timeout(60):
            await self.process.wait()


@asynccontextmanager
async def own_engine() -> AsyncIterator[OwnEngine]:
    # The path of a socket has at most 108 bytes; pytest's own folders are longer.
    folder = Path(tempfile.mkdtemp(prefix="crucible-engine-"))
    engine = OwnEngine(folder)
    try:
        await engine.start()
        await engine.load()
        yield engine
    finally:
        await engine.stop()
        engine.end_shims()
        # An engine that was killed has left its folders mounted on themselves.
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(f"{folder}/")), reverse=True):
            subprocess.run(["umount", mount], check=True)
        shutil.rmtree(folder)


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
