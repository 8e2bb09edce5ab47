"""Runs cells, a few side by side, each on servers of its own."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from benchmarks.chaos.outages.trial import Trial
from crucible.embedded.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.chaos.outages.cells import Cell
    from benchmarks.chaos.outages.verdict import Verdict

    #: Called with a cell, its phase, and its verdict once there is one.
    Tell = Callable[[Cell, str, Verdict | None], None]


async def run(
    cells: Sequence[Cell], side_by_side: int, tell: Tell, logs: Path | None = None
) -> list[Verdict]:
    """The verdict of each cell.

    Args:
        cells: in the order they are started.
        side_by_side: run at the same time.
        tell: is told of each phase.
        logs: where the processes' logs of each cell go.
    """
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crucible-outages-")))
        # Nothing ever happens to this one.
        ledger = await stack.enter_async_context(EmbeddedServer(home, durable=False))
        free: asyncio.Queue[str] = asyncio.Queue()
        for number in range(side_by_side):
            free.put_nowait(f"redis://127.0.0.1:{ledger.port}/{number}")

        async def one(cell: Cell) -> Verdict:
            url = await free.get()
            try:
                async with Redis.from_url(url) as client:
                    await client.flushdb()
                trial = Trial(cell, url, lambda phase: tell(cell, phase, None))
                try:
                    verdict = await trial.run()
                finally:
                    _keep(logs, cell, trial)
            finally:
                free.put_nowait(url)
            tell(cell, "over", verdict)
            return verdict

        async with asyncio.TaskGroup() as group:
            running = [group.create_task(one(cell)) for cell in cells]
        return [task.result() for task in running]


def _keep(logs: Path | None, cell: Cell, trial: Trial) -> None:
    if logs is not None:
        logs.mkdir(parents=True, exist_ok=True)
        for name, lines in trial.logs.items():
            (logs / f"{cell.name}.{name}.log").write_text("\n".join(lines) + "\n")
