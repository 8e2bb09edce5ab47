"""The programs of a reward loop as bare child processes: a time and a memory limit, no sandbox."""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from benchmarks.reward_loop import MEMORY_MB, RUN_S, Case, cases

if TYPE_CHECKING:
    from collections.abc import Iterator


def setup(job: dict[str, Any]) -> dict[str, Any]:
    """Nothing is kept ready."""
    return {}


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run so many programs, ``slots`` at once; seconds, and how many rewards were wrong."""
    waiting = iter(cases(job["count"], job["seed"]))
    began_s = time.perf_counter()
    wrong = await asyncio.gather(*(_one_after_the_other(waiting) for _ in range(job["slots"])))
    return {"elapsed_s": time.perf_counter() - began_s, "wrong": sum(wrong)}


def teardown(job: dict[str, Any]) -> None:
    """Every program has ended."""


async def _one_after_the_other(waiting: Iterator[Case]) -> int:
    return sum([await _reward(case) != case.reward for case in waiting])


async def _reward(case: Case) -> float:
    # A file, as uvloop refuses to write to a pipe that a program which has ended left behind.
    with tempfile.TemporaryFile() as stdin:
        stdin.write(case.stdin.encode())
        stdin.seek(0)
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-c", case.code),
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            preexec_fn=_limit,
        )
    try:
        async with asyncio.timeout(RUN_S):
            output, _ = await program.communicate()
    except TimeoutError:
        program.kill()
        await program.wait()
        return 0.0
    return float(program.returncode == 0 and output.decode() == case.expected)


def _limit() -> None:
    limit = MEMORY_MB << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
