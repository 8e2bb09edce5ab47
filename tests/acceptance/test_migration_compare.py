"""``crucible compare --corpus`` with real containers, and executors of its own on each side."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from support.corpus import CORPUS, load_corpus
from support.worker_rig import async_worker, crucible

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.docker

#: Seconds a process may take until it serves; sandboxes are made ready meanwhile.
START_S = 90.0
#: Programs of the part that the suite compares: every so many of the corpus, in the order of names.
STRIDE = 3
#: Differs from itself in every run; what differs only now and then cannot be expected to.
RANDOM = "python-random"
PATIENT = "limits = { wall_time_s = 100.0 }"
POOL = {"CRUCIBLE_POOL_MIN": "1", "CRUCIBLE_POOL_MAX": "2"}


@asynccontextmanager
async def both_sides(redis_url: str) -> AsyncIterator[dict[str, str]]:
    """Two legacy executors, legacy queue and workers; a Celery executor and an async worker.

    Yields the environment of commands.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        executors = [await enter(crucible(["executor", "--port", "0"], **POOL)) for _ in range(3)]
        queue = await enter(crucible(["legacy", "queue", "--port", "0"]))
        line = await queue.wait_for_log("legacy queue listening", START_S)
        legacy_url = line.split()[-1]
        lines = [await one.wait_for_log("executor listening", START_S) for one in executors]
        urls = [line.split()[-1] for line in lines]
        for url in urls[:2]:
            command = ["legacy", "worker", "--queue-service-url", legacy_url, "--executor-url", url]
            await (await enter(crucible(command))).wait_for_log("polls", START_S)
        await enter(
            async_worker(redis_url, CRUCIBLE_EXECUTOR_URLS=urls[2], CRUCIBLE_CONCURRENCY="2")
        )
        yield {"CELERY_BROKER_URL": redis_url, "QUEUE_SERVICE_URL": legacy_url}


def part_of_corpus(folder: Path, stride: int) -> Counter[str]:
    """Lay some programs of the corpus into a folder; how many the comparison should call what."""
    programs = load_corpus()
    names = [program.name for program in programs if program.deterministic][::stride]
    for name in (*names, RANDOM):
        for path in CORPUS.glob(f"{name}.*"):
            shutil.copy(path, folder)
        described = folder / f"{name}.toml"
        text = described.read_text()
        if "\nlimits =" not in text:
            # A machine that is overloaded on one side only would make a difference.
            described.write_text(text.replace("\n", f"\n{PATIENT}\n", 1))
    return Counter(equal=len(names), nondeterministic=1)


async def test_the_corpus_ends_alike_in_the_containers_of_both_sides(
    redis_url: str, tmp_path: Path
) -> None:
    """Exit code 0 and no difference: output, error, exit code, signal and verdict are equal."""
    expected = part_of_corpus(tmp_path, STRIDE)
    async with both_sides(redis_url) as environment:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "crucible", "compare", "--corpus", str(tmp_path), "--json"),
            env={"PATH": "/usr/bin:/bin", **environment},
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(300):
            out, _ = await process.communicate()
    report = json.loads(out)
    odd = [one for one in report["programs"] if one["kind"] not in ("equal", "nondeterministic")]
    assert (process.returncode, odd) == (0, [])
    assert +Counter(report["counts"]) == expected
    # Real containers on both sides: each program used memory and time there.
    for one in report["programs"]:
        assert one["legacy"]["wall_time_ms"] > 0
        assert one["celery"]["wall_time_ms"] > 0
