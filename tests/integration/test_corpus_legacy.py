"""The whole corpus the old way: legacy queue, legacy workers, real containers."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from support.corpus import CorpusProgram, Observed, load_corpus

from crucible.executor import ExecutorConfig, open_executor
from crucible.legacy import LegacyClient, TaskState, open_service, work

pytestmark = pytest.mark.docker

WAIT_S = 120.0


async def test_corpus_through_the_legacy_queue() -> None:
    """Two legacy workers end every program as expected: the parity both systems are held to."""
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        executor = await stack.enter_async_context(
            open_executor(ExecutorConfig(pool_min=1, pool_max=2))
        )
        url = f"http://127.0.0.1:{await stack.enter_async_context(open_service())}"
        client = await stack.enter_async_context(LegacyClient(url))
        workers = await stack.enter_async_context(asyncio.TaskGroup())
        stack.callback(stop.set)
        for name in ("w1", "w2"):
            workers.create_task(work(url, executor.run, stop, name=name, poll_s=0.01))
        entries = load_corpus()
        for entry in entries:
            await client.submit(entry.name, entry.program())
        wrong = {entry.name: await _mismatches(client, entry) for entry in entries}
    assert {name: found for name, found in wrong.items() if found} == {}


async def _mismatches(client: LegacyClient, entry: CorpusProgram) -> list[str]:
    found = await client.wait(entry.name, WAIT_S)
    if found.status is not TaskState.COMPLETED or found.outcome is None:
        return [f"{found.status}: {found.message}"]
    return entry.check(Observed.from_outcome(found.outcome))
