"""Plots of costs by size, each with the line it should follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.growth.lines import bend, fit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.growth.lines import Series

_SIZE = (8.0, 3.6)


def draw(found: Sequence[Series], directory: Path) -> list[Path]:
    """One file for each part, a row for each of its costs; returns the files written."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "growth"
    from matplotlib.figure import Figure

    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for part in dict.fromkeys(series.part for series in found if series.points):
        rows = [series for series in found if series.part == part and series.points]
        width, height = _SIZE
        figure = Figure(figsize=(width, height * len(rows)), layout="constrained")
        for axes, series in zip(figure.subplots(len(rows), squeeze=False)[:, 0], rows, strict=True):
            _row(series, axes)
        path = directory / f"growth-{part}.svg"
        figure.savefig(path, metadata={"Date": None})
        paths.append(path)
    return paths


def _row(series: Series, axes: Any) -> None:
    sizes = [point.size for point in series.points]
    line = fit(series.points, series.shape)
    label = "measured" if series.measured else "calculated"
    axes.plot(sizes, [point.value for point in series.points], marker="o", label=label)
    expected = [line.at(size) for size in sizes]
    axes.plot(sizes, expected, linestyle="--", label=f"{series.shape}, from smaller sizes")
    at = bend(series.points, line)
    if at is not None:
        axes.axvline(at, color="grey", linestyle=":", label=f"leaves it at {at:,.0f}")
    axes.set_xscale("log")
    if series.shape == "flat":
        axes.set_ylim(bottom=0)
    else:
        axes.set_yscale("log")
    axes.set(xlabel=series.size, ylabel=series.value, title=f"{series.value} by {series.size}")
    axes.legend(fontsize="x-small")
