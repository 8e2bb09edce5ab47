"""Figures of a run: the values of one metric of one subject, one per repeat, and statistics."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Smaller differences are never reported as a change, however quiet the machine was.
LEAST_CHANGE = 0.05


class Summary(msgspec.Struct, frozen=True):
    """Statistics of repeated measurements.

    Attributes:
        median: of all repeats.
        low: the lowest.
        high: the highest.
        repeats: how many there were.
    """

    median: float
    low: float
    high: float
    repeats: int

    @property
    def spread(self) -> float:
        """Half the range as a share of the median; 0.1 means plus or minus ten percent."""
        return (self.high - self.low) / 2 / abs(self.median) if self.median else 0.0


def summary_of(values: Sequence[float]) -> Summary:
    """Median and range.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values to sum up")
    return Summary(statistics.median(values), min(values), max(values), len(values))


class Figure(msgspec.Struct, frozen=True):
    """One metric of one subject in one scenario.

    Attributes:
        scenario: its name.
        subject: its name.
        metric: what was measured, with the unit as suffix.
        values: at least one per repeat, in the order they were recorded.
        repeats: the repeat of each value, from 0; empty where each repeat has one.
    """

    scenario: str
    subject: str
    metric: str
    values: list[float]
    repeats: list[int] = []

    @property
    def by_repeat(self) -> dict[int, list[float]]:
        """The values of each repeat; one that failed has none."""
        found: dict[int, list[float]] = {}
        for repeat, value in zip(self.repeats or range(len(self.values)), self.values, strict=True):
            found.setdefault(repeat, []).append(value)
        return found

    @property
    def key(self) -> tuple[str, str, str]:
        """Identifies the same figure in another run."""
        return self.scenario, self.subject, self.metric

    @property
    def summary(self) -> Summary:
        """Median and range of the values."""
        return summary_of(self.values)

    @property
    def higher_is_better(self) -> bool:
        """True for rates; false for times, sizes and counts of errors."""
        return self.metric.endswith(("_per_s", "_per_cpu_s"))


class Figures:
    """All figures of a run, in the order they were first recorded."""

    def __init__(self, figures: Sequence[Figure] = ()) -> None:
        self._figures = {figure.key: figure for figure in figures}

    def record(
        self, scenario: str, subject: str, metric: str, value: float, repeat: int = 0
    ) -> None:
        """Add a value of one repeat."""
        key = (scenario, subject, metric)
        figure = self._figures.get(key)
        if figure is None:
            figure = self._figures[key] = Figure(scenario, subject, metric, [], [])
        figure.values.append(float(value))
        figure.repeats.append(repeat)

    def add(self, other: Figures) -> None:
        """Everything recorded in ``other``."""
        for figure in other.all:
            for repeat, values in figure.by_repeat.items():
                for value in values:
                    self.record(*figure.key, value, repeat)

    @property
    def all(self) -> list[Figure]:
        """Every figure."""
        return list(self._figures.values())

    def find(self, scenario: str, subject: str, metric: str) -> Figure | None:
        """One figure, None where it was not measured."""
        return self._figures.get((scenario, subject, metric))


def ratios(figure: Figure, against: Figure) -> list[float]:
    """Ratios repeat by repeat: both were measured within the same minutes, so the machine's load
    affected both. A repeat that one of them lacks has no ratio."""
    others = against.by_repeat
    return [
        value / other
        for repeat, values in figure.by_repeat.items()
        for value, other in zip(values, others.get(repeat, ()), strict=False)
        if other
    ]


class Change(msgspec.Struct, frozen=True):
    """A figure compared with that of an earlier run.

    Attributes:
        figure: the current one.
        before: median of the earlier run.
        after: median now.
        noise: the relative change that the spread of either run explains.
    """

    figure: Figure
    before: float
    after: float
    noise: float

    @property
    def share(self) -> float:
        """0.1 is ten percent more."""
        return self.after / self.before - 1 if self.before else 0.0

    @property
    def verdict(self) -> str:
        """``same``, ``better`` or ``worse``."""
        if abs(self.share) <= self.noise:
            return "same"
        return "better" if (self.share > 0) == self.figure.higher_is_better else "worse"


def changes(now: Figures, before: Figures) -> list[Change]:
    """Every figure of both runs; noise is the wider spread of the two, at least five percent."""
    found = []
    for figure in now.all:
        earlier = before.find(*figure.key)
        if earlier is not None and earlier.values and figure.values:
            old, new = earlier.summary, figure.summary
            noise = max(old.spread, new.spread, LEAST_CHANGE)
            found.append(Change(figure, old.median, new.median, noise))
    return found
