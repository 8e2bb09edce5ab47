"""Submissions: counted while the api serves them, read by a scrape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.core import Metric

#: Seconds; a decision is a few microseconds of computation.
_SELECTIONS = (1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 1e-3, 1e-2)


class _Submitted(Collector):
    """Counts that the service keeps as plain numbers, because its path is hot."""

    def __init__(self, read: Callable[[], Mapping[str, int]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """The counts now."""
        by_system = CounterMetricFamily(
            "tasks_submitted", "Evaluations accepted.", labels=["queue_system"]
        )
        counts = {"celery": 0, "legacy": 0, **self._read()}
        for queue_system, count in counts.items():
            by_system.add_metric([queue_system], count)
            yield CounterMetricFamily(
                f"{queue_system}_tasks_submitted",
                f"Evaluations accepted by {queue_system}.",
                value=count,
            )
        yield by_system


class _Refused(Collector):
    """What was refused because of keys, by reason."""

    def __init__(self, read: Callable[[], Mapping[str, int]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """The counts now."""
        refused = CounterMetricFamily(
            "key_refusals",
            "Requests and items of batches refused because of a key or the want of one.",
            labels=["reason"],
        )
        for reason, count in self._read().items():
            refused.add_metric([reason], count)
        yield refused


class Meter:
    """The metrics of one api process.

    Attributes:
        registry: what is exposed.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._facades = Counter(
            "facade_requests",
            "Requests to facades, by facade and class of the answer's status.",
            labelnames=["facade", "status"],
            registry=self.registry,
        )
        self._selection = Histogram(
            "queue_selection_duration_seconds",
            "Deciding which queue system an evaluation goes to.",
            buckets=_SELECTIONS,
            registry=self.registry,
        )

    def facade_answered(self, facade: str, status: int) -> None:
        """Count a request to a facade by its name and the class of its answer's status."""
        self._facades.labels(facade, f"{status // 100}xx").inc()

    def count_submissions(self, submitted: Callable[[], Mapping[str, int]]) -> None:
        """Expose accepted evaluations by queue system, as ``submitted`` returns them."""
        self.registry.register(_Submitted(submitted))

    def count_refusals(self, refused: Callable[[], Mapping[str, int]]) -> None:
        """Expose what was refused because of keys, by reason, as ``refused`` returns it."""
        self.registry.register(_Refused(refused))

    def selected(self, seconds: float) -> None:
        """Observe how long the choice of a queue system took."""
        self._selection.observe(seconds)
