"""What a historian with a backlog does while the database writes."""

from __future__ import annotations

import asyncio
from typing import Any

from crucible.breaker import BreakerPolicy
from crucible.history.consumer import Taken
from crucible.history.historian import Historian
from crucible.redis_keys import Keys


class Bus:
    """Two full batches, then nothing."""

    def __init__(self, noted: list[str]) -> None:
        self._noted = noted
        self._left = [Taken([b"1-0"], []), Taken([b"2-0"], [])]

    async def join(self) -> bool:
        return False

    async def adopt(self) -> Taken:
        return Taken([], [])

    async def tidy(self) -> None:
        """Nobody to remove."""

    async def take(self, _block_ms: int) -> Taken:
        self._noted.append("take")
        return self._left.pop(0) if self._left else Taken([], [])

    async def acknowledge(self, _taken: Taken) -> None:
        self._noted.append("acknowledge")


class Database:
    """Says when it begins with what takes longest."""

    written = refused = 0

    def __init__(self, noted: list[str], *, says: bool) -> None:
        self._noted = noted
        self._says = says

    async def check_schema(self) -> None:
        """It is the newest."""

    async def write(self, _events: Any, _batch: Any, working: asyncio.Event | None) -> None:
        await asyncio.sleep(0.01)
        self._noted.append("work")
        if self._says and working is not None:
            working.set()
        await asyncio.sleep(0.01)
        self._noted.append("done")


async def _run(*, says: bool) -> list[str]:
    noted: list[str] = []
    database: Any = Database(noted, says=says)
    client: Any = None
    historian = Historian(client, Keys(), database, 1, BreakerPolicy())
    bus: Any = Bus(noted)
    historian._consumer = bus
    stop = asyncio.Event()
    running = asyncio.create_task(historian.run(stop))
    async with asyncio.timeout(60):
        while noted.count("acknowledge") < 2:
            await asyncio.sleep(0.001)
    stop.set()
    await running
    return noted


async def test_the_next_batch_is_prepared_once_the_database_works() -> None:
    """Not before: the database would wait for the end of the preparation."""
    noted = await _run(says=True)
    first = ["take", "work", "take", "done", "acknowledge"]
    assert noted[:5] == first


async def test_the_next_batch_is_prepared_where_the_database_had_no_work() -> None:
    """Such as a batch of evaluations that were forgotten."""
    noted = await _run(says=False)
    assert noted[:4] == ["take", "work", "done", "take"]
