"""Plots of a report: latency percentiles, throughput, throughput by depth, processor use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.report import load_histogram

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.report import Report

#: Percentiles on the axis of a latency plot, each nine at the same distance.
_AXIS = (50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.99)
_SIZE = (8.0, 4.5)
_CPU = ("cpu_server_share", "cpu_redis_share", "cpu_load_share")


def draw(report: Report, directory: Path) -> list[Path]:
    """Draw every plot the report has figures for; returns the files written."""
    import matplotlib as mpl

    mpl.use("Agg")
    directory.mkdir(parents=True, exist_ok=True)
    drawings: dict[str, Callable[[Report, Any], bool]] = {
        "latency": _latency,
        "throughput": _throughput,
        "depth": _depth,
        "cpu": _cpu,
    }
    return [
        path
        for name, drawing in drawings.items()
        if (path := _draw(report, directory / f"{name}.svg", drawing)) is not None
    ]


def _draw(report: Report, path: Path, drawing: Callable[[Report, Any], bool]) -> Path | None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    if not drawing(report, axes):
        return None
    figure.savefig(path)
    return path


def _latency(report: Report, axes: Any) -> bool:
    for latency in report.latencies:
        histogram = load_histogram(latency)
        values = [max(0.01, histogram.percentile_ms(percentile)) for percentile in _AXIS]
        label = f"{latency.scenario}: {latency.subject}, {latency.what}"
        axes.plot(range(len(_AXIS)), values, marker=".", label=label)
    axes.set_xticks(range(len(_AXIS)), [f"{percentile:g}" for percentile in _AXIS])
    axes.set_yscale("log")
    axes.set(xlabel="percentile", ylabel="milliseconds", title="Latency by percentile, open loop")
    if report.latencies:
        axes.legend(fontsize="x-small")
    return bool(report.latencies)


def _throughput(report: Report, axes: Any) -> bool:
    rates = [figure for figure in report.figures if figure.metric.endswith("_per_s")]
    names = [f"{figure.scenario}: {figure.subject}" for figure in rates]
    medians = [figure.summary.median for figure in rates]
    spans = [
        [figure.summary.median - figure.summary.low for figure in rates],
        [figure.summary.high - figure.summary.median for figure in rates],
    ]
    axes.barh(range(len(rates)), medians, xerr=spans)
    axes.set_yticks(range(len(rates)), names, fontsize="x-small")
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set(xlabel="per second; bars: median, lines: range of all repeats", title="Throughput")
    return bool(rates)


def _depth(report: Report, axes: Any) -> bool:
    points = [
        (report.measured.find("depth", figure.subject, "tasks_per_s"), figure.summary.median)
        for figure in report.figures
        if figure.scenario == "depth" and figure.metric == "queued_count"
    ]
    found = sorted((queued, rate.summary.median) for rate, queued in points if rate is not None)
    axes.plot([queued for queued, _ in found], [rate for _, rate in found], marker="o")
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set(xlabel="messages queued", ylabel="tasks a second", title="Throughput by depth")
    return bool(found)


def _cpu(report: Report, axes: Any) -> bool:
    subjects = list(
        dict.fromkeys(
            (figure.scenario, figure.subject) for figure in report.figures if figure.metric in _CPU
        )
    )
    bottom = [0.0] * len(subjects)
    for metric in _CPU:
        found = [report.measured.find(*subject, metric) for subject in subjects]
        shares = [figure.summary.median if figure else 0.0 for figure in found]
        name = metric.removeprefix("cpu_").removesuffix("_share")
        axes.bar(range(len(subjects)), shares, bottom=bottom, label=name)
        bottom = [below + share for below, share in zip(bottom, shares, strict=True)]
    axes.set_xticks(range(len(subjects)), [f"{s}\n{label}" for s, label in subjects])
    axes.set(ylabel="processors used", title="Processor use")
    if subjects:
        axes.legend()
    return bool(subjects)
