"""What the parts share: their sizes, their time, and how several values make one."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.growth.lines import Point, Series

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.growth.lines import Shape

    #: Measures one size; returns a value for each cost, in their order.
    Measure = Callable[[int], Awaitable[Sequence[float]]]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    Attributes:
        directory: for servers and databases.
        sizes: instead of a part's own, by the part's name.
        quick: leave out sizes that take minutes.
        seconds: that one part may take.
        scale: share of the usual operations of a measurement; 1.0 for real figures.
        progress: called with what is measured now.
    """

    directory: Path
    sizes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    quick: bool = False
    seconds: float = 300.0
    scale: float = 1.0
    progress: Callable[[str], None] = lambda _: None

    def of(self, part: str, sizes: Sequence[int], quick: int) -> Sequence[int]:
        """The sizes of a part: its own up to ``quick`` where that is asked for."""
        return self.sizes.get(part) or [size for size in sizes if size <= quick or not self.quick]

    def count(self, usual: int, least: int) -> int:
        """So many operations, scaled."""
        return max(least, int(usual * self.scale))


@dataclass(frozen=True, slots=True)
class Cost:
    """A cost that a part measures: what, with its unit, and the line it should follow."""

    value: str
    shape: Shape


async def by_size(
    effort: Effort, part: str, size: str, sizes: Sequence[int], costs: Sequence[Cost], of: Measure
) -> list[Series]:
    """Measure one size after the other until the part's time is used up.

    Args:
        effort: how much.
        part: its name.
        size: what grows.
        sizes: rising.
        costs: one series each.
        of: measures one size.
    """
    until = time.monotonic() + effort.seconds
    found: list[tuple[int, Sequence[float]]] = []
    for one in sizes:
        effort.progress(f"{part}: {one:,} {size}")
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                found.append((one, await of(one)))
        except TimeoutError:
            if time.monotonic() < until:
                raise  # what is measured did not answer in its own time
            break
    left_out = list(sizes[len(found) :])
    return [
        Series(part, size, cost.value, cost.shape, [Point(n, v[at]) for n, v in found], left_out)
        for at, cost in enumerate(costs)
    ]


async def median_of(turns: int, measure: Callable[[], Awaitable[Sequence[float]]]) -> list[float]:
    """The median of each value, after one turn that only warms up."""
    await measure()
    taken = [await measure() for _ in range(turns)]
    return [statistics.median(values) for values in zip(*taken, strict=True)]
