"""``client.map`` over thousands of programs while api and worker are killed and started again.

``python -m benchmarks.client_map`` maps ``--programs`` (10 000) and sends SIGKILL to api and worker
``--kills`` times on the way. The worker runs nothing: a program has printed its own code
(``fake_worker``). It ends with 1 unless every program has its own result, in order.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from crucible.client import AsyncCrucible
from crucible.embedded.server import EmbeddedServer, free_port

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Sequence

_WINDOW = 128
#: Seconds until a killed worker's claims are found, and more than any run takes.
_PATIENCE_S = 1200.0
_TASKS = ("--tasks", "benchmarks.fake_worker:registry", "--queues", "evaluation")


@asynccontextmanager
async def _command(*arguments: str, url: str) -> AsyncIterator[Process]:
    environment = os.environ | {"CELERY_BROKER_URL": url, "CRUCIBLE_EVENT_BUS_URL": url}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "crucible", *arguments, "--log-level", "error"), env=environment
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def mapped(programs: int, kills: int) -> int:
    """How many programs have their own result, in order."""
    codes = [f"print({number})" for number in range(programs)]
    right, every = 0, max(1, programs // (kills + 1))
    killing = asyncio.Event()

    async def client_side(url: str) -> None:
        nonlocal right
        number = 0
        async with AsyncCrucible(url, retry_for_s=_PATIENCE_S) as client:
            async for evaluation in client.map(codes, window=_WINDOW):
                right += evaluation.output == codes[number]
                number += 1
                if number % every == 0:
                    killing.set()

    with TemporaryDirectory(prefix="crucible-map-") as name:
        async with EmbeddedServer(Path(name)) as server:
            port = free_port()
            running = asyncio.create_task(client_side(f"http://127.0.0.1:{port}"))
            try:
                while not running.done():
                    killing.clear()
                    async with (
                        _command("api", "--port", str(port), url=server.url),
                        _command("worker", *_TASKS, url=server.url),
                    ):
                        wanted = asyncio.create_task(killing.wait())
                        await asyncio.wait(
                            {running, wanted},
                            timeout=_PATIENCE_S,
                            return_when=asyncio.FIRST_COMPLETED,
                        )
                        wanted.cancel()
                        kills -= 1
                        if kills < 0:
                            await asyncio.wait({running}, timeout=_PATIENCE_S)
                            break
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
    return right


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments and run; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=5)
    parsed = parser.parse_args(arguments)
    began = time.perf_counter()
    right = asyncio.run(mapped(parsed.programs, parsed.kills))
    took_s = time.perf_counter() - began
    print(
        f"{right} of {parsed.programs} programs have their own result in order, after "
        f"{parsed.kills} kills of api and worker, in {took_s:.0f} s"
    )
    return int(right < parsed.programs)


if __name__ == "__main__":
    sys.exit(main())
