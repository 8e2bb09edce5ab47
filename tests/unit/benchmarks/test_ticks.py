from __future__ import annotations

import asyncio

import pytest

from benchmarks.ticks import Ticks


async def test_ticks_come_while_it_is_open() -> None:
    """Ten ticks shorter than a loop's timers come, and none once it is closed."""
    count, enough = 0, asyncio.Event()

    def tick() -> None:
        nonlocal count
        count += 1
        if count >= 10:
            enough.set()

    async with asyncio.timeout(60):
        with Ticks(0.0001, tick):
            await enough.wait()
        after = count
        await asyncio.sleep(0.01)
    assert count == after


async def test_a_clock_that_cannot_be_set_says_so() -> None:
    """An interval of a second or more is not one of the kernel's."""
    with pytest.raises(OSError, match="Invalid argument"), Ticks(1.5, lambda: None):
        pass
