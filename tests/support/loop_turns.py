"""Waiting for a number of event loop iterations, for effects in the same loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


async def turns(count: int = 3) -> None:
    """Wait for a number of loop iterations."""
    for _ in range(count):
        await asyncio.sleep(0)


async def eventually(condition: Callable[[], bool], timeout_s: float = 5) -> None:
    """Wait until the condition is true. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0)
