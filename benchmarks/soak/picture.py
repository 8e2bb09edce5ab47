"""The plot of a soak: a row for each kind of value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.soak.samples import UNITS

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.soak.samples import Samples

_SIZE = (9.0, 2.6)


def draw(samples: Samples, path: Path, title: str) -> None:
    """Draw everything over minutes into one SVG."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "soak"
    from matplotlib.figure import Figure

    width, height = _SIZE
    figure = Figure(figsize=(width, height * len(UNITS)), layout="constrained")
    figure.suptitle(title)
    minutes = [at_s / 60 for at_s in samples.at_s]
    for axes, kind in zip(figure.subplots(len(UNITS), sharex=True), UNITS, strict=True):
        for series in samples.series.values():
            if series.kind == kind:
                axes.plot(minutes, series.values, label=series.name)
        axes.set(ylabel=f"{kind}, {UNITS[kind]}")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set(xlabel="minutes")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
