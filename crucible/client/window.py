"""Many coroutines with a bound on how many run at once."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable

Item = TypeVar("Item")
Result = TypeVar("Result")


async def in_window(
    items: Iterable[Item] | AsyncIterable[Item],
    work: Callable[[int, Item], Awaitable[Result]],
    size: int,
) -> AsyncGenerator[Result, None]:
    """Results as they come, of at most ``size`` items at once; no further item is read earlier.

    Whatever ends the iteration ends the work under way.

    Args:
        items: read one at a time.
        work: called with the place of an item and the item.
        size: how many are worked on at once.
    """
    running: set[asyncio.Future[Result]] = set()
    reading: asyncio.Future[Item] | None = None
    async with aclosing(_one_by_one(items)) as source:
        try:
            index, more = 0, True
            while more or running:
                if more and reading is None and len(running) < size:
                    reading = asyncio.ensure_future(anext(source))
                awaited: set[asyncio.Future[Any]] = {*running, *([reading] if reading else ())}
                done, _ = await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
                if reading in done and reading is not None:
                    try:
                        running.add(asyncio.ensure_future(work(index, reading.result())))
                        index += 1
                    except StopAsyncIteration:
                        more = False
                    done.discard(reading)
                    reading = None
                running -= done
                for task in done:
                    yield task.result()
        finally:
            left = [*running, *([reading] if reading else ())]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)


async def _one_by_one(
    items: Iterable[Item] | AsyncIterable[Item],
) -> AsyncGenerator[Item, None]:
    if hasattr(items, "__aiter__"):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
