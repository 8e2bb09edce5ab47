"""Peak memory of an api and of a worker while a program's output of 64 MiB goes through them.

    python -m benchmarks.output_memory --mb 64

Once with an object store, from which the whole output is downloaded, and once without, where it is
in the result. What a process holds is given as copies of the output: the growth of its peak over
that after a small evaluation, divided by the output's size.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import psutil

from benchmarks.command_process import ROOT, Process
from benchmarks.progress import LOOK_S
from crucible.embedded.server import EmbeddedServer, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: Seconds for processes to start, and for one evaluation.
_PATIENCE_S = 120.0
#: Lines of 64 bytes that no compression makes much of.
_PROGRAM = """
import hashlib, sys
for number in range({mb} * 16384):
    sys.stdout.write(hashlib.sha256(b"%d" % number).hexdigest()[:63] + chr(10))
"""


@dataclass(frozen=True)
class Peaks:
    """What was seen.

    Attributes:
        digest: SHA-256 of the output as the client got it.
        base_mb: peak resident memory after a small evaluation, MiB, by process.
        peak_mb: after the large one has been fetched.
        mb: of output.
    """

    digest: str
    base_mb: dict[str, float]
    peak_mb: dict[str, float]
    mb: int

    def copies(self) -> dict[str, float]:
        """How many times its output each process held at most."""
        return {name: (self.peak_mb[name] - base) / self.mb for name, base in self.base_mb.items()}


def expected_digest(mb: int) -> str:
    """SHA-256 of what the program writes."""
    found = hashlib.sha256()
    for number in range(mb * 16384):
        found.update(hashlib.sha256(b"%d" % number).hexdigest()[:63].encode() + b"\n")
    return found.hexdigest()


async def measure(directory: Path, mb: int, *, store: bool) -> Peaks:
    """Run one small and one large evaluation, and fetch the whole output of the large one."""
    async with (
        _running(directory, store=store) as (api, pids),
        aiohttp.ClientSession(
            api, timeout=aiohttp.ClientTimeout(total=_PATIENCE_S), read_bufsize=2**20
        ) as client,
    ):
        await _ended(client, {"code": "print(1)"})
        base = {name: _peak_mb(pid) for name, pid in pids.items()}
        limits = {"output_kb": mb * 1024, "wall_time_s": 60, "cpu_time_s": 60}
        found = await _ended(client, {"code": _PROGRAM.format(mb=mb), "limits": limits})
        if store:
            digest = await _digest(client, found["output_href"])
        else:
            digest = hashlib.sha256(found["output"].encode()).hexdigest()
        return Peaks(digest, base, {name: _peak_mb(pid) for name, pid in pids.items()}, mb)


@asynccontextmanager
async def _running(directory: Path, *, store: bool) -> AsyncIterator[tuple[str, dict[str, int]]]:
    """An api and a worker; the URL of the one, and the process ids of both."""
    port = free_port()
    async with EmbeddedServer(directory / "queue") as queue, AsyncExitStack() as stack:
        environment = {
            **_kept(),
            "CELERY_BROKER_URL": queue.url,
            "CRUCIBLE_EVENT_BUS_URL": queue.url,
            "CRUCIBLE_PORT": str(port),
            "CRUCIBLE_MAX_OUTPUT_KB": "65536",
            "CRUCIBLE_OBJECT_STORE_URL": f"file://{directory}/objects" if store else "off",
            "PYTHONPATH": str(ROOT),
        }
        pids = {}
        for name, arguments in {"api": ["api"], "worker": ["worker", "--concurrency", "1"]}.items():
            process = Process(arguments, environment, directory / f"{name}.log")
            await process.start()
            stack.push_async_callback(process.stop)
            pids[name] = process.pid
        api = f"http://127.0.0.1:{port}"
        async with asyncio.timeout(_PATIENCE_S), aiohttp.ClientSession(api) as client:
            while not await _serves(client):
                await asyncio.sleep(LOOK_S)
        yield api, pids


def _kept() -> dict[str, str]:
    names = ("PATH", "HOME", "LANG", "DOCKER_HOST")
    return {name: os.environ[name] for name in names if name in os.environ}


async def _serves(client: aiohttp.ClientSession) -> bool:
    try:
        async with client.get("/health") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def _ended(client: aiohttp.ClientSession, body: dict[str, Any]) -> dict[str, Any]:
    async with client.post("/api/eval", json=body) as response:
        assert response.status == 202, await response.text()
        href = (await response.json())["href"]
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            async with client.get(href, params={"wait": "30"}) as response:
                found: dict[str, Any] = await response.json()
            if found["status"] in ("completed", "failed", "cancelled"):
                assert found["verdict"] == "ok", found["message"]
                return found


async def _digest(client: aiohttp.ClientSession, href: str) -> str:
    digest = hashlib.sha256()
    async with client.get(href, headers={"Accept-Encoding": "identity"}) as response:
        assert response.status == 200
        async for part in response.content.iter_chunked(2**20):
            digest.update(part)
    return digest.hexdigest()


def _peak_mb(pid: int) -> float:
    """The highest resident memory so far of a process and of those it has started, MiB."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return max(_high_water_mb(member.pid) for member in family)


def _high_water_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return int(found["VmHWM"].split()[0]) / 1024


async def main() -> int:
    """Measure both, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--mb", type=int, default=64)
    mb = parser.parse_args().mb
    for store in (True, False):
        with tempfile.TemporaryDirectory(prefix="crucible-output-") as name:
            peaks = await measure(Path(name), mb, store=store)
        print(f"{mb} MiB {'in the object store' if store else 'in the result'}:")
        for process, copies in peaks.copies().items():
            base, peak = peaks.base_mb[process], peaks.peak_mb[process]
            print(f"  {process}: {base:.0f} -> {peak:.0f} MiB, {copies:.1f} copies")
        assert peaks.digest == expected_digest(mb)
    return 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
