"""What ``/metrics`` shows: counted while serving, read by the scrape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.core import Metric

    from crucible.migration.routing import Side
    from crucible.models import Evaluation

#: Seconds; programs take milliseconds to minutes.
_DURATIONS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
#: Seconds; a decision is a few microseconds of computation.
_SELECTIONS = (1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 1e-3, 1e-2)


class _Submitted(Collector):
    """Counts that are plain numbers elsewhere, because counting there must cost nothing."""

    def __init__(self, read: Callable[[], Mapping[str, int]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """The counts now."""
        by_side = CounterMetricFamily(
            "tasks_submitted", "Evaluations accepted.", labels=["queue_system"]
        )
        for side, count in self._read().items():
            by_side.add_metric([side], count)
            yield CounterMetricFamily(
                f"{side}_tasks_submitted", f"Evaluations accepted by the {side} side.", value=count
            )
        yield by_side


class Meter:
    """The metrics of one api process.

    Args:
        submitted: tells how many evaluations each side accepted.

    Attributes:
        registry: what is exposed.
    """

    def __init__(self, submitted: Callable[[], Mapping[str, int]]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Submitted(submitted))
        self._completed = Counter(
            "tasks_completed",
            "Evaluations this process accepted that have ended.",
            ["queue_system", "status"],
            registry=self.registry,
        )
        self._duration = Histogram(
            "task_duration_seconds",
            "From submission to the stored end.",
            ["queue_system"],
            buckets=_DURATIONS,
            registry=self.registry,
        )
        self._selection = Histogram(
            "queue_selection_duration_seconds",
            "Deciding which side an evaluation goes to.",
            buckets=_SELECTIONS,
            registry=self.registry,
        )

    def selected(self, seconds: float) -> None:
        """A side was chosen."""
        self._selection.observe(seconds)

    def ended(self, side: Side, evaluation: Evaluation) -> None:
        """An evaluation, or its copy, ended on a side."""
        self._completed.labels(side.value, evaluation.status.value).inc()
        if evaluation.timing_ms is not None:
            self._duration.labels(side.value).observe(evaluation.timing_ms.total / 1000)
