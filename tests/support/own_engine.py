"""An engine of a test's own, to be killed and restarted at will; the machine's is left alone."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiodocker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

IMAGE = "crucible-sandbox:latest"
#: An engine that was killed between creating and filling the file of a volume's options does not
#: start again with that (docs/deployment.md, "When the engine does not start").
_SPOILT = re.compile(r"unmarshaling volume options for volume: ([0-9a-f]+): unexpected end of JSON")


class OwnEngine:
    """A second engine, to be killed and started at will."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"unix://{folder}/docker.sock"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        while (spoilt := await self._started()) is not None:
            shutil.rmtree(self.folder / "data/volumes" / spoilt)

    async def _started(self) -> str | None:
        """Start it; the name of the volume that kept it from starting, or None."""
        # The engine's own containerd dies with it and leaves a pid that may be somebody's by now.
        (self.folder / "exec/containerd/containerd.pid").unlink(missing_ok=True)
        log = (self.folder / "log").open("wb")
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
                if self.process.returncode is not None:
                    said = (self.folder / "log").read_text()
                    found = _SPOILT.search(said)
                    assert found is not None, said[-2000:]
                    return found[1]
                await asyncio.sleep(0.1)
        return None

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

    def spoil_a_volume(self) -> None:
        """Leave behind what a kill in the middle of making a volume may leave."""
        folder = self.folder / "data/volumes" / secrets.token_hex(32)
        folder.mkdir()
        (folder / "opts.json").touch()

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
