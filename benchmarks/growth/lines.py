"""Measured costs by size, the line they should follow, and where they leave it."""

from __future__ import annotations

import math
import statistics
from typing import Literal, NamedTuple

import msgspec

#: How far from its line, as a factor up or down, a cost may be before the line counts as left.
BEND = 1.25

Shape = Literal["flat", "linear", "proportional"]


class Point(msgspec.Struct, frozen=True):
    """What one size cost."""

    size: float
    value: float


class Line(NamedTuple):
    """``base + slope * size``."""

    base: float
    slope: float

    def at(self, size: float) -> float:
        """Its value at a size."""
        return self.base + self.slope * size


class Series(msgspec.Struct, frozen=True):
    """One cost by size.

    Attributes:
        part: the part it was measured by.
        size: what grows, in the plural.
        value: what it costs, with its unit.
        shape: the line it should follow.
        points: what was measured, by rising size.
        left_out: sizes for which there was no time.
        measured: False where the points were calculated from other measurements.
    """

    part: str
    size: str
    value: str
    shape: Shape
    points: list[Point]
    left_out: list[int] = []
    measured: bool = True


def fit(points: list[Point], shape: Shape) -> Line:
    """The line through the smaller half of the sizes, so that a bend among the larger ones shows.

    A flat line is at the median. A linear one has the least squares of relative errors: sizes are
    orders of magnitude apart, and absolute errors would be those of the largest alone. A
    proportional one goes through zero and the smallest size.

    Raises:
        ValueError: there are no points.
    """
    if not points:
        raise ValueError("no points")
    if shape == "proportional":
        return Line(0.0, points[0].value / points[0].size)
    half = points[: max(2, math.ceil(len(points) / 2))]
    if shape == "flat" or len(half) < 2:
        return Line(statistics.median(point.value for point in half), 0.0)
    weights = [1 / point.value**2 if point.value else 1.0 for point in half]
    total = sum(weights)
    size = sum(w * p.size for w, p in zip(weights, half, strict=True)) / total
    value = sum(w * p.value for w, p in zip(weights, half, strict=True)) / total
    spread = sum(w * (p.size - size) ** 2 for w, p in zip(weights, half, strict=True))
    joint = sum(w * (p.size - size) * (p.value - value) for w, p in zip(weights, half, strict=True))
    slope = joint / spread if spread else 0.0
    return Line(value - slope * size, slope)


def ratios(points: list[Point], line: Line) -> list[float]:
    """Each value as a multiple of the line's; infinite where the line is not above zero."""
    return [point.value / at if (at := line.at(point.size)) > 0 else math.inf for point in points]


def bend(points: list[Point], line: Line) -> float | None:
    """The size from which on every value is off the line; None where the last one is on it."""
    found = None
    for point, ratio in zip(reversed(points), reversed(ratios(points, line)), strict=True):
        if 1 / BEND <= ratio <= BEND:
            break
        found = point.size
    return found


def table(series: Series) -> str:
    """A series with the ratio of each value to its line, and the bend."""
    calculated = "" if series.measured else ", calculated"
    rows = [f"{series.part}: {series.value} by {series.size}{calculated}; should be {series.shape}"]
    if not series.points:
        return "\n".join([*rows, f"  no size was measured; left out: {_sizes(series.left_out)}"])
    line = fit(series.points, series.shape)
    for point, ratio in zip(series.points, ratios(series.points, line), strict=True):
        rows.append(f"  {point.size:>12,.0f} {point.value:>14,.2f} {ratio:8.2f} x line")
    at = bend(series.points, line)
    rows.append("  follows its line" if at is None else f"  leaves its line at {at:,.0f}")
    if series.left_out:
        rows.append(f"  no time for {_sizes(series.left_out)}")
    return "\n".join(rows)


def _sizes(sizes: list[int]) -> str:
    return ", ".join(f"{size:,}" for size in sizes)


def rate_of(processes: int, worker_us: float, server_us: float) -> float:
    """Tasks a second of so many worker processes on one queue server, each with a processor.

    The workers share the tasks; the server's one thread serves all of them.

    Args:
        processes: of workers.
        worker_us: processor time of a worker for one task, microseconds.
        server_us: that of the queue server.
    """
    return 1e6 / max(worker_us / processes, server_us)
